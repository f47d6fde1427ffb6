"""Images for attacks: written quickly, of many chunks, and changed in place."""

from __future__ import annotations

import os
import random
import zlib
from typing import TYPE_CHECKING

from support.partclone_writer import Recipe, Written, header_v2, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BLOCK = 4096
"""A block is a page, so that what is read of one block touches no other."""


def solid(fill: bytes, block_count: int = 512) -> bytes:
    """Return an image whose every byte is `fill`, of which every block is stored."""
    return write(
        Recipe(
            present=[True] * block_count,
            block_size=BLOCK,
            checksum="XXH64",
            blocks_per_checksum=64,
            guest=fill * (BLOCK * block_count),
        )
    ).image


def patchy(seed: int, block_count: int = 256, **fields: object) -> Written:
    """Return an image with random holes whose every 16 bytes tell where they belong."""
    generator = random.Random(seed)
    recipe: dict[str, object] = {
        "present": [generator.random() < 0.6 for _ in range(block_count)],
        "block_size": BLOCK,
        "checksum": "XXH64",
        "blocks_per_checksum": 7,
    }
    return write(Recipe(**(recipe | fields)))  # type: ignore[arg-type]


def scattered(blocks: Mapping[int, bytes], total_blocks: int) -> bytes:
    """Return an image of any number of blocks of which only these few are stored."""
    size = len(next(iter(blocks.values())))
    bitmap = bytearray((total_blocks + 7) // 8)
    for number in blocks:
        bitmap[number // 8] |= 1 << (number % 8)
    header = header_v2(
        device_size=total_blocks * size,
        total_blocks=total_blocks,
        used_bitmap=len(blocks),
        block_size=size,
        checksum="NONE",
        blocks_per_checksum=0,
    )
    crc = zlib.crc32(bitmap) ^ 0xFFFFFFFF
    return b"".join(
        [header, bitmap, crc.to_bytes(4, "little"), *(blocks[n] for n in sorted(blocks))]
    )


def overwrite(path: Path, data: bytes) -> None:
    """Write other bytes into the same file, as ``cp`` does: it keeps its inode."""
    before = path.stat()
    with path.open("wb") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert path.stat().st_ino == before.st_ino


def replace(path: Path, data: bytes) -> None:
    """Put another file in the place of this one, as careful programs do: it gets a new inode."""
    other = path.with_name(f"{path.name}.new")
    other.write_bytes(data)
    other.rename(path)


def flip(data: bytes, *offsets: int) -> bytes:
    """Return `data` with a bit of each of these bytes changed."""
    out = bytearray(data)
    for offset in offsets:
        out[offset] ^= 0x10
    return bytes(out)
