"""Directories of XFS: in the inode, in one block, or in many with a tree of hashes beside them.

Source: fs/xfs/libxfs/xfs_da_format.h, xfs_dir2_data.c, xfs_dir2_sf.c and xfs_da_btree.c of Linux.
"""

from __future__ import annotations

import bisect
import contextlib
import struct
from typing import TYPE_CHECKING

from ..errors import DamagedError, RefusedError
from .driver import check_all_was_read
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
    from .xfs_inode import Inode

Name = tuple[bytes, int]
"""A name, and the inode that it leads to."""

_HASHES = 32 << 30
"""Where in a directory the tree of hashes begins: 32 GiB from its start, in all of them."""

_DATA = {b"XD2D": False, b"XDD3": True}
_BLOCK = {b"XD2B": False, b"XDB3": True}
"""Magics of blocks of data, and of a directory that is one block; whether of version 5."""

_HEADER, _HEADER_5 = 16, 64
_SEAL = Seal(checksum=4, place=8, uuid=24, owner=40)
_LEAVES = ({0xD2F1, 0xD2FF}, {0x3DF1, 0x3DFF})
_LEAF_HEADER, _LEAF_HEADER_5 = 16, 64
_FREE = 0xFFFF
_UNIT = 8


class Directories:
    """The directories of a volume.

    Args:
        source: the volume.
        geometry: its superblock.
        extents: its maps.
    """

    def __init__(self, source: VolumeSource, geometry: Geometry, extents: Extents) -> None:
        self._source = source
        self._geometry = geometry
        self._extents = extents
        self._size = geometry.directory_size
        self._per_block = geometry.directory_size // geometry.block_size
        self._last: Blocks | None = None

    def names(self, inode: Inode, tell: Tell) -> Iterator[Name]:
        """Yield what a directory has, without itself and its parent; tells what cannot be read.

        Raises:
            DamagedError: where its blocks are is not told.
        """
        if inode.fork.format == LOCAL:
            yield from self._in_inode(inode, tell)
            return
        blocks = self._blocks(inode)
        for number in self._numbers(blocks):
            try:
                data, start, stop = self._block(blocks, number)
            except DamagedError as error:
                tell(f"directory {inode.number}: {error}")
                continue
            yield from self._names_in(data, start, stop, inode, number * self._size, tell)

    def find(self, inode: Inode, name: bytes) -> int | None:
        """Return the inode that a name leads to, None where it is not there. Raises as `names`."""
        if inode.fork.format != LOCAL:
            # What the hashes lead to was looked at. That they lead nowhere says little: they may
            # be damaged, or lie.
            with contextlib.suppress(DamagedError, RefusedError, struct.error):
                for number in self._by_hash(self._blocks(inode), name):
                    return number
        problems: list[str] = []
        for each, number in self.names(inode, problems.append):
            if each == name:
                return number
        check_all_was_read(f"xfs.directory {inode.number}", problems)
        return None

    # -- in the inode ----------------------------------------------------------

    def _in_inode(self, inode: Inode, tell: Tell) -> Iterator[Name]:
        data = inode.fork.data[: inode.size]
        count, wide = struct.unpack_from(">BB", data)
        width = 8 if wide else 4
        position = 2 + width
        more = 1 if self._geometry.has_types else 0
        for _number in range(count):
            stop = position + 3 + data[position] + more + width if position < len(data) else 0
            if not position < stop <= len(data):
                tell(f"directory {inode.number}: some of its {count} names are cut off")
                return
            name = data[position + 3 : position + 3 + data[position]]
            number = int.from_bytes(data[stop - width : stop], "big")
            if _is_name(name, inode, position, tell):
                yield name, number
            position = stop

    # -- in blocks -------------------------------------------------------------

    def _blocks(self, inode: Inode) -> Blocks:
        # Kept, for a path is looked up name by name, and a tree's many files one after another.
        if self._last is None or self._last.inode.number != inode.number:
            pieces = self._extents.of(inode, inode.fork)
            self._last = Blocks(self._source, self._geometry, inode, pieces)
        return self._last

    def _numbers(self, blocks: Blocks) -> Iterator[int]:
        """Yield the numbers of blocks of data, of which at least a part is there."""
        behind = 0
        most = _HASHES // self._size
        for start, count, _place in blocks.pieces:
            first = max(behind, start // self._per_block)
            behind = min(most, (start + count - 1) // self._per_block + 1)
            yield from range(first, behind)

    def _block(self, blocks: Blocks, number: int) -> tuple[bytes, int, int]:
        """Return a block of data, and where entries begin and end in it."""
        data, place = blocks.read(number * self._per_block, self._per_block)
        inode = blocks.inode
        magic, is_5 = data[:4], self._geometry.is_5
        is_only = _BLOCK.get(magic) is is_5 and not number
        if not is_only and _DATA.get(magic) is not is_5:
            raise DamagedError(inode.name, place, f"block {number} of the directory is none")
        if is_5:
            self._geometry.check(data, _SEAL, place, inode.number, f"{inode.name}: directory")
        stop = len(data)
        if is_only:
            # Its hashes are behind its entries, and behind them, how many they are.
            (count,) = struct.unpack_from(">I", data, stop - 8)
            stop -= 8 + count * 8
        start = _HEADER_5 if is_5 else _HEADER
        if stop < start:
            raise DamagedError(inode.name, place, "the hashes of the directory do not fit in it")
        return data, start, stop

    def _names_in(
        self, data: bytes, position: int, stop: int, inode: Inode, base: int, tell: Tell
    ) -> Iterator[Name]:
        while position < stop:
            length = 0
            if data[position : position + 2] == b"\xff\xff":
                length = int.from_bytes(data[position + 2 : position + 4], "big")
                is_right = length >= _UNIT and not length % _UNIT
                is_right = is_right and _is_tagged(data, position, length, stop)
                if is_right:
                    position += length
                    continue
            found = self._entry(data, position, stop)
            if found is None:
                tell(
                    f"directory {inode.number}: what stands at {base + position} is no entry;"
                    f" what follows it up to {base + stop} is lost"
                )
                return
            name, number, length = found
            if name not in {b".", b".."} and _is_name(name, inode, base + position, tell):
                yield name, number
            position += length

    def _entry(self, data: bytes, position: int, stop: int) -> tuple[bytes, int, int] | None:
        """Return name, inode and length of an entry in a block; None where there is none."""
        if position + 16 > stop:
            return None
        number, name_length = struct.unpack_from(">QB", data, position)
        more = 1 if self._geometry.has_types else 0
        # Behind the name, at the end of the last eight bytes, is its own place.
        length = 9 + name_length + more + 2 + _UNIT - 1 & -_UNIT
        if number >> 56 or not name_length or not _is_tagged(data, position, length, stop):
            return None
        return data[position + 9 : position + 9 + name_length], number, length

    # -- by hashes -------------------------------------------------------------

    def _by_hash(self, blocks: Blocks, name: bytes) -> Iterator[int]:
        """Yield the inodes that a name leads to, by its hash: one, or none."""
        geometry = self._geometry
        root = _HASHES // geometry.block_size
        if not blocks.pieces or sum(blocks.pieces[-1][:2]) <= root:
            return
        wanted = _hash_of(name.lower() if geometry.folds_case else name)
        header = _LEAF_HEADER_5 if geometry.is_5 else _LEAF_HEADER
        for leaf in Hashes(geometry, blocks, root, self._per_block, _LEAVES).leaves(wanted):
            addresses, is_last = _addresses(leaf, wanted, header)
            for address in addresses:
                number, position = divmod(address * _UNIT, self._size)
                data, start, stop = self._block(blocks, number)
                found = self._entry(data, position, stop) if position >= start else None
                if found is not None and found[0] == name:
                    yield found[1]
            if is_last:
                return


def _addresses(leaf: Leaf, wanted: int, start: int) -> tuple[list[int], bool]:
    """Return where names with a hash are, and whether there are none in the next leaf."""
    count = min(leaf.entries, (len(leaf.data) - start) // 8)
    numbers = struct.unpack_from(f">{count * 2}I", leaf.data, start)
    hashes = numbers[::2]
    first = bisect.bisect_left(hashes, wanted)
    last = bisect.bisect_right(hashes, wanted)
    # Those of names that are gone lead to 0.
    return [each for each in numbers[first * 2 + 1 : last * 2 : 2] if each], last < count


def _hash_of(name: bytes) -> int:
    value = 0
    for byte in name:
        value = byte ^ (value << 7 | value >> 25) & 0xFFFFFFFF
    return value


def _is_tagged(data: bytes, position: int, length: int, stop: int) -> bool:
    """Tell whether what begins at a place ends inside, and with the number of that place."""
    end = position + length
    return end <= stop and data[end - 2 : end] == position.to_bytes(2, "big")


def _is_name(name: bytes, inode: Inode, at: int, tell: Tell) -> bool:
    if not name or b"/" in name or b"\0" in name:
        tell(f"directory {inode.number}: {name!r} at {at} is no name")
        return False
    return True
