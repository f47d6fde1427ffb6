"""Which file system a volume holds: each kind asked, the most telling first."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from . import btrfs, ext, f2fs, fat, hfsplus, iso9660, ntfs, others, xfs

if TYPE_CHECKING:
    from .file_system import FileSystem, Read

_HEAD = 68 << 10
"""Bytes from the beginning that tell of every kind what it is."""

LARGEST = (1 << 63) - 1
"""No number of bytes that is stored is larger."""


def find_file_system(read: Read, size: int) -> FileSystem | None:
    """Return the file system that a volume holds, None where none is known.

    One read, and a few more where a journal tells in which state it was left. Any bytes are fine.

    Args:
        read: reads the volume, by offset and length; fewer bytes at its end.
        size: bytes of the volume.

    Raises:
        Whatever `read` raises.
    """
    head = read(0, min(size, _HEAD))

    def within(offset: int, length: int) -> bytes:
        return read(offset, min(length, size - offset)) if 0 <= offset < size else b""

    try:
        found = _first_of(head, within, size)
    except struct.error:
        # A length that was not checked: what cannot be is none.
        return None
    if found is None or max(found.size or 0, found.block_size or 0) > LARGEST:
        return None
    return found


def _first_of(head: bytes, read: Read, size: int) -> FileSystem | None:
    return (
        others.parse_first(head)
        or ntfs.parse(head[:512], read, size)
        or fat.parse_exfat(head[:512], read)
        or xfs.parse(head[:512], read, size)
        or ext.parse(head[ext.OFFSET : ext.OFFSET + 1024])
        or btrfs.parse(head[btrfs.OFFSET :])
        or f2fs.parse(head[f2fs.OFFSET : f2fs.OFFSET + 2048], read, size)
        or hfsplus.parse(head[hfsplus.OFFSET : hfsplus.OFFSET + 512], read)
        or others.parse_others(head)
        or iso9660.parse(read)
        or fat.parse(head[:512], read)
    )
