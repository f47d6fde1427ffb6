"""The images that are measured: made by the real tools, or, too large for them, by the layout."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

import imgcat
import numpy as np
from imgcat.formats import registry
from imgcat.formats.sources.file import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from imgcat.formats.reader import ImageReader
    from workshop import Workshop

MIB = 1 << 20
BLOCK_SIZE = 4096

_HEADER_SIZE = 110
_CHECKSUM_SIZE = 4
_BLOCKS_PER_CHECKSUM = 256
_CHECKSUM_NONE = "0"
_PIECE_BLOCKS = 1 << 24


def save_filled(shop: Workshop, name: str, size: int, fill: int) -> Path:
    """Make an ext4 of `size` bytes with `fill` random bytes in files, and save it."""
    content = shop.make(f"{name}.content")
    for number, start in enumerate(range(0, fill, 16 * MIB)):
        with (content / f"file{number:03d}").open("wb") as file:
            file.write(os.urandom(min(16 * MIB, fill - start)))
    return save_content(shop, name, size, content)


def save_content(
    shop: Workshop, name: str, size: int, content: Path, options: Sequence[str] = ()
) -> Path:
    """Make an ext4 of `size` bytes of what a directory holds, save it, remove the directory."""
    raw = shop.directory / f"{name}.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    shop.run("mkfs.ext4", "-q", "-F", "-b", BLOCK_SIZE, "-d", content, raw)
    image = shop.directory / f"{name}.img"
    _save(shop, raw, image, *options)
    shop.run("rm", "-r", raw, content)
    return image


def save_copies(shop: Workshop, name: str, count: int, size: int) -> list[Path]:
    """Save a file system of `size` bytes and make `count` images of it, each with an own mark.

    The mark is in the boot sector, which ext2 leaves alone, of an image without checksums: so all
    of them are whole, and no two are the same image.
    """
    directory = shop.make(name)
    raw = shop.directory / f"{name}.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    shop.run("mkfs.ext2", "-q", "-F", "-b", BLOCK_SIZE, "-N", 16, raw)
    first = shop.directory / f"{name}.first"
    _save(shop, raw, first, "-a", _CHECKSUM_NONE)
    data = bytearray(first.read_bytes())
    source = FileSource(first)
    start = registry.scan(source).info.layout["data_offset"]
    source.close()
    paths = []
    for number in range(count):
        struct.pack_into("<Q", data, start, number + 1)
        path = directory / f"image{number:05d}.img"
        path.write_bytes(data)
        paths.append(path)
    return paths


def _save(shop: Workshop, raw: Path, image: Path, *options: str) -> None:
    log = shop.directory / "partclone.log"
    shop.run("partclone.ext4", "-c", *options, "-s", raw, "-o", image, "-L", log)


def write_sparse(path: Path, total_blocks: int) -> None:
    """Write a partclone image with a real header and bitmap; its stored blocks are a hole."""
    generator = np.random.default_rng(20261121)
    bitmap = b"".join(
        _bits_with_runs(generator, min(_PIECE_BLOCKS, total_blocks - start))
        for start in range(0, total_blocks, _PIECE_BLOCKS)
    )
    used = sum(
        int(np.bitwise_count(np.frombuffer(bitmap[start : start + MIB], np.uint8)).sum())
        for start in range(0, len(bitmap), MIB)
    )
    with path.open("wb") as file:
        file.write(_header(total_blocks, used))
        file.write(bitmap)
        file.write(struct.pack("<I", _crc(bitmap)))
        checksums = -(-used // _BLOCKS_PER_CHECKSUM) * _CHECKSUM_SIZE
        file.truncate(file.tell() + used * BLOCK_SIZE + checksums)


def _bits_with_runs(generator: np.random.Generator, count: int) -> bytes:
    """Return `count` bits in runs as file systems have them: many short, some very long."""
    pairs = count // 300 + 8
    used = generator.lognormal(np.log(200), 1.5, pairs)
    free = generator.lognormal(np.log(100), 1.5, pairs)
    lengths = np.stack([used, free], axis=1).astype(np.int64).ravel() + 1
    ends = np.minimum(np.cumsum(lengths), count)
    lengths = np.diff(ends, prepend=0)
    lengths[-1] += count - ends[-1]
    present = np.tile(np.array([1, 0], np.uint8), pairs)
    return np.packbits(np.repeat(present, lengths), bitorder="little").tobytes()


def _header(total_blocks: int, used: int) -> bytes:
    header = (
        b"partclone-image\0" + b"0.3.23".ljust(14, b"\0") + b"0002" + b"\xde\xc0"
        + b"EXTFS".ljust(16, b"\0")
        + struct.pack("<4Q", total_blocks * BLOCK_SIZE, total_blocks, used, used)
        + struct.pack("<IIHHHHIBB", BLOCK_SIZE, 18, 2, 64, 32, _CHECKSUM_SIZE,
                      _BLOCKS_PER_CHECKSUM, 1, 1)
    )  # fmt: skip
    header += struct.pack("<I", _crc(header))
    assert len(header) == _HEADER_SIZE
    return header


def _crc(data: bytes) -> int:
    return zlib.crc32(data) ^ 0xFFFFFFFF


def used_ranges(reader: ImageReader, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the maximal used ranges inside guest bytes ``[start, stop)``."""
    began = ended = -1
    for extent in reader.extents(start, stop):
        if not extent.is_stored:
            continue
        if extent.start != ended:
            if began >= 0:
                yield began, ended
            began = extent.start
        ended = extent.stop
    if began >= 0:
        yield began, ended


def used_offsets(path: Path, size: int) -> list[int]:
    """Return the guest offsets of all aligned pieces of `size` bytes that are used throughout."""
    with imgcat.open_image(path) as image:
        reader = image.reader
        return [
            offset
            for start, stop in used_ranges(reader, 0, reader.size)
            for offset in range(-(-start // size) * size, stop - size + 1, size)
        ]


def random_used_blocks(path: Path, count: int) -> list[int]:
    """Return the guest offsets of `count` used blocks, spread over an image of any size."""
    generator = np.random.default_rng(1)
    with imgcat.open_image(path) as image:
        reader = image.reader
        offsets: list[int] = []
        window = 1024 * BLOCK_SIZE
        while len(offsets) < count:
            start = int(generator.integers(reader.size // BLOCK_SIZE)) * BLOCK_SIZE
            stop = min(start + window, reader.size)
            offsets.extend(first for first, _ in list(used_ranges(reader, start, stop))[:1])
        return offsets
