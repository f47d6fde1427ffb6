"""Reparse points of NTFS: where links lead, and files that hold something else than what is stored.

Source: Microsoft's MS-FSCC, and reparse.c of ntfs-3g.
"""

from __future__ import annotations

import struct

from ..errors import RefusedError

_MOUNT_POINT, _SYMLINK, _LX_SYMLINK = 0xA0000003, 0xA000000C, 0xA000001D
LINKS = {_MOUNT_POINT, _SYMLINK, _LX_SYMLINK}
REPARSE_TAGS = {
    0x80000017: "it is compressed by Windows Overlay Filter (WOF)",
    0x80000013: "it is deduplicated: its bytes are in the chunk store",
    0x80000023: "it is a socket of WSL",
    0x80000024: "it is a fifo of WSL",
    0x80000025: "it is a character device of WSL",
    0x80000026: "it is a block device of WSL",
    0x8000001B: "it is an alias of an application",
    0xC0000004: "it was moved to slower storage (HSM)",
    0x80000006: "it was moved to slower storage (HSM2)",
}
"""Reparse points whose files hold something else than what is stored of them."""

_CLOUD = 0x9000001A
_CLOUD_MASK = 0xFFFF0FFF


def check_tag(structure: str, tag: int) -> None:
    """Check that a file with a reparse point holds what is stored of it.

    Raises:
        RefusedError: it does not, or nobody here knows.
    """
    if tag & _CLOUD_MASK == _CLOUD:
        raise RefusedError(structure, 0, "its bytes are in a cloud, not in the image")
    why = REPARSE_TAGS.get(tag, f"its reparse tag 0x{tag:08x} is not known here")
    raise RefusedError(structure, 0, f"{why}; it is not read")


def target_of(tag: int, value: bytes) -> bytes:
    """Return where a link leads, as Windows or WSL wrote it, with slashes."""
    data = value[8:]
    if tag == _LX_SYMLINK:
        return data[4:]
    if tag not in LINKS:
        return b""
    at, length = struct.unpack_from("<HH", data)
    start = 12 if tag == _SYMLINK else 8
    name = data[start + at : start + at + length]
    text = name.decode("utf-16-le", "surrogatepass").removeprefix("\\??\\")
    return text.replace("\\", "/").encode("utf-8", "surrogatepass")
