"""What a directory has, as the worker sent it: checked, and each entry made when it is asked for.

An entry as an object takes several times the memory, and of a large directory few are asked for at
a time.
"""

from __future__ import annotations

import struct
import time
from array import array
from typing import TYPE_CHECKING

from .errors import WorkerError
from .worker.wire import ENTRY, WALL_CLOCK, Times, unpack_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .worker.wire import Entry

    Tell = Callable[[str], None]

LARGEST_INODE = (1 << 40) - 2
"""The largest number that a file may have: those of a mount have 40 bits for it, and 0 is none."""

_PER_ENTRY = 160
"""Bytes that an entry takes beside what was sent: its position, and its name among the names."""

NO_TARGET = "where it leads has a NUL in it, which ends a path"

_HEAD, _LENGTHS, _LENGTH = struct.Struct("<QQ"), struct.Struct("<HH"), struct.Struct("<H")
"""Of an entry as it was sent: number and size, which it begins with; the lengths of name and
target, which its numbers end with; the first of these."""


class Listing:
    """The entries of a directory, in the order in which it has them. Of one thread while it grows.

    Attributes:
        is_whole: whether all of the directory could be read.
    """

    def __init__(self) -> None:
        self.is_whole = True
        self._data = bytearray()
        self._positions = array("Q")
        self._by_name: dict[bytes, int] | None = None

    def add(self, frame: memoryview, tell: Tell) -> None:
        """Add the entries in a frame.

        Args:
            frame: as the worker sent it.
            tell: told what is no name, and which links lead nowhere that there can be.

        Raises:
            WorkerError: it is nonsense.
        """
        base = len(self._data)
        position = 0
        while position < len(frame):
            if position + ENTRY.size > len(frame):
                raise WorkerError("entries", position, "an entry is cut off")
            check(*_HEAD.unpack_from(frame, position))
            start = position + ENTRY.size
            name_length, target_length = _LENGTHS.unpack_from(frame, start - _LENGTHS.size)
            stop = start + name_length + target_length
            if stop > len(frame):
                raise WorkerError("entries", position, "a name is cut off")
            name = bytes(frame[start : start + name_length])
            if not is_name(name):
                tell(f"{name!r} is no name")
            elif target_length and b"\0" in bytes(frame[stop - target_length : stop]):
                self.is_whole = False
                tell(f"{name!r}: {NO_TARGET}")
            else:
                self._positions.append(base + position)
            position = stop
        self._data += frame

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._positions)

    def __getitem__(self, number: int) -> Entry:
        """Return one of them.

        Raises:
            IndexError: there are fewer.
        """
        return in_local_time(unpack_entry(self._data, self._positions[number])[0])

    def __iter__(self) -> Iterator[Entry]:
        """Yield all of them."""
        return (self[number] for number in range(len(self)))

    @property
    def has_index(self) -> bool:
        """Whether `find` looks a name up at once."""
        return self._by_name is not None

    def index(self) -> None:
        """Make what names are looked up by; in a large directory that takes a while."""
        by_name: dict[bytes, int] = {}
        for number, position in enumerate(self._positions):
            (length,) = _LENGTH.unpack_from(self._data, position + ENTRY.size - _LENGTHS.size)
            start = position + ENTRY.size
            by_name.setdefault(bytes(self._data[start : start + length]), number)
        self._by_name = by_name

    def find(self, name: bytes) -> Entry | None:
        """Return what a name leads to, the first of that name; None where there is none."""
        if self._by_name is None:
            self.index()
        assert self._by_name is not None
        found = self._by_name.get(name)
        return None if found is None else self[found]

    @property
    def size_bytes(self) -> int:
        """Bytes of memory, about."""
        return len(self._data) + len(self) * _PER_ENTRY


def check(inode: int, size: int) -> None:
    """Check what a worker says of a file.

    Raises:
        WorkerError: no file has that number, or that size.
    """
    if inode > LARGEST_INODE or size >= 1 << 63:
        raise WorkerError("entries", 0, f"file {inode} of {size} bytes")


def is_name(name: bytes) -> bool:
    """Tell whether a file may be called so."""
    return name not in {b"", b".", b".."} and b"/" not in name and b"\0" not in name


def in_local_time(entry: Entry) -> Entry:
    """Return an entry whose times are moments, where they were what a clock on the wall showed."""
    if not entry.flags & WALL_CLOCK:
        return entry
    return entry._replace(times=Times(*(local_time(moment) for moment in entry.times)))


def local_time(moment: int | None) -> int | None:
    """Return the time at which clocks here showed what they would show at `moment` in UTC."""
    if moment is None:
        return None
    seconds, rest = divmod(moment, 1_000_000_000)
    shown = time.gmtime(seconds)
    return int(time.mktime((*shown[:6], 0, 0, -1))) * 1_000_000_000 + rest
