"""The readers that the contract is tested on: a named factory for each.

To put another format under the contract, append its cases to `CASES`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from typing import TYPE_CHECKING

from imgcat.formats.source import FileSource

from . import samples
from .memory_source import MemorySource
from .opening import scan_and_open
from .partclone_writer import Recipe, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imgcat.formats.reader import ImageInfo, ImageReader
    from imgcat.formats.source import ByteSource


@dataclasses.dataclass(frozen=True)
class Subject:
    """An open reader, and what it must give.

    Attributes:
        reader: the reader.
        info: what the scan said of the image.
        source: the stored bytes that the reader reads.
        guest: the guest bytes, where they are known without the reader.
        guest_sha256: of the guest bytes, where they are not.
        never_waits: the source is memory, so reading without waiting must succeed once the
            index is loaded.
    """

    reader: ImageReader
    info: ImageInfo
    source: ByteSource
    guest: bytes | None
    guest_sha256: str | None
    never_waits: bool


@dataclasses.dataclass(frozen=True)
class ReaderCase:
    """A named way to open one image; `open` may write into the directory that it is given."""

    name: str
    open: Callable[[Path], Subject]


def _from_memory(recipe: Recipe, _directory: Path) -> Subject:
    written = write(recipe)
    source = MemorySource(written.image)
    scan, reader = scan_and_open(source)
    return Subject(reader, scan.info, source, written.guest, None, never_waits=True)


def _from_file(recipe: Recipe, directory: Path) -> Subject:
    written = write(recipe)
    path = directory / "image.img"
    path.write_bytes(written.image)
    source = FileSource(path)
    scan, reader = scan_and_open(source)
    return Subject(reader, scan.info, source, written.guest, None, never_waits=False)


def _from_sample(name: str, directory: Path) -> Subject:
    sample = samples.unpack_one(directory, name)
    source = FileSource(sample.path)
    scan, reader = scan_and_open(source)
    return Subject(reader, scan.info, source, None, sample.volume_sha256, never_waits=False)


def _patchy(block_count: int, seed: int = 1) -> list[bool]:
    """Return blocks of which some lie in runs, and some alone."""
    rng = random.Random(seed)
    present: list[bool] = []
    while len(present) < block_count:
        kind = rng.randrange(3)
        length = rng.randrange(1, 12)
        present += [kind == 1 or (kind == 2 and rng.random() < 0.5) for _ in range(length)]
    return present[:block_count]


def _recipes() -> Iterator[tuple[str, Recipe]]:
    patchy = _patchy(301)
    for checksum, blocks, reseed in itertools.product(
        ("CRC32", "XXH64", "XXH128"), (1, 3, 256), (True, False)
    ):
        name = f"{checksum}-k{blocks}{'' if reseed else '-noreseed'}".lower()
        yield (
            name,
            Recipe(present=patchy, checksum=checksum, blocks_per_checksum=blocks, reseed=reseed),
        )
    bare = Recipe(present=patchy, checksum="NONE", blocks_per_checksum=0)
    yield "none", bare
    yield "none-k3", dataclasses.replace(bare, blocks_per_checksum=3)
    plain = Recipe(present=patchy)
    yield "ones-in-padding", dataclasses.replace(plain, ones_in_padding=True)
    yield "32-bit", dataclasses.replace(plain, cpu_bits=32)
    yield "tail", dataclasses.replace(plain, tail=17)
    yield "tail-of-many-blocks", dataclasses.replace(plain, tail=10 * 64 + 1)
    yield "ntfs-like-tail", dataclasses.replace(plain, tail=63, present=[*patchy[:-1], True])
    full = [True] * 301
    yield "all-present", dataclasses.replace(plain, present=full)
    yield "all-present-none", dataclasses.replace(bare, present=full, tail=5)
    yield "none-present", dataclasses.replace(plain, present=[False] * 301, tail=3)
    yield "one-block", dataclasses.replace(plain, present=[True])
    yield "one-absent-block", dataclasses.replace(plain, present=[False])
    yield "no-bitmap", dataclasses.replace(plain, present=full, bitmap="NONE", tail=40)
    yield "no-bitmap-none", dataclasses.replace(bare, present=full, bitmap="NONE")
    yield "odd-block-size", dataclasses.replace(plain, block_size=7, tail=3)
    yield "one-byte-blocks", dataclasses.replace(plain, block_size=1, blocks_per_checksum=5)
    yield "4k-blocks", dataclasses.replace(plain, block_size=4096, present=patchy[:60])
    old = Recipe(present=patchy, version="0001", free_bytes=b"\0\x02\xff")
    yield "0001", old
    yield "0001-tail", dataclasses.replace(old, tail=33)
    yield "0001-small-device", dataclasses.replace(old, device_size=64)
    yield "0001-wide", dataclasses.replace(old, wide=True)
    # More blocks than a chunk of the index holds, in long runs that cross its border.
    runs = [number // 1000 % 3 != 1 for number in range((1 << 20) + 5000)]
    yield (
        "two-chunks",
        dataclasses.replace(plain, present=runs, block_size=2, blocks_per_checksum=1000),
    )


_ON_DISK = {"xxh128-k3", "none", "tail", "no-bitmap", "0001", "0001-wide", "one-byte-blocks"}
"""The recipes that are also read from a file, where a read goes through the operating system."""


def _cases() -> Iterator[ReaderCase]:
    for name in samples.names():
        yield ReaderCase(f"partclone-sample-{name}", functools.partial(_from_sample, name))
    for name, recipe in _recipes():
        yield ReaderCase(f"partclone-{name}", functools.partial(_from_memory, recipe))
        if name in _ON_DISK:
            yield ReaderCase(f"partclone-{name}-file", functools.partial(_from_file, recipe))


CASES = list(_cases())
