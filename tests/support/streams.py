"""Plain data and images of a few MiB, and what the real compressors make of them."""

from __future__ import annotations

import dataclasses
import functools
import random
import shutil
import subprocess

from . import ntfsclone_writer, packers, partclone_writer, partimage_writer

TOOLS: dict[str, tuple[str, ...]] = {
    **packers.PACKERS,
    "lz4-small": ("lz4", "-q", "-c", "-B4"),
    "lz4-checked": ("lz4", "-q", "-c", "-BX", "-B4"),
    "lz4-legacy": ("lz4", "-q", "-c", "-l"),
    "lzma-tool": ("lzma", "-1", "-c"),
}
"""Commands that compress what they are given, by name."""

CODECS = {
    **packers.CODECS,
    "lz4-small": "lz4", "lz4-checked": "lz4", "lz4-legacy": "lz4", "lzma-tool": "lzma",
}  # fmt: skip
"""What imgcat calls what each of them writes."""


@dataclasses.dataclass(frozen=True)
class PlainImage:
    """An image before it is compressed.

    Attributes:
        image: its bytes.
        guest: what it must read as.
        header_size: bytes of it that belong to no stream.
    """

    image: bytes
    guest: bytes
    header_size: int = 0


def compress(tool: str, plain: bytes) -> bytes:
    """Return what a tool makes of some data."""
    command = TOOLS[tool]
    assert shutil.which(command[0]), f"{command[0]} is missing: see tools/system-packages.sh"
    return subprocess.run(command, input=plain, stdout=subprocess.PIPE, check=True).stdout


@functools.cache
def packed(tool: str, image: str) -> bytes:
    """Return one of `IMAGES`, compressed."""
    return compress(tool, plain_image(image).image)


@functools.cache
def packed_mixed(tool: str, size: int, seed: int = 0) -> bytes:
    """Return `mixed` data, compressed."""
    return compress(tool, mixed(size, seed))


@functools.cache
def mixed(size: int, seed: int = 0) -> bytes:
    """Return text, random bytes and zeros, one after the other."""
    rng = random.Random(seed)
    words = [b"%x " % rng.randrange(1 << rng.choice((8, 16, 32))) for _ in range(3000)]
    out = bytearray()
    while len(out) < size:
        out += b"".join(rng.choices(words, k=rng.randrange(20_000, 60_000)))
        out += rng.randbytes(rng.randrange(20_000, 150_000))
        out += bytes(rng.randrange(50_000, 300_000))
    return bytes(out[:size])


IMAGES = ("partclone", "ntfsclone", "partimage")


@functools.cache
def plain_image(name: str) -> PlainImage:
    """Return one of `IMAGES`: three MiB and more, with text, zeros and random data in it."""
    return {"partclone": _partclone, "ntfsclone": _ntfsclone, "partimage": _partimage}[name]()


def _partclone() -> PlainImage:
    rng = random.Random(1)
    present = [rng.random() < 0.75 for _ in range(1024)]
    written = partclone_writer.write(
        partclone_writer.Recipe(
            present=present, block_size=4096, blocks_per_checksum=16, guest=mixed(4 << 20, 1)
        )
    )
    return PlainImage(written.image, written.guest)


def _ntfsclone() -> PlainImage:
    size = 4096
    runs = [range(number * 37, number * 37 + 29) for number in range(30)]
    written = ntfsclone_writer.write(
        ntfsclone_writer.Recipe(
            order=[each for run in runs for each in run], cluster_count=1200, cluster_size=size
        )
    )
    # In place of its patterns, what a disk holds.
    content = mixed(written.records[-1][0] * size, 2)
    image, guest = bytearray(written.image), bytearray(written.guest)
    for cluster, offset in written.records[:-1]:
        start = cluster * size
        image[offset + 1 : offset + 1 + size] = content[start : start + size]
        guest[start : start + size] = content[start : start + size]
    return PlainImage(bytes(image), bytes(guest))


def _partimage() -> PlainImage:
    rng = random.Random(3)
    written = partimage_writer.write(
        partimage_writer.Recipe(
            present=[rng.random() < 0.8 for _ in range(500)],
            block_size=4096,
            extensions=(mixed(1_500_000, 3),),
        )
    )
    (volume,) = written.volumes
    return PlainImage(volume, written.guest, 512)
