"""What is only recognised: encrypted volumes, members of arrays, swap, and other file systems."""

from __future__ import annotations

import struct

from . import lvm
from .file_system import FileSystem, Journal, label_of, uuid_of

_PAGES = (4096, 8192, 16384, 65536)
_SECTOR = 512
_RAID = 0xA92B4EFC
_LUKS = b"LUKS\xba\xbe"
_BY_MAGIC = (
    ("squashfs", 0, (b"hsqs",), Journal.NONE),
    ("reiserfs", 65536 + 52, (b"ReIsErFs", b"ReIsEr2Fs", b"ReIsEr3Fs"), Journal.UNKNOWN),
    ("jfs", 32768, (b"JFS1",), Journal.UNKNOWN),
)


def parse_first(data: bytes) -> FileSystem | None:
    """Return what stands over a whole volume, so that what else lies in it counts no more.

    Args:
        data: the first bytes of the volume.
    """
    if data[:6] == _LUKS and len(data) >= _SECTOR:
        version = int.from_bytes(data[6:8], "big")
        label = label_of(data[24:72]) if version == 2 else None  # noqa: PLR2004
        return FileSystem(
            "crypto_LUKS", uuid=label_of(data[168:208], "ascii"), label=label,
            detail={"version": version},
        )  # fmt: skip
    if data[3:11] == b"-FVE-FS-":
        return FileSystem("BitLocker")
    if (member := lvm.parse(data)) is not None:
        return member
    for offset in (0, 4096):
        raid = _raid(data[offset : offset + 256])
        if raid is not None:
            return raid
    return None


def parse_others(data: bytes) -> FileSystem | None:
    """Return what else is recognised.

    Args:
        data: the first 68 KiB of the volume, or all of it.
    """
    for page in _PAGES:
        if data[page - 10 : page] == b"SWAPSPACE2":
            return FileSystem(
                "swap", uuid=uuid_of(data[1036:1052]), label=label_of(data[1052:1068]),
                block_size=page,
            )  # fmt: skip
    if data[32:36] == b"NXSB":
        (block_size,) = struct.unpack_from("<I", data, 36)
        return FileSystem("apfs", uuid=uuid_of(data[72:88]), block_size=block_size)
    for kind, offset, magics, journal in _BY_MAGIC:
        if data[offset : offset + 9].startswith(magics):
            return FileSystem(kind, journal=journal)
    return None


def _raid(data: bytes) -> FileSystem | None:
    if len(data) < 256 or data[:8] != struct.pack("<II", _RAID, 1):  # noqa: PLR2004
        return None
    return FileSystem("linux_raid_member", uuid=uuid_of(data[16:32]), label=label_of(data[32:64]))
