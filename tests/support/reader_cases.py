"""The readers that the contract is tested on: a named factory for each.

To put another format under the contract, append its cases to `CASES`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import uuid
from typing import TYPE_CHECKING

from imgcat.formats.files import detect
from imgcat.formats.opening import open_image
from imgcat.formats.partimage import reader as partimage
from imgcat.formats.passes.scan import scan_files
from imgcat.formats.sources.file import FileSource
from imgcat.formats.sources.joined import JoinedSource

from . import composed_cases, ntfsclone_writer, partimage_writer, samples, vhd_writer
from .memory_source import MemorySource
from .opening import open_scanned, scan_and_open
from .partclone_writer import Recipe, write
from .reader_case import ReaderCase, Subject
from .virtual_disks import changes, guest_of, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


def _partimage_recipes() -> Iterator[tuple[str, partimage_writer.Recipe]]:
    patchy = _patchy(500)
    plain = partimage_writer.Recipe(present=patchy)
    yield "512", plain
    yield "1k", dataclasses.replace(plain, block_size=1024)
    yield (
        "4k-volumes",
        dataclasses.replace(
            plain,
            block_size=4096,
            present=patchy[:90],
            volume_sizes=(1000, 60_001, 1, 50_000, 70_000),
        ),
    )
    # Larger than what a check covers, and no divisor of it.
    yield "128k", dataclasses.replace(plain, block_size=128 << 10, present=patchy[:12])
    yield "1536", dataclasses.replace(plain, block_size=1536, tail=700)
    yield "tail", dataclasses.replace(plain, tail=511, ones_in_padding=True, bitmap_extra=999)
    yield "cut-last-block", dataclasses.replace(plain, tail=-100, present=[*patchy[:-1], True])
    yield (
        "mbr-and-extensions",
        dataclasses.replace(
            plain,
            mbr_count=2,
            extensions=(b"MAGIC-BEGIN-DATABLOCKS", b"", b"x" * 999),
            unsigned=True,
        ),
    )
    yield "none-present", dataclasses.replace(plain, present=[False] * 9)
    yield "no-tail", dataclasses.replace(plain, with_tail=False)


def _partimage_from_memory(recipe: partimage_writer.Recipe, _directory: Path) -> Subject:
    written = partimage_writer.write(recipe)
    source = JoinedSource([MemorySource(volume) for volume in written.volumes], 512)
    scan = partimage.scan(source)
    reader = open_scanned(source, scan)
    return Subject(reader, scan.info, source, written.guest, None, never_waits=True)


def _partimage_from_files(recipe: partimage_writer.Recipe, directory: Path) -> Subject:
    written = partimage_writer.write(recipe)
    for number, volume in enumerate(written.volumes):
        (directory / f"image.{number:03}").write_bytes(volume)
    stored = detect.open_files(str(directory / "image.000"))
    scan = scan_files(stored)
    reader = open_scanned(stored.source, scan)
    return Subject(reader, scan.info, stored.source, written.guest, None, never_waits=False)


def _partimage_cases() -> Iterator[ReaderCase]:
    for name, recipe in _partimage_recipes():
        opener = functools.partial(_partimage_from_memory, recipe)
        yield ReaderCase(f"partimage-{name}", opener)
        opener = functools.partial(_partimage_from_files, recipe)
        yield ReaderCase(f"partimage-{name}-file", opener)


def _virtual_disks() -> Iterator[tuple[str, str, list[str]]]:
    """Yield a name, QEMU's name of the format, and how the image is made."""
    yield "qcow2", "qcow2", ["-o", "cluster_size=4k"]
    yield "qcow2-v2", "qcow2", ["-o", "compat=0.10"]
    yield "qcow2-zlib", "qcow2", ["-c", "-o", "cluster_size=64k"]
    yield "qcow2-zstd", "qcow2", ["-c", "-o", "compression_type=zstd,cluster_size=512"]
    yield "qcow2-extended", "qcow2", ["-o", "extended_l2=on,cluster_size=64k"]
    yield "vhd-dynamic", "vpc", ["-o", "subformat=dynamic"]
    yield "vhd-fixed", "vpc", ["-o", "subformat=fixed,force_size=on"]


