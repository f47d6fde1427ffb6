"""Extended attributes of XFS: in the inode, in leaves, in blocks of their own.

Source: fs/xfs/libxfs/xfs_da_format.h, xfs_attr_leaf.c, xfs_attr_remote.c and fs/xfs/xfs_acl.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ..errors import DamagedError, RefusedError
from .xfs_extents import Blocks
from .xfs_geometry import Seal
from .xfs_hashes import Hashes
from .xfs_inode import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .driver import Tell
    from .source import VolumeSource
    from .xfs_extents import Extents
    from .xfs_geometry import Geometry
    from .xfs_hashes import Leaf
    from .xfs_inode import Fork, Inode

Attribute = tuple[int, bytes, bytes]
"""Flags, name and value."""

_IS_LOCAL, _ROOT, _SECURE, _PARENT, _INCOMPLETE = 1, 2, 4, 8, 0x80
_PREFIXES = {0: b"user.", _ROOT: b"trusted.", _SECURE: b"security."}
_ACLS = {
    b"SGI_ACL_FILE": b"system.posix_acl_access", b"SGI_ACL_DEFAULT": b"system.posix_acl_default",
}  # fmt: skip
_NAMED = {0x02, 0x08}
"""Tags of an ACL's entries that name a user or a group."""

_LEAVES = ({0xFBEE}, {0x3BEE})
_HEADER, _HEADER_5 = 32, 80
_LOCAL_HEADER, _REMOTE_ENTRY = 3, 9
_REMOTE_MAGIC, _REMOTE_HEADER = b"XARM", 56
_SEAL = Seal(checksum=12, place=40, uuid=16, owner=32)
_LARGEST_VALUE = 64 << 10
_MOST_BYTES = 3 << 19
"""Of all attributes of a file: their hexadecimal digits must fit in a frame."""


class XfsAttributes:
    """The extended attributes of the files of one file system.

    Args:
        source: the volume.
        geometry: its superblock.
        extents: its maps.
    """

    def __init__(self, source: VolumeSource, geometry: Geometry, extents: Extents) -> None:
        self._source = source
        self._geometry = geometry
        self._extents = extents

    def all(self, inode: Inode, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return names and values as Linux has them; tells what cannot be read."""
        found: dict[bytes, bytes] = {}
        left = _MOST_BYTES
        try:
            for flags, name, value in self._stored(inode, tell):
                if flags & (_INCOMPLETE | _PARENT):
                    # What was not yet made or not yet gone, and what is the file system's own.
                    continue
                space = flags & ~_IS_LOCAL
                if space not in _PREFIXES:
                    tell(f"inode {inode.number}: an attribute of kind {space} is not known")
                    continue
                left -= len(name) + len(value) + 32
                if left < 0:
                    tell(
                        f"inode {inode.number}: attributes: {name!r} and what follows it are left"
                        f" out: they are more than {_MOST_BYTES} bytes"
                    )
                    break
                if space == _ROOT and name in _ACLS:
                    found[_ACLS[name]] = _acl(value)
                else:
                    found[_PREFIXES[space] + name] = value
        except (DamagedError, RefusedError, struct.error) as error:
            tell(f"inode {inode.number}: attributes: {error}")
        return sorted(found.items())

    def _stored(self, inode: Inode, tell: Tell) -> Iterator[Attribute]:
        fork = inode.attributes
        if fork is None or (fork.format != LOCAL and not fork.extents):
            return
        if fork.format == LOCAL:
            yield from _in_inode(inode, fork)
            return
        pieces = self._extents.of(inode, fork)
        blocks = Blocks(self._source, self._geometry, inode, pieces)
        for leaf in Hashes(self._geometry, blocks, 0, 1, _LEAVES).leaves(0):
            yield from self._in_leaf(leaf, blocks, tell)

    def _in_leaf(self, leaf: Leaf, blocks: Blocks, tell: Tell) -> Iterator[Attribute]:
        data = leaf.data
        start = _HEADER_5 if self._geometry.is_5 else _HEADER
        what = f"{blocks.inode.name}: attributes"
        if leaf.entries > (len(data) - start) // 8:
            raise DamagedError(what, leaf.place, f"{leaf.entries} of them are in one leaf")
        for position in range(start, start + leaf.entries * 8, 8):
            at, flags = struct.unpack_from(">HB", data, position + 4)
            if flags & (_INCOMPLETE | _PARENT):
                continue
            is_local = flags & _IS_LOCAL
            block = 0
            if is_local:
                length, name_length = struct.unpack_from(">HB", data, at)
            else:
                block, length, name_length = struct.unpack_from(">IIB", data, at)
            first = at + (_LOCAL_HEADER if is_local else _REMOTE_ENTRY)
            behind = first + name_length
            stop = behind + length if is_local else behind
            if not start <= at < stop <= len(data) or not name_length:
                raise DamagedError(what, leaf.place, "one of them is outside of its leaf")
            name = data[first:behind]
            try:
                value = data[behind:stop] if is_local else self._remote(blocks, block, length)
            except DamagedError as error:
                tell(f"inode {blocks.inode.number}: attribute {name!r}: {error}")
                continue
            yield flags, name, value

    def _remote(self, blocks: Blocks, block: int, length: int) -> bytes:
        """Return a value that has blocks of its own."""
        what = f"{blocks.inode.name}: value"
        if not 0 < length <= _LARGEST_VALUE:
            raise DamagedError(what, 0, f"it has {length} bytes")
        size = self._geometry.block_size
        if not self._geometry.is_5:
            return blocks.read(block, -(-length // size))[0][:length]
        value = b""
        while len(value) < length:
            data, place = blocks.read(block, 1)
            magic, offset, count = struct.unpack_from(">4sII", data)
            expected = min(length - len(value), size - _REMOTE_HEADER)
            if magic != _REMOTE_MAGIC or offset != len(value) or count != expected:
                raise DamagedError(what, place, "a block of it is none")
            self._geometry.check(data, _SEAL, place, blocks.inode.number, what)
            value += data[_REMOTE_HEADER : _REMOTE_HEADER + count]
            block += 1
        return value


def _in_inode(inode: Inode, fork: Fork) -> Iterator[Attribute]:
    (size, count) = struct.unpack_from(">HB", fork.data)
    data = fork.data[:size]
    position = 4
    for _number in range(count):
        name_length, length, flags = struct.unpack_from(">BBB", data, position)
        behind = position + 3 + name_length
        stop = behind + length
        if stop > len(data) or not name_length:
            raise DamagedError(inode.name, 0, f"some of its {count} attributes are cut off")
        yield flags, data[position + 3 : behind], data[behind:stop]
        position = stop


def _acl(stored: bytes) -> bytes:
    """Return an access control list as Linux hands it out.

    Raises:
        struct.error: it is cut off.
    """
    data = bytearray(struct.pack("<I", 2))
    (count,) = struct.unpack_from(">I", stored)
    for position in range(4, 4 + min(count, len(stored)) * 12, 12):
        tag, who, permissions = struct.unpack_from(">IIH", stored, position)
        data += struct.pack("<HHI", tag & 0xFFFF, permissions, who if tag in _NAMED else 0xFFFFFFFF)
    return bytes(data)
