"""Directories of NTFS: the index of names, walked from its root.

Walked here and not by a library: The Sleuth Kit reads every block that the index has ever had, and
those that nothing leads to any more hold the names of files that were renamed or deleted; of other
names it changes characters. Source: layout.h, index.c and dir.c of ntfs-3g.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError
from .ntfs_records import with_sector_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .driver import Tell

    ReadIndex = Callable[[int, int], bytes]

_SECTOR = 512
_LARGEST_BLOCK = 1 << 16
_MOST_BLOCKS = 1 << 18
_ROOT_HEADER, _BLOCK_HEADER = 16, 24
_LEADS_DOWN, _IS_LAST = 1, 2
_DOS_NAME = 2
_KEY_AT, _NAME_AT = 16, 66
_RECORD_BITS = 48


class Name(NamedTuple):
    """A name in a directory.

    Attributes:
        name: UTF-8.
        number: of the file.
        sequence: how often the file's record had been used before; a record with another one is of
            another file by now.
    """

    name: bytes
    number: int
    sequence: int


class Index:
    """The index of one directory.

    Args:
        what: what it is called in errors.
        root: the value of its attribute ``$INDEX_ROOT``.
        read: reads its attribute ``$INDEX_ALLOCATION``, by offset and length.
        cluster_size: bytes in a cluster.

    Raises:
        DamagedError: the root is none.
    """

    def __init__(self, what: str, root: bytes, read: ReadIndex, cluster_size: int) -> None:
        if len(root) < _ROOT_HEADER + 16:
            raise DamagedError(what, 0, "the root of its index is cut off")
        (self._size,) = struct.unpack_from("<I", root, 8)
        if self._size & (self._size - 1) or not _SECTOR <= self._size <= _LARGEST_BLOCK:
            raise DamagedError(what, 0, f"a block of its index has {self._size} bytes")
        self._what = what
        self._root = root
        self._read = read
        # What blocks are counted in: sectors, where a cluster holds several blocks.
        self._unit = cluster_size if cluster_size <= self._size else _SECTOR

    def names(self, tell: Tell) -> Iterator[Name]:
        """Yield the names but those for DOS alone; tells which cannot be read."""
        seen: set[int] = set()
        todo: list[int] = []
        yield from self._names_in(self._root, _ROOT_HEADER, todo, tell)
        while todo:
            number = todo.pop()
            if number in seen or len(seen) >= _MOST_BLOCKS:
                tell(f"{self._what}: its index is no tree: block {number}")
                continue
            seen.add(number)
            try:
                block = self._block(number)
            except DamagedError as error:
                tell(f"{self._what}: names in block {number} of its index are lost: {error}")
                continue
            yield from self._names_in(block, _BLOCK_HEADER, todo, tell)

    def _block(self, number: int) -> bytes:
        data = self._read(number * self._unit, self._size)
        block = with_sector_ends(data, b"INDX", self._what)
        (own,) = struct.unpack_from("<Q", block, 16)
        if own != number:
            raise DamagedError(self._what, 0, f"it says that it is block {own}")
        return block

    def _names_in(self, node: bytes, header: int, below: list[int], tell: Tell) -> Iterator[Name]:
        """Yield the names in a node; adds the blocks below it to `below`."""
        first, used = struct.unpack_from("<II", node, header)
        position, stop = header + first, header + used
        if stop > len(node):
            tell(f"{self._what}: a node of its index is longer than its {len(node)} bytes")
            return
        while position + _KEY_AT <= stop:
            reference, length, key_length, flags = struct.unpack_from("<QHHH", node, position)
            end = position + length
            if flags & _LEADS_DOWN and length >= _KEY_AT + 8 and end <= stop:
                below.append(*struct.unpack_from("<Q", node, end - 8))
            if flags & _IS_LAST:
                return
            key = node[position + _KEY_AT : position + _KEY_AT + key_length]
            if length < _KEY_AT + _NAME_AT or end > stop or len(key) < _NAME_AT:
                break
            raw = key[_NAME_AT : _NAME_AT + 2 * key[_NAME_AT - 2]]
            if len(raw) != 2 * key[_NAME_AT - 2]:
                break
            name = raw.decode("utf-16-le", "surrogatepass")
            if not name or "/" in name or "\0" in name:
                tell(f"{self._what}: {name!r} is no name")
            elif key[_NAME_AT - 1] != _DOS_NAME:
                yield Name(
                    name.encode("utf-8", "surrogatepass"), reference & (1 << _RECORD_BITS) - 1,
                    reference >> _RECORD_BITS,
                )  # fmt: skip
            position = end
        tell(f"{self._what}: what stands at {position} of a node of its index is no name")
