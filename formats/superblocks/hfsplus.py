"""HFS+ and HFSX, and the HFS that may be around one.

Source: Apple's technical note TN1150, hfs_format.h and vfs_journal.h of XNU; the UUID is made
as Apple and blkid do.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from .file_system import FileSystem, Journal, uuid_of

if TYPE_CHECKING:
    from .file_system import Read

OFFSET = 1024
_SIZE = 512
_EPOCH = 2082844800
_UNMOUNTED, _INCONSISTENT, _JOURNALED = 1 << 8, 1 << 11, 1 << 13
_NAMESPACE = bytes.fromhex("b3e20f39f29211d697a400306543ecac")


_ON_ANOTHER_DEVICE, _IS_NEW = 2, 4
_JOURNAL_MAGIC, _ORDER = b"JNLx", 0x12345678


def parse(data: bytes, read: Read) -> FileSystem | None:
    """Return what a volume header tells, None where it is none.

    Args:
        data: the bytes of the volume from `OFFSET` on.
        read: reads the volume.
    """
    if len(data) == _SIZE and data[:2] == b"BD":
        wraps = data[124:126] in {b"H+", b"HX"}
        return FileSystem("hfs", features=("embedded_hfsplus",) if wraps else ())
    if len(data) < _SIZE or data[:2] not in {b"H+", b"HX"}:
        return None
    version, attributes = struct.unpack_from(">HI", data, 2)
    (modified,) = struct.unpack_from(">I", data, 20)
    block_size, blocks = struct.unpack_from(">II", data, 40)
    if version not in {4, 5} or block_size < _SIZE or block_size & (block_size - 1):
        return None
    is_unmounted = bool(attributes & _UNMOUNTED) and not attributes & _INCONSISTENT
    journal = Journal.NONE
    if attributes & _JOURNALED:
        (block,) = struct.unpack_from(">I", data, 12)
        journal = _journal(read, block * block_size) if is_unmounted else Journal.REPLAY
    return FileSystem(
        type="hfsplus",
        uuid=_uuid(data[104:112]),
        block_size=block_size,
        size=blocks * block_size,
        features=("journaled",) if attributes & _JOURNALED else (),
        journal=journal,
        is_dirty=not is_unmounted,
        written_at=modified - _EPOCH if modified > _EPOCH else None,
        detail={"attributes": attributes, "version": version},
    )


def _uuid(number: bytes) -> str | None:
    if not any(number):
        return None
    digest = bytearray(hashlib.md5(_NAMESPACE + number, usedforsecurity=False).digest())
    digest[6] = 0x30 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    return uuid_of(bytes(digest))


def _journal(read: Read, offset: int) -> Journal:
    """Return whether the journal of a volume that was unmounted is empty, as it should be."""
    info = read(offset, 52)
    if len(info) < 52:  # noqa: PLR2004
        return Journal.UNKNOWN
    (flags,) = struct.unpack_from(">I", info)
    if flags & _ON_ANOTHER_DEVICE:
        return Journal.UNKNOWN
    if flags & _IS_NEW:
        return Journal.CLEAN
    (place,) = struct.unpack_from(">Q", info, 36)
    head = read(place, 24)
    for order in "<>":
        if len(head) == 24:  # noqa: PLR2004
            magic, mark, start, end = struct.unpack(f"{order}IIQQ", head)
            if magic == int.from_bytes(_JOURNAL_MAGIC, "big") and mark == _ORDER:
                return Journal.CLEAN if start == end else Journal.REPLAY
    return Journal.UNKNOWN
