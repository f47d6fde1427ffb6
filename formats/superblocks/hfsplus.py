"""HFS+ and HFSX. Source: Apple's technical note TN1150; the UUID is made as Apple and blkid do."""

from __future__ import annotations

import hashlib
import struct

from .file_system import FileSystem, Journal, uuid_of

OFFSET = 1024
_SIZE = 512
_EPOCH = 2082844800
_UNMOUNTED, _INCONSISTENT, _JOURNALED = 1 << 8, 1 << 11, 1 << 13
_NAMESPACE = bytes.fromhex("b3e20f39f29211d697a400306543ecac")


def parse(data: bytes) -> FileSystem | None:
    """Return what a volume header tells, None where it is none.

    Args:
        data: the bytes of the volume from `OFFSET` on.
    """
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
        journal = Journal.CLEAN if is_unmounted else Journal.REPLAY
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
