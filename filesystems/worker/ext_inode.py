"""Inodes of ext, and where they say that their bytes are.

Source: fs/ext4/ext4.h, ext4_extents.h and indirect.c of Linux.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING

from ..errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .source import VolumeSource

EXTENTS_FLAG = 0x80000

_EXTENT_MAGIC = 0xF30A
_MOST_DEPTH = 5
_LONGEST_EXTENT = 32768
_DIRECT = 12

Piece = tuple[int, int, int]
"""First block in the file, how many, and where in the volume: -1 for what was never written."""


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
        self.mode = data[0] | data[1] << 8
        low = int.from_bytes(data[4:8], "little")
        # For others than files and directories these bytes were something else once.
        is_large = stat.S_IFMT(self.mode) in {stat.S_IFREG, stat.S_IFDIR}
        self.size = low | (int.from_bytes(data[108:112], "little") << 32 if is_large else 0)
        self.flags = int.from_bytes(data[32:36], "little")
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
    """

    def __init__(
        self, source: VolumeSource, block_size: int, first_block: int, blocks: int
    ) -> None:
        self._source = source
        self._size = block_size
        self._first_block = first_block
        self._blocks = blocks

    def pieces(self, inode: Inode) -> Iterator[Piece]:
        """Yield what a file has; holes are what lies between.

        Raises:
            DamagedError: its map leads nowhere, or in a circle.
        """
        if inode.flags & EXTENTS_FLAG:
            return self._extents_of(inode, bytes(inode.block), None, set())
        return self._pointers(inode)

    def _extents_of(
        self, inode: Inode, node: bytes, depth: int | None, seen: set[int]
    ) -> Iterator[Piece]:
        magic, entries, most, here = struct.unpack_from("<HHHH", node)
        name = f"ext.inode {inode.number}"
        is_right = magic == _EXTENT_MAGIC and entries <= most <= (len(node) - 12) // 12
        if not is_right or here > _MOST_DEPTH or (depth is not None and here != depth):
            raise DamagedError(name, 0, "a node of its extent tree is none")
        for position in range(12, 12 + entries * 12, 12):
            if here:
                first, low, high = struct.unpack_from("<IIH", node, position)
                block = high << 32 | low
                if block in seen or not self._first_block < block < self._blocks:
                    raise DamagedError(name, block * self._size, "its extent tree is no tree")
                seen.add(block)
                child = self._source.read(block * self._size, self._size)
                yield from self._extents_of(inode, child, here - 1, seen)
            else:
                first, count, high, low = struct.unpack_from("<IHHI", node, position)
                block = high << 32 | low
                if count > _LONGEST_EXTENT:
                    # Allocated, but never written: the old bytes there are nobody's business.
                    count -= _LONGEST_EXTENT
                    block = -1
                if not count:
                    raise DamagedError(name, 0, "an extent of it is empty")
                yield first, count, block

    def _pointers(self, inode: Inode) -> Iterator[Piece]:
        """Yield the same of a file with a map of blocks, as ext2 and ext3 have it."""
        total = -(-inode.size // self._size)
        pointers = struct.unpack("<15I", inode.block)
        position = 0
        seen: set[int] = set()
        for number, pointer in enumerate(pointers):
            if position >= total:
                return
            depth = max(0, number - _DIRECT + 1)
            for block, count in self._pointed(inode, pointer, depth, seen):
                if block:
                    yield position, 1, block
                position += count
                if position >= total:
                    return

    def _pointed(
        self, inode: Inode, pointer: int, depth: int, seen: set[int]
    ) -> Iterator[tuple[int, int]]:
        """Yield the blocks below a pointer, each with 1; 0 for a hole, and how many it is of."""
        per_block = self._size // 4
        if not depth or not pointer:
            yield pointer, per_block**depth
            return
        if pointer in seen or not self._first_block < pointer < self._blocks:
            raise DamagedError(
                f"ext.inode {inode.number}", pointer * self._size, "its map is no tree"
            )
        seen.add(pointer)
        data = self._source.read(pointer * self._size, self._size)
        for each in struct.unpack(f"<{per_block}I", data):
            yield from self._pointed(inode, each, depth - 1, seen)
