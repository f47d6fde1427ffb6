"""Inodes of XFS: what they say, and their two forks.

Source: fs/xfs/libxfs/xfs_format.h and xfs_inode_buf.c of Linux.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError
from .wire import Times

if TYPE_CHECKING:
    from .xfs_geometry import Geometry

DEVICE, LOCAL, EXTENTS, BTREE = 0, 1, 2, 3
"""What a fork holds: a device's number, the bytes themselves, extents, the root of their tree."""

_CORE = struct.Struct(">2sHBBHIII4xQQQQQQ4xIHBB6xH")
_MAGIC = b"IN"
_OLD_VERSIONS, _VERSION_3 = {1, 2}, 3
_OLD_CORE, _CORE_3 = 100, 176
_REALTIME = 0x1
_BIG_TIME, _MANY_EXTENTS = 0x8, 0x10
_SECOND = 1_000_000_000
_EPOCH = (1 << 31) * _SECOND
_LARGEST = (1 << 63) - 1


class Fork(NamedTuple):
    """One of the two things that an inode holds: data, or attributes.

    Attributes:
        format: what it is.
        data: its part of the inode.
        extents: how many it has in all.
    """

    format: int
    data: bytes
    extents: int


class Inode:
    """An inode.

    Args:
        geometry: the file system.
        number: its number.
        data: its bytes, whole.
        place: where they lie.

    Raises:
        DamagedError: it is none.

    Attributes:
        number: its number.
        name: how it is called in messages.
        mode: type and permissions.
        links, uid, gid, size, times: as `stat` has them.
        blocks: blocks that are allocated for it.
        is_realtime: its data is on the realtime device.
        fork: its data.
        attributes: its attributes; None where it has none.
    """

    def __init__(self, geometry: Geometry, number: int, data: bytes, place: int) -> None:
        (
            magic, self.mode, version, kind, old_links, self.uid, self.gid, self.links, big,
            accessed, modified, changed, self.size, self.blocks, extents, attribute_extents,
            fork_at, attribute_kind, flags,
        ) = _CORE.unpack_from(data)  # fmt: skip
        self.number = number
        self.name = f"xfs.inode {number}"
        is_right = version == _VERSION_3 if geometry.is_5 else version in _OLD_VERSIONS
        if magic != _MAGIC or not is_right:
            raise DamagedError(self.name, place, "there is no inode in its place")
        flags_2 = 0
        start = _OLD_CORE
        created: int | None = None
        if geometry.is_5:
            geometry.check_inode(data, number, place)
            start = _CORE_3
            (flags_2,) = struct.unpack_from(">Q", data, 120)
            (created,) = struct.unpack_from(">Q", data, 144)
        if version == 1:
            self.links = old_links
        if flags_2 & _MANY_EXTENTS:
            extents, attribute_extents = big, extents
        behind = start + fork_at * 8 if fork_at else len(data)
        if behind > len(data) or self.size > _LARGEST:
            raise DamagedError(self.name, place, f"its sizes cannot be: {self.size} bytes")
        moment = _nanoseconds if flags_2 & _BIG_TIME else _seconds
        self.times = Times(
            moment(modified), moment(accessed), moment(changed),
            None if created is None else moment(created),
        )  # fmt: skip
        self.is_realtime = bool(flags & _REALTIME)
        self.fork = Fork(kind, data[start:behind], extents)
        self.attributes = (
            Fork(attribute_kind, data[behind:], attribute_extents) if fork_at else None
        )

    @property
    def kind(self) -> int:
        """The type that the mode has."""
        return stat.S_IFMT(self.mode)


def _nanoseconds(stored: int) -> int:
    return stored - _EPOCH


def _seconds(stored: int) -> int:
    seconds, rest = stored >> 32, stored & 0xFFFFFFFF
    return (seconds - ((seconds & 1 << 31) << 1)) * _SECOND + rest
