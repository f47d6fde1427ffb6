"""XFS for tests: made by mkfs.xfs, and changed where no tool changes it."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from imgcat.filesystems.worker.crc32c import crc32c

from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 320 * MIB
"""mkfs.xfs makes none that are much smaller."""

VERSION, FEATURES_2, RO_COMPAT, INCOMPAT, LOG_INCOMPAT = 100, 200, 212, 216, 220
"""Where words of features are in the superblock."""


def make(raw: Path, options: str, *more: object, size: int = SIZE) -> Path:
    """Make an XFS in a file, which is sparse."""
    raw.touch()
    os.truncate(raw, size)
    quiet("mkfs.xfs", "-q", "-f", *options.split(), *more, raw)
    return raw


def seal(image: bytearray, place: int, length: int, at: int) -> None:
    """Store the checksum of a block that was changed.

    Args:
        image: the volume.
        place: where the block lies.
        length: its bytes.
        at: where in it its checksum is.
    """
    image[place + at : place + at + 4] = bytes(4)
    found = crc32c(0xFFFFFFFF, bytes(image[place : place + length])) ^ 0xFFFFFFFF
    struct.pack_into("<I", image, place + at, found)


def set_bits(raw: Path, word: int, bits: int, *, without: int = 0) -> None:
    """Set bits in a word of features, and take others from it, in the first superblock."""
    with raw.open("r+b") as opened:
        image = bytearray(opened.read(512))
        kind = ">H" if word == VERSION else ">I"
        (before,) = struct.unpack_from(kind, image, word)
        struct.pack_into(kind, image, word, (before | bits) & ~without)
        if image[101] & 0xF == 5:
            seal(image, 0, 512, 224)
        opened.seek(0)
        opened.write(image)


def asked(raw: Path, *commands: str, write: bool = False) -> str:
    """Return what xfs_db says."""
    words = [word for command in commands for word in ("-c", command)]
    return quiet("xfs_db", "-x" if write else "-r", *words, raw)
