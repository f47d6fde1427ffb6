"""HFS+: forks, and the B-trees that are kept in them.

Source: Apple's technical note TN1150.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError
from .driver import Run, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .source import Source

    Key = tuple[int, ...] | tuple[int, str]

FORK = 80
DATA, RESOURCE = 0, 0xFF
EXTENTS_FILE = 3
_EXTENTS = 8
_DESCRIPTOR = struct.Struct(">IIbBH")
_LEAF, _INDEX, _HEADER = -1, 0, 1
_DEEPEST = 16
_NODE_SIZES = {1 << shift for shift in range(9, 16)}
_LARGEST_TREE = 1 << 40


class Record(NamedTuple):
    """A record of a leaf.

    Attributes:
        key: its bytes behind its length.
        data: what goes with it.
        offset: where the record lies in the tree.
    """

    key: bytes
    data: bytes
    offset: int


class Forks:
    """Where forks lie.

    Args:
        source: the volume.
        block_size: bytes in an allocation block.
        blocks: how many the volume has.
    """

    def __init__(self, source: Source, block_size: int, blocks: int) -> None:
        self.source = source
        self.block_size = block_size
        self._blocks = blocks
        self.overflow: Tree | None = None
        """The tree of the extents that found no room beside their file."""

    def runs(self, fork: bytes, number: int, kind: int, what: str) -> list[Run]:
        """Return where the bytes of a fork lie, up to its size.

        Args:
            fork: its 80 bytes.
            number: the file's.
            kind: `DATA` or `RESOURCE`.
            what: what errors call it.

        Raises:
            DamagedError: its extents are not in the volume, or fewer than its size takes.
        """
        (size,) = struct.unpack_from(">Q", fork)
        found: list[Run] = []
        position = 0
        size_in_blocks = -(-size // self.block_size)
        extents = fork[16:FORK]
        while position < size_in_blocks:
            before = position
            for start, count in struct.iter_unpack(">II", extents):
                if not count:
                    break
                if start + count > self._blocks:
                    raise DamagedError(
                        what, start * self.block_size,
                        f"blocks [{start}, {start + count}) are not all of the volume's"
                        f" {self._blocks}",
                    )  # fmt: skip
                used = min(count, size_in_blocks - position)
                if used > 0:
                    join(
                        found, position * self.block_size, used * self.block_size,
                        start * self.block_size,
                    )  # fmt: skip
                position += count
            if position >= size_in_blocks:
                break
            if position == before:
                raise DamagedError(what, 0, f"its extents end at block {position}")
            extents = self._more(number, kind, position, what)
        return found

    def _more(self, number: int, kind: int, position: int, what: str) -> bytes:
        if self.overflow is not None and number != EXTENTS_FILE:
            wanted = (number, kind, position)
            for record in self.overflow.since(wanted):
                if extent_key(record.key) == wanted and len(record.data) >= 8 * _EXTENTS:
                    return record.data[: 8 * _EXTENTS]
                break
        raise DamagedError(what, 0, f"its extents from block {position} on are missing")


def extent_key(key: bytes) -> tuple[int, ...]:
    """Return by what the extents are sorted: file, fork, first block."""
    kind, number, start = struct.unpack_from(">BxII", key)
    return (number, kind, start)


class Tree:
    """A B-tree.

    Args:
        source: the volume.
        runs: where its fork lies.
        key: makes of a key's bytes what keys are compared by.
        what: what errors call it.

    Raises:
        DamagedError: it is none.
    """

    def __init__(
        self, source: Source, runs: list[Run], key: Callable[[bytes], Key], what: str
    ) -> None:
        self._source = source
        self._runs = runs
        self._key = key
        self._what = what
        head = self._read(0, 512)
        kind = _DESCRIPTOR.unpack_from(head)[2]
        self._root, self._size = struct.unpack_from(">I12xH", head, 16)
        (self._nodes,) = struct.unpack_from(">I", head, 36)
        stored = runs[-1][0] + runs[-1][1] if runs else 0
        is_right = kind == _HEADER and self._size in _NODE_SIZES
        if not is_right or self._nodes * self._size > min(stored, _LARGEST_TREE):
            raise DamagedError(what, runs[0][2] if runs else 0, "its header is none")

    def _read(self, offset: int, length: int) -> bytes:
        data = b""
        for start, count, place in self._runs:
            if start <= offset + len(data) < start + count and len(data) < length:
                at = offset + len(data) - start
                data += self._source.read(place + at, min(length - len(data), count - at))
        if len(data) < length:
            raise DamagedError(self._what, offset, "it ends before")
        return data

    def _node(self, number: int) -> tuple[int, int, int, list[tuple[bytes, bytes, int]]]:
        """Return the following node, kind and height of a node, and its records."""
        if not 0 < number < self._nodes:
            raise DamagedError(self._what, 0, f"there is no node {number}")
        offset = number * self._size
        data = self._read(offset, self._size)
        following, _before, kind, height, count = _DESCRIPTOR.unpack_from(data)
        if 2 * (count + 1) > self._size - _DESCRIPTOR.size:
            raise DamagedError(self._what, offset, f"node {number} has {count} records")
        ends = struct.unpack(f">{count + 1}H", data[self._size - 2 * (count + 1) :])[::-1]
        records = []
        for start, stop in itertools.pairwise(ends):
            if not _DESCRIPTOR.size <= start < stop <= self._size or start + 2 > stop:
                raise DamagedError(self._what, offset, f"a record of node {number} lies nowhere")
            (length,) = struct.unpack_from(">H", data, start)
            behind = start + 2 + length + length % 2
            if behind > stop:
                raise DamagedError(self._what, offset + start, "a key is longer than its record")
            records.append((data[start + 2 : start + 2 + length], data[behind:stop], start))
        return following, kind, height, records

    def since(self, wanted: Key) -> Iterator[Record]:
        """Yield the records from the first one on whose key is not below.

        Raises:
            DamagedError: the tree contradicts itself.
        """
        number = self._leaf(wanted)
        for _seen in range(self._nodes):
            if not number:
                return
            following, kind, _height, records = self._node(number)
            if kind != _LEAF:
                raise DamagedError(self._what, number * self._size, f"node {number} is no leaf")
            for key, data, at in records:
                if self._key(key) >= wanted:
                    yield Record(key, data, number * self._size + at)
            number = following
        raise DamagedError(self._what, number * self._size, "its leaves go round")

    def _leaf(self, wanted: Key) -> int:
        """Return the leaf in which a key is, or would be; 0 where the tree is empty."""
        number: int = self._root
        above = _DEEPEST + 1
        while number:
            _following, kind, height, records = self._node(number)
            if height >= above or kind not in {_LEAF, _INDEX} or (kind == _LEAF) != (height == 1):
                raise DamagedError(
                    self._what, number * self._size, f"node {number} is not where it should be"
                )
            if kind == _LEAF:
                break
            above = height
            number = self._below(number, records, wanted)
        return number

    def _below(self, number: int, records: list[tuple[bytes, bytes, int]], wanted: Key) -> int:
        """Return the node below in which a key is."""
        found = None
        for key, data, _at in records:
            if found is not None and self._key(key) > wanted:
                break
            (found,) = struct.unpack_from(">I", data)
        if found is None:
            raise DamagedError(self._what, number * self._size, f"node {number} is empty")
        return int(found)
