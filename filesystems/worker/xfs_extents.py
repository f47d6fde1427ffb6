"""Where the blocks of a fork lie: extents in the inode, or in a tree below it.

Source: fs/xfs/libxfs/xfs_format.h, xfs_bmap_btree.c and xfs_bmap.c of Linux.
"""

from __future__ import annotations

import bisect
import struct
from typing import TYPE_CHECKING

from ..errors import DamagedError, RefusedError
from .driver import MOST_RUNS
from .xfs_geometry import Seal
from .xfs_inode import BTREE, EXTENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .source import VolumeSource
    from .xfs_geometry import Geometry
    from .xfs_inode import Fork, Inode

Piece = tuple[int, int, int]
"""First block in the fork, how many, and their place in bytes: -1 for what was never written."""

_RECORD = struct.Struct(">QQ")
_MAGIC, _MAGIC_5 = b"BMAP", b"BMA3"
_HEADER, _HEADER_5 = 24, 72
_SEAL = Seal(checksum=64, place=24, uuid=40, owner=56)
_MOST_LEVELS = 12
"""More than a tree of `MOST_RUNS` extents in the smallest blocks has."""


class Extents:
    """The maps of a volume that lead from blocks of forks to places in it.

    Args:
        source: the volume.
        geometry: its superblock.
    """

    def __init__(self, source: VolumeSource, geometry: Geometry) -> None:
        self._source = source
        self._geometry = geometry

    def of(self, inode: Inode, fork: Fork) -> list[Piece]:
        """Return what a fork has, ascending; holes are what lies between.

        Raises:
            DamagedError: its map leads nowhere, or in a circle, or is another than it says.
            RefusedError: it has too many.
        """
        if fork.extents > MOST_RUNS:
            raise RefusedError(inode.name, 0, f"it has {fork.extents} extents")
        if fork.format == EXTENTS:
            if fork.extents * _RECORD.size > len(fork.data):
                raise DamagedError(inode.name, 0, f"{fork.extents} extents are not in the inode")
            leaves: Iterator[bytes] = iter([fork.data[: fork.extents * _RECORD.size]])
        elif fork.format == BTREE:
            leaves = self._leaves(inode, fork.data)
        else:
            raise DamagedError(inode.name, 0, f"its blocks are told in the format {fork.format}")
        found: list[Piece] = []
        behind = 0
        for leaf in leaves:
            for first, second in _RECORD.iter_unpack(leaf):
                # A bit, 54 bits of block in the fork, 52 of block in the volume, 21 of their count.
                start = first >> 9 & (1 << 54) - 1
                block = (first & 0x1FF) << 43 | second >> 21
                count = second & (1 << 21) - 1
                if start < behind or not count or len(found) >= fork.extents:
                    raise DamagedError(inode.name, 0, "its extents overlap, or are too many")
                place = self._geometry.place(block, count, inode.name)
                found.append((start, count, -1 if first >> 63 else place))
                behind = start + count
        if len(found) != fork.extents:
            raise DamagedError(
                inode.name, 0, f"{len(found)} of its {fork.extents} extents are there"
            )
        return found

    def _leaves(self, inode: Inode, root: bytes) -> Iterator[bytes]:
        """Yield the extents of each leaf below the root that is in an inode."""
        level, count = struct.unpack_from(">HH", root)
        most = (len(root) - 4) // 16
        if not 0 < level <= _MOST_LEVELS or not 0 < count <= most:
            raise DamagedError(inode.name, 0, "the root of its extent tree is none")
        todo = [(level - 1, each) for each in _pointers(root, 4, count, most)]
        seen: set[int] = set()
        while todo:
            level, block = todo.pop()
            if block in seen:
                raise DamagedError(inode.name, 0, "its extent tree is no tree")
            seen.add(block)
            data, count = self._node(inode, block, level)
            start = self._header
            if not level:
                yield data[start : start + count * _RECORD.size]
                continue
            most = (len(data) - start) // 16
            todo += [(level - 1, each) for each in _pointers(data, start, count, most)]

    @property
    def _header(self) -> int:
        return _HEADER_5 if self._geometry.is_5 else _HEADER

    def _node(self, inode: Inode, block: int, level: int) -> tuple[bytes, int]:
        """Return a block of a tree, and how many extents or pointers it has."""
        size = self._geometry.block_size
        place = self._geometry.place(block, 1, inode.name)
        data = self._source.read(place, size)
        here, count = struct.unpack_from(">HH", data, 4)
        magic = _MAGIC_5 if self._geometry.is_5 else _MAGIC
        if data[:4] != magic or here != level or not 0 < count <= (size - self._header) // 16:
            raise DamagedError(inode.name, place, "a node of its extent tree is none")
        if self._geometry.is_5:
            self._geometry.check(data, _SEAL, place, inode.number, f"{inode.name}: extent tree")
        return data, count


def _pointers(data: bytes, start: int, count: int, most: int) -> list[int]:
    """Return the blocks below a node, last first: they stand behind room for `most` keys."""
    return [*struct.unpack_from(f">{count}Q", data, start + most * 8)][::-1]


class Blocks:
    """A fork's blocks, by their numbers in it.

    Args:
        source: the volume.
        geometry: its superblock.
        inode: whose fork it is.
        pieces: what it has.

    Raises:
        DamagedError: it has more blocks than the volume.
    """

    def __init__(
        self, source: VolumeSource, geometry: Geometry, inode: Inode, pieces: Sequence[Piece]
    ) -> None:
        if sum(count for _start, count, _place in pieces) > geometry.blocks:
            raise DamagedError(inode.name, 0, "it has more blocks than the volume")
        self._source = source
        self._size = geometry.block_size
        self._starts = [start for start, _count, _place in pieces]
        self.inode = inode
        self.pieces = pieces

    def read(self, first: int, count: int) -> tuple[bytes, int]:
        """Return `count` blocks from `first` on, and where the first of them lies, in bytes.

        Raises:
            DamagedError: some are not there.
        """
        found: list[bytes] = []
        place = -1
        while count:
            number = bisect.bisect_right(self._starts, first) - 1
            start, length, at = self.pieces[number] if number >= 0 else (0, 0, -1)
            if first >= start + length or at < 0:
                raise DamagedError(self.inode.name, 0, f"its block {first} is not there")
            here = min(count, start + length - first)
            at += (first - start) * self._size
            found.append(self._source.read(at, here * self._size))
            place = at if place < 0 else place
            first, count = first + here, count - here
        return b"".join(found), place
