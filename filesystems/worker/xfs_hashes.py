"""The trees of hashes that directories and attributes of XFS share.

Source: fs/xfs/libxfs/xfs_da_format.h and xfs_da_btree.c of Linux.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError
from .xfs_geometry import Seal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .xfs_extents import Blocks
    from .xfs_geometry import Geometry

_NODES = {0xFEBE, 0x3EBE}
_HEAD, _HEAD_5 = 12, 56
_NODE_HEADER, _NODE_HEADER_5 = 16, 64
_SEAL = Seal(checksum=12, place=16, uuid=32, owner=48)
_MOST_LEVELS = 5
"""XFS_DA_NODE_MAXDEPTH."""


class Leaf(NamedTuple):
    """A block without any below it.

    Attributes:
        data: the block, whole.
        entries: how many it says it has.
        place: where it lies, in bytes.
    """

    data: bytes
    entries: int
    place: int


class Hashes:
    """A tree of hashes.

    Args:
        geometry: the file system.
        blocks: the fork that the tree is in.
        root: its first block.
        per_node: blocks of the fork that make up one of the tree.
        leaves: the magic numbers of its leaves, of version 4 and of version 5.
    """

    def __init__(
        self, geometry: Geometry, blocks: Blocks, root: int, per_node: int,
        leaves: tuple[set[int], set[int]],
    ) -> None:  # fmt: skip
        self._geometry = geometry
        self._blocks = blocks
        self._root = root
        self._per_node = per_node
        self._magics = leaves[geometry.is_5]
        self._head = _HEAD_5 if geometry.is_5 else _HEAD

    def leaves(self, wanted: int) -> Iterator[Leaf]:
        """Yield the leaves from the one on in which a hash may be.

        Raises:
            DamagedError: the tree is none.
        """
        number = self._root
        seen: set[int] = set()
        level: int | None = None
        while True:
            if number in seen:
                raise self._damaged(number, "its tree of hashes goes in a circle")
            seen.add(number)
            data, place = self._blocks.read(number, self._per_node)
            (forward,) = struct.unpack_from(">I", data)
            (magic,) = struct.unpack_from(">H", data, 8)
            is_node = magic in _NODES and (magic == max(_NODES)) != self._geometry.is_5
            if not is_node and magic not in self._magics:
                raise self._damaged(number, "a block of its tree of hashes is none")
            if self._geometry.is_5:
                owner = self._blocks.inode
                self._geometry.check(data, _SEAL, place, owner.number, f"{owner.name}: hashes")
            if is_node:
                number, level = self._below(data, number, level, wanted)
                continue
            if level:
                raise self._damaged(number, "a leaf of its tree of hashes is too high")
            level = 0
            (entries,) = struct.unpack_from(">H", data, self._head)
            yield Leaf(data, entries, place)
            if not forward:
                return
            number = forward

    def _below(self, data: bytes, number: int, above: int | None, wanted: int) -> tuple[int, int]:
        """Return the block to go on with below a node, and its level."""
        count, level = struct.unpack_from(">HH", data, self._head)
        start = _NODE_HEADER_5 if self._geometry.is_5 else _NODE_HEADER
        is_right = 0 < count <= (len(data) - start) // 8 and 0 < level <= _MOST_LEVELS
        if not is_right or (above is not None and level != above):
            raise self._damaged(number, "a node of its tree of hashes is none")
        below = 0
        for highest, below in struct.iter_unpack(">II", data[start : start + count * 8]):
            if highest >= wanted:
                return below, level - 1
        return below, level - 1

    def _damaged(self, number: int, detail: str) -> DamagedError:
        return DamagedError(self._blocks.inode.name, 0, f"{detail}: block {number} of its fork")