def _virtual_disk(driver: str, how: list[str], in_memory: bool, directory: Path) -> Subject:
    size = 3_500_032
    raw = write_raw(directory / "raw", size, seed=1, writes=12)
    path = directory / "image"
    qemu_img("convert", "-f", "raw", "-O", "qcow2" if driver == "qcow2" else "vpc", *how, raw, path)
    qemu_io(path, driver, changes(size, seed=2, count=8))
    guest = guest_of(path, driver)
    source = MemorySource(path.read_bytes()) if in_memory else FileSource(path)
    scan, reader = scan_and_open(source)
    return Subject(reader, scan.info, source, guest, None, never_waits=in_memory)


def _virtual_disk_cases() -> Iterator[ReaderCase]:
    for name, driver, how in _virtual_disks():
        yield ReaderCase(name, functools.partial(_virtual_disk, driver, how, True))
    yield ReaderCase("qcow2-file", functools.partial(_virtual_disk, "qcow2", [], False))
    yield ReaderCase("vhd-file", functools.partial(_virtual_disk, "vpc", [], False))


def _on_others(how: str, directory: Path) -> Subject:
    """Open a disk that stands upon others: a chain, one with a data file, or a VHD difference."""
    size = 3_500_032
    raw = write_raw(directory / "base.raw", size, seed=1, writes=12)
    path = directory / "top"
    driver = "qcow2"
    if how == "data":
        file = directory / "data"
        qemu_img("create", "-f", driver, "-o", f"data_file={file},data_file_raw=off", path, size)
    elif how == "vhd":
        driver = "vpc"
        base = directory / "base.vhd"
        qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, base)
        return _vhd_difference(path.with_suffix(".vhd"), base, raw.read_bytes())
    else:
        middle = directory / "middle"
        qemu_img("create", "-f", driver, "-b", "base.raw", "-F", "raw", middle)
        qemu_io(middle, driver, changes(size, seed=3, count=8))
        how = "cluster_size=4k"
        qemu_img("create", "-f", driver, "-b", "middle", "-F", driver, "-o", how, path, size + 9216)
    qemu_io(path, driver, changes(size, seed=2, count=8))
    return _opened(path, guest_of(path, driver))


