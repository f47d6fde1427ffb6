"""Extended attributes of ext: in the inode, in a block of their own, in inodes of their own.

Source: fs/ext4/xattr.h, xattr.c and acl.h of Linux.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ..errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .driver import Tell
    from .ext import Ext
    from .ext_inode import Inode

_MAGIC = 0xEA020000
_HEADER = 32
_OLD_SIZE = 128
_SYSTEM, _ACCESS, _DEFAULT = 7, 2, 3
_PREFIXES = {
    1: b"user.", _ACCESS: b"system.posix_acl_access", _DEFAULT: b"system.posix_acl_default",
    4: b"trusted.", 6: b"security.", _SYSTEM: b"system.", 8: b"system.richacl", 9: b"encryption.",
}  # fmt: skip
_ENCRYPTION = 9
_INLINE = b"data"
_NAMED = {0x02, 0x08}
"""Tags of an ACL's entries that name a user or a group."""


class ExtAttributes:
    """The extended attributes of the files of one file system."""

    def __init__(self, volume: Ext) -> None:
        self._volume = volume

    def all(self, inode: Inode, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return names and values as Linux has them; tells what cannot be read."""
        found: dict[bytes, bytes] = {}
        for where in (self._in_inode, self._in_block):
            try:
                for index, name, value in where(inode):
                    if (index, name) == (_SYSTEM, _INLINE) or index == _ENCRYPTION:
                        continue
                    if index not in _PREFIXES:
                        tell(f"inode {inode.number}: an attribute of kind {index} is not known")
                        continue
                    if index in {_ACCESS, _DEFAULT}:
                        value = _acl(value)  # noqa: PLW2901
                    found.setdefault(_PREFIXES[index] + name, value)
            except (DamagedError, struct.error) as error:
                tell(f"inode {inode.number}: attributes: {error}")
        return sorted(found.items())

    def inline_rest(self, inode: Inode) -> bytes:
        """Return what a file has of its data behind the first 60 bytes; empty where nothing is."""
        for index, name, value in self._in_inode(inode):
            if (index, name) == (_SYSTEM, _INLINE):
                return value
        return b""

    def _in_inode(self, inode: Inode) -> Iterator[tuple[int, bytes, bytes]]:
        data = bytes(inode.data)
        if len(data) <= _OLD_SIZE:
            return
        (extra,) = struct.unpack_from("<H", data, _OLD_SIZE)
        start = _OLD_SIZE + extra
        if start + 8 > len(data) or int.from_bytes(data[start : start + 4], "little") != _MAGIC:
            return
        yield from self._entries(inode, data[start + 4 :], 0)

    def _in_block(self, inode: Inode) -> Iterator[tuple[int, bytes, bytes]]:
        low = int.from_bytes(inode.data[104:108], "little")
        number = low | int.from_bytes(inode.data[118:120], "little") << 32
        if not number:
            return
        block = self._volume.block(number)
        if int.from_bytes(block[:4], "little") != _MAGIC:
            raise DamagedError("ext.xattr", number * len(block), "is no block of attributes")
        self._volume.checksums.check_attributes(number, block)
        yield from self._entries(inode, block, _HEADER)

    def _entries(
        self, owner: Inode, data: bytes, position: int
    ) -> Iterator[tuple[int, bytes, bytes]]:
        while position + 16 <= len(data) and any(data[position : position + 4]):
            name_length, index, offset, inode, size, _hash = struct.unpack_from(
                "<BBHIII", data, position
            )
            name = data[position + 16 : position + 16 + name_length]
            if inode:
                value = self._volume.large_value(inode, size, owner)
            else:
                value = data[offset : offset + size]
                if len(value) != size:
                    raise DamagedError("ext.xattr", 0, f"the value of {name!r} is cut off")
            yield index, name, value
            position += (16 + name_length + 3) & ~3


def _acl(stored: bytes) -> bytes:
    """Return an access control list as Linux hands it out: each entry with a number of 32 bits."""
    data = bytearray(struct.pack("<I", 2))
    position = 4
    while position + 4 <= len(stored):
        tag, permissions = struct.unpack_from("<HH", stored, position)
        position += 4
        who = 0xFFFFFFFF
        if tag in _NAMED:
            (who,) = struct.unpack_from("<I", stored, position)
            position += 4
        data += struct.pack("<HHI", tag, permissions, who)
    return bytes(data)
