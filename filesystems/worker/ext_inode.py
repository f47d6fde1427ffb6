"""Inodes of ext, and where they say that their bytes are.

Source: fs/ext4/ext4.h, ext4_extents.h and indirect.c of Linux.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError
from .driver import Runs
from .wire import ZEROS

if TYPE_CHECKING:
    from .ext_checksums import ExtChecksums
    from .source import VolumeSource

EXTENTS_FLAG = 0x80000

_EXTENT_MAGIC = 0xF30A
_MOST_DEPTH = 5
_LONGEST_EXTENT = 32768
_DIRECT = 12

_LAST_BLOCK = 1 << 32
"""No file has blocks from here on."""

_HEAD = struct.Struct("<H2xI24xI72xI")
_TYPE, _LARGE = 0o170000, frozenset({stat.S_IFREG, stat.S_IFDIR})

_UNWRITTEN = -1
_TORN = "entries of its extent tree contradict each other"

_Entry = tuple[int, int, int]
"""Of a leaf: first block in the file, how many, and where in the volume, or `_UNWRITTEN`. Of
another node: first block below it, 1, and the block of the node below."""


class Inode:
    """An inode, whole.

    Attributes:
        number: its number.
        data: its bytes, as long as the file system's inodes are.
        mode: type and permissions.
        size: bytes of the file.
        flags: what it is beside that.
        block: the 60 bytes that lead to its data, or are them.
    """

    __slots__ = ("block", "data", "flags", "mode", "number", "size")

    def __init__(self, number: int, data: memoryview) -> None:
        self.number = number
        self.data = data
        self.mode, low, self.flags, high = _HEAD.unpack_from(data)
        # For others than files and directories these bytes were something else once.
        self.size = low | high << 32 if high and self.mode & _TYPE in _LARGE else low
        self.block = data[40:100]

    @property
    def kind(self) -> int:
        """The type that the mode has."""
        return stat.S_IFMT(self.mode)


class BlockMaps:
    """The maps of a volume that lead from blocks of files to blocks of it.

    Args:
        source: the volume.
        block_size: bytes in a block.
        first_block: the block of the superblock; no file has it.
        blocks: how many there are.
        checksums: what checks the nodes of extent trees.
    """

    def __init__(
        self,
        source: VolumeSource,
        block_size: int,
        first_block: int,
        blocks: int,
        checksums: ExtChecksums,
    ) -> None:
        self._source = source
        self._size = block_size
        self._first_block = first_block
        self._blocks = blocks
        self._checksums = checksums

    def runs(self, inode: Inode) -> Runs:
        """Return where a file's bytes are, in whole blocks, at least up to its size.

        A part of the map that cannot be read, or cannot be true, loses the bytes that it maps.

        Raises:
            DamagedError: the beginning of its map is none.
        """
        found = Runs()
        if inode.flags & EXTENTS_FLAG:
            node = _node(inode, bytes(inode.block), None)
            self._below(inode, found, node, range(_LAST_BLOCK), set())
        else:
            self._pointers(inode, found)
        found.add(inode.size, ZEROS)
        return found

    def _is_inside(self, block: int, count: int = 1) -> bool:
        return self._first_block < block and block + count <= self._blocks

    # -- extents -------------------------------------------------------------

    def _below(
        self, inode: Inode, found: Runs, node: _Node, covered: range, seen: set[int]
    ) -> None:
        """Add what a node has of the blocks of a file that are its own."""
        size = self._size
        kept, is_torn_behind = node.orderly(covered)
        for number, ((first, count, block), is_torn) in enumerate(kept):
            if is_torn:
                found.lose(first * size, _TORN)
            else:
                found.add(first * size, ZEROS)
            if node.depth:
                behind = kept[number + 1][0][0] if number + 1 < len(kept) else covered.stop
                self._child(inode, found, block, node.depth, range(first, behind), seen)
            elif block == _UNWRITTEN:
                # Allocated, but never written: the old bytes there are nobody's business.
                found.add((first + count) * size, ZEROS)
            elif self._is_inside(block, count):
                found.add((first + count) * size, block * size)
            else:
                found.lose((first + count) * size, self._outside(block, count))
        if is_torn_behind:
            self._lose(inode, found, covered.stop, _TORN)

    def _child(
        self, inode: Inode, found: Runs, block: int, depth: int, covered: range, seen: set[int]
    ) -> None:
        if block in seen:
            self._lose(inode, found, covered.stop, f"block {block} is twice in its extent tree")
            return
        if not self._is_inside(block):
            self._lose(inode, found, covered.stop, self._outside(block, 1))
            return
        seen.add(block)
        try:
            data = self._source.read(block * self._size, self._size)
            self._checksums.check_extents(inode, data, block * self._size)
            node = _node(inode, data, depth - 1)
        except DamagedError as error:
            self._lose(inode, found, covered.stop, f"block {block} of its extent tree: {error}")
            return
        self._below(inode, found, node, covered, seen)

    def _lose(self, inode: Inode, found: Runs, stop: int, why: str) -> None:
        """Lose the blocks up to `stop`, as far as the file goes."""
        found.lose(min(stop, -(-inode.size // self._size)) * self._size, why)

    def _outside(self, block: int, count: int) -> str:
        return f"blocks [{block}, {block + count}) are not all of the volume's {self._blocks}"

    # -- pointers ------------------------------------------------------------

    def _pointers(self, inode: Inode, found: Runs) -> None:
        """Add what a file has by a map of blocks, as ext2 and ext3 have it."""
        seen: set[int] = set()
        position = 0
        for number, pointer in enumerate(struct.unpack("<15I", inode.block)):
            depth = max(0, number - _DIRECT + 1)
            self._pointed(inode, found, pointer, depth, position, seen)
            position += (self._size // 4) ** depth

    def _pointed(
        self, inode: Inode, found: Runs, pointer: int, depth: int, position: int, seen: set[int]
    ) -> None:
        """Add what is below a pointer; `position` is the first block of the file there."""
        total = -(-inode.size // self._size)
        if position >= total:
            return
        below = (self._size // 4) ** depth
        if not pointer:
            found.add(min(position + below, total) * self._size, ZEROS)
        elif not self._is_inside(pointer):
            self._lose(inode, found, position + below, self._outside(pointer, 1))
        elif not depth:
            found.add((position + 1) * self._size, pointer * self._size)
        elif pointer in seen:
            self._lose(inode, found, position + below, f"block {pointer} is twice in its map")
        else:
            seen.add(pointer)
            try:
                data = self._source.read(pointer * self._size, self._size)
            except DamagedError as error:
                self._lose(inode, found, position + below, f"block {pointer} of its map: {error}")
                return
            step = (self._size // 4) ** (depth - 1)
            for number, each in enumerate(struct.unpack(f"<{self._size // 4}I", data)):
                self._pointed(inode, found, each, depth - 1, position + number * step, seen)


class _Node(NamedTuple):
    """A node of an extent tree.

    Attributes:
        depth: levels below it; 0 of a leaf.
        entries: what it has.
        is_root: whether it is in the inode.
    """

    depth: int
    entries: list[_Entry]
    is_root: bool

    def orderly(self, covered: range) -> tuple[list[tuple[_Entry, bool]], bool]:
        """Return the entries that contradict none, each with whether any did before it.

        Where two do, nothing tells which of them is wrong: neither is kept, and what lies between
        their neighbours is not known.

        Args:
            covered: the blocks of the file that are the node's own.

        Returns:
            The entries; and whether there was a contradiction behind the last.
        """
        kept: list[tuple[_Entry, bool]] = []
        is_torn = False
        for number, entry in enumerate(self.entries):
            first, count, _block = entry
            # The kernel's ext4_valid_extent_entries has the same rule.
            is_off = not self.is_root and not number and first != covered.start
            if is_off or not count or first < covered.start or first + count > covered.stop:
                is_torn = True
            elif kept and first < sum(kept[-1][0][:2]):
                kept.pop()
                is_torn = True
            else:
                kept.append((entry, is_torn))
                is_torn = False
        return kept, is_torn


def _node(inode: Inode, data: bytes, depth: int | None) -> _Node:
    """Return a node of an extent tree.

    Args:
        inode: the file.
        data: the node.
        depth: levels that must be below it; None of the root.

    Raises:
        DamagedError: it is none.
    """
    magic, count, most, here = struct.unpack_from("<HHHH", data)
    is_right = magic == _EXTENT_MAGIC and count <= most <= (len(data) - 12) // 12
    is_empty = not count and (here or depth is not None)
    if not is_right or is_empty or here > _MOST_DEPTH or (depth is not None and here != depth):
        raise DamagedError(f"ext.inode {inode.number}", 0, "a node of its extent tree is none")
    entries: list[_Entry] = []
    for position in range(12, 12 + count * 12, 12):
        if here:
            first, low, high = struct.unpack_from("<IIH", data, position)
            entries.append((first, 1, high << 32 | low))
            continue
        first, length, high, low = struct.unpack_from("<IHHI", data, position)
        if length > _LONGEST_EXTENT:
            entries.append((first, length - _LONGEST_EXTENT, _UNWRITTEN))
        else:
            entries.append((first, length, high << 32 | low))
    return _Node(here, entries, depth is None)