def _vhd_difference(path: Path, base: Path, below: bytes) -> Subject:
    rng = random.Random(5)
    guest = bytearray(below)
    sectors = {rng.randrange(len(below) // 512): rng.randbytes(512) for _ in range(300)}
    for number, data in sectors.items():
        guest[number * 512 : number * 512 + 512] = data
    parent = uuid.UUID(bytes=base.read_bytes()[-512:][68:84])
    disk = vhd_writer.Difference(len(below), uuid.uuid4(), parent, base.name, sectors)
    path.write_bytes(vhd_writer.write_difference(disk))
    return _opened(path, bytes(guest))


def _opened(path: Path, guest: bytes) -> Subject:
    image = open_image(path)
    extents = image.extents()
    # What an image says of itself is without what it stands upon.
    used = sum(extent.length for extent in extents if extent.is_stored)
    info = dataclasses.replace(image.info, used_bytes=used)
    source = detect.open_files(str(path)).source
    return Subject(image.reader, info, source, guest, None, never_waits=False)


def _cases_on_others() -> Iterator[ReaderCase]:
    for how in ("chain", "data", "vhd"):
        yield ReaderCase(f"on-others-{how}", functools.partial(_on_others, how))


_ON_DISK = {"xxh128-k3", "none", "tail", "no-bitmap", "0001", "0001-wide", "one-byte-blocks"}
"""The recipes that are also read from a file, where a read goes through the operating system."""


def _ntfsclone_from_memory(recipe: ntfsclone_writer.Recipe, _directory: Path) -> Subject:
    written = ntfsclone_writer.write(recipe)
    source = MemorySource(written.image)
    scan, reader = scan_and_open(source)
    return Subject(reader, scan.info, source, written.guest, None, never_waits=True)


def _ntfsclone_from_file(recipe: ntfsclone_writer.Recipe, directory: Path) -> Subject:
    written = ntfsclone_writer.write(recipe)
    path = directory / "image.ntfs"
    path.write_bytes(written.image)
    source = FileSource(path)
    scan, reader = scan_and_open(source)
    return Subject(reader, scan.info, source, written.guest, None, never_waits=False)


def _ntfsclone_recipes() -> Iterator[tuple[str, ntfsclone_writer.Recipe]]:
    def numbers(count: int, seed: int) -> list[int]:
        return [0, *(n for n, used in enumerate(_patchy(count, seed)) if used and n)]

    plain = ntfsclone_writer.Recipe(order=numbers(301, 1), cluster_count=301)
    yield "512", plain
    few = dataclasses.replace(plain, order=numbers(90, 2), cluster_count=90)
    yield "4k", dataclasses.replace(few, cluster_size=4096, tail=1024)
    yield "64k", dataclasses.replace(few, cluster_size=65536, tail=34816)
    yield "exact-fit", dataclasses.replace(plain, tail=0)
    yield "larger-device", dataclasses.replace(plain, tail=5 * 512 + 100)
    yield "10.0", dataclasses.replace(plain, minor=0)
    yield "10.0-ends-in-gap", dataclasses.replace(plain, minor=0, order=[0, 1, 5], tail=0)
    yield "3.1", dataclasses.replace(plain, major=3)
    yield "far-data", dataclasses.replace(plain, data_offset=10_000, trailing=b"trailing")
    full = dataclasses.replace(plain, order=range(301))
    yield "all-stored", full
    yield "all-stored-4k", dataclasses.replace(full, cluster_size=4096, tail=512)
    # As metadata are saved: by inode, back and forth, some of it twice.
    rng = random.Random(3)
    back_and_forth = [rng.randrange(301) for _ in range(250)]
    yield "metadata", dataclasses.replace(plain, order=[9, 10, 3, *back_and_forth], used=254)
    starts = [rng.randrange(270) for _ in range(60)]
    runs = [n for start in starts for n in range(start, start + rng.randrange(1, 30))]
    yield "overlapping-runs-4k", dataclasses.replace(plain, order=[7, *runs], cluster_size=4096)
    # More clusters than two windows of the index hold, in runs that cross their borders.
    many = [n for n in range(40_000) if n // 700 % 3 != 1]
    yield (
        "three-windows",
        dataclasses.replace(plain, order=many, cluster_count=40_000, cluster_size=256),
    )


_NTFSCLONE_ON_DISK = {"512", "4k", "64k", "metadata", "3.1", "three-windows"}


def _ntfsclone_cases() -> Iterator[ReaderCase]:
    for name, recipe in _ntfsclone_recipes():
        opener = functools.partial(_ntfsclone_from_memory, recipe)
        yield ReaderCase(f"ntfsclone-{name}", opener)
        if name in _NTFSCLONE_ON_DISK:
            opener = functools.partial(_ntfsclone_from_file, recipe)
            yield ReaderCase(f"ntfsclone-{name}-file", opener)


def _cases() -> Iterator[ReaderCase]:
    for name in samples.names():
        yield ReaderCase(f"partclone-sample-{name}", functools.partial(_from_sample, name))
    for name, recipe in _recipes():
        yield ReaderCase(f"partclone-{name}", functools.partial(_from_memory, recipe))
        if name in _ON_DISK:
            yield ReaderCase(f"partclone-{name}-file", functools.partial(_from_file, recipe))
    yield from _ntfsclone_cases()
    yield from _partimage_cases()
    yield from _virtual_disk_cases()
    yield from _cases_on_others()
    yield from composed_cases.cases()


CASES = list(_cases())
