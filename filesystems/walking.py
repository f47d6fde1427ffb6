"""All directories of a file system, one after the other: what is in each, in short.

Many are asked for at once, and while the worker reads some of them, what it found in others is
used: a whole file system is walked in the time that its worker takes. Those that were met last are
walked first, so that what lies close together is read together: file systems lay what is in a
directory near to it.
"""

from __future__ import annotations

import stat
from array import array
from typing import TYPE_CHECKING, NamedTuple

from .errors import RefusedError, WorkerError
from .in_thread import in_thread
from .listing import LARGEST_INODE, is_name
from .worker.wire import DIRECTORY, NO_TIME, ROWS_AT_ONCE, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .process import Worker

    Tell = Callable[[str], None]

MOST_AT_ONCE = 256
"""Directories that are asked for at once."""

MOST_DIRECTORIES = 1 << 26
"""Directories of a file system that are walked."""

_MOST_ENTRIES = 1 << 22

_TYPE = 0o170000

_NO_NAMES = (b"", b".", b"..")


class WalkedDirectory(NamedTuple):
    """What is in a directory: columns of one length, in the order in which the directory has them.

    Attributes:
        number: its place in the order in which directories are met, not that in which they are
            walked: 0 is the root; every entry that is a directory has the next number, over all
            that were walked before.
        names: each once, as bytes.
        inodes: the numbers of the files.
        sizes: bytes.
        times: nanoseconds since 1970 at which they were written, `NO_TIME` where that is not known.
            Of those with the flag `WALL_CLOCK`, as if the clock had shown UTC.
        modes: type and permissions, as `stat` has them.
        flags: `COMPRESSED` and so on.
        is_whole: whether all that is in it was read; what is missing here may be in it else.
    """

    number: int
    names: list[bytes]
    inodes: Sequence[int]
    sizes: Sequence[int]
    times: Sequence[int]
    modes: Sequence[int]
    flags: Sequence[int]
    is_whole: bool = True


def walk(worker: Worker, root: Callable[[], int], tell: Tell) -> Iterator[WalkedDirectory]:
    """Yield every directory once, the root first, each behind the one that it is in.

    Args:
        worker: of the file system.
        root: the number of its root directory, once the worker has been asked for anything.
        tell: told what cannot be read, in the thread of who takes the directories.

    Yields:
        Also those that cannot be read, with what could be.

    Raises:
        RefusedError: there are more entries, or directories, than are walked.
        WorkerError: the worker has died, or talks nonsense.
        OSError: the image cannot be read.
        FormatError: the same.
    """

    def ask(give: Callable[[_Found], None]) -> None:
        _Walker(worker, root, give).run()

    for found in in_thread(ask, "walk"):
        if isinstance(found, str):
            tell(found)
        else:
            yield from found


_Found = list[WalkedDirectory] | str
"""Directories, or a text about what cannot be read."""


class _Walker:
    """The side that asks, in a thread of its own.

    Args:
        worker: of the file system.
        root: as `walk` has it.
        give: takes what is found.
    """

    def __init__(
        self, worker: Worker, root: Callable[[], int], give: Callable[[_Found], None]
    ) -> None:
        self._worker = worker
        self._root = root
        self._give = give
        self._todo: array[int] = array("Q", [0])
        self._places: array[int] = array("Q", [0])
        self._met = 1
        self._seen: set[int] = set()
        self._parts: _Parts | None = None
        self._found: list[WalkedDirectory] = []

    def run(self) -> None:
        """Ask until there is nothing left."""
        while self._todo:
            some, places = self._todo[-MOST_AT_ONCE:], self._places[-MOST_AT_ONCE:]
            del self._todo[-MOST_AT_ONCE:], self._places[-MOST_AT_ONCE:]
            # What is in itself, or has two names, is walked once.
            asked = array("Q")
            for each in some:
                if each not in self._seen:
                    asked.append(each)
                    self._seen.add(each)
            self._parts = _Parts(some, places, frozenset(asked))
            self._give_known(self._parts)
            self._give_found()
            self._worker.ask("walk", self._take, inodes=list(asked))
            if self._parts.position < len(some):
                raise WorkerError("reader", 0, "it has not told of all directories")
            if 0 in self._seen:
                self._seen.remove(0)
                self._seen.add(self._root())

    def _take(self, kind: Kind, data: memoryview) -> None:
        parts = self._parts
        assert parts is not None
        if kind is Kind.PROBLEM:
            # It is about the directory that is being told of.
            parts.is_whole = False
            self._give(bytes(data).decode(errors="replace"))
            return
        position = 0
        while position < len(data):
            position, is_last = parts.add(data, position)
            if is_last:
                self._finish(parts)
                self._give_known(parts)
        self._give_found()

    def _give_known(self, parts: _Parts) -> None:
        """Give the directories that were walked before, under another name."""
        while parts.is_known():
            inode = parts.inodes[parts.position]
            self._give(f"directory {inode}: it has another name, or is inside of itself")
            parts.is_whole = False
            self._finish(parts)

    def _finish(self, parts: _Parts) -> None:
        for text in parts.check():
            parts.is_whole = False
            self._give(text)
        for inode, mode in zip(parts.numbers, parts.modes, strict=True):
            if mode & _TYPE == stat.S_IFDIR:
                self._todo.append(inode)
                self._places.append(self._met)
                self._met += 1
        if self._met > MOST_DIRECTORIES:
            raise RefusedError("file system", 0, f"it has more than {MOST_DIRECTORIES} directories")
        self._found.append(
            WalkedDirectory(
                parts.place, parts.names, parts.numbers, parts.sizes, parts.times, parts.modes,
                parts.flags, parts.is_whole,
            )
        )  # fmt: skip
        parts.go_on()

    def _give_found(self) -> None:
        if self._found:
            self._give(self._found)
            self._found = []


class _Parts:
    """The directory that is being told of, out of some that were asked for."""

    def __init__(self, inodes: array[int], places: array[int], asked: frozenset[int]) -> None:
        self.inodes = inodes
        self._places = places
        self.position = 0
        self._left = set(asked)
        self._clear()

    def _clear(self) -> None:
        self.names: list[bytes] = []
        self.is_whole = True
        self._has_nul = False
        self.numbers, self.sizes = array("Q"), array("Q")
        self.times, self.modes, self.flags = array("q"), array("I"), array("I")

    @property
    def place(self) -> int:
        """Its place in the order in which directories are met."""
        return self._places[self.position]

    def go_on(self) -> None:
        """Begin with the next."""
        self._left.discard(self.inodes[self.position])
        self.position += 1
        self._clear()

    def is_known(self) -> bool:
        """Tell whether the next was not asked for, or is told of already."""
        return self.position < len(self.inodes) and self.inodes[self.position] not in self._left

    def add(self, frame: memoryview, position: int) -> tuple[int, bool]:
        """Add what a frame has from a position on of the directory that is told of.

        Returns:
            The position behind it, and whether that was the last of the directory.

        Raises:
            WorkerError: it is nonsense.
        """
        at = position + DIRECTORY.size
        if len(frame) < at or self.position >= len(self.inodes):
            raise WorkerError("entries", position, "a directory that was not asked for")
        inode, count, names_length = DIRECTORY.unpack_from(frame, position)
        names_at = at + count * 32
        stop = names_at + names_length
        if inode != self.inodes[self.position] or len(frame) < stop:
            raise WorkerError("entries", position, f"directory {inode} of {count} entries")
        for column, size in (
            (self.numbers, 8), (self.sizes, 8), (self.times, 8), (self.modes, 4), (self.flags, 4),
        ):  # fmt: skip
            column.frombytes(frame[at : at + count * size])
            at += count * size
        joined = bytes(frame[names_at:stop])
        self._has_nul = self._has_nul or b"\0" in joined
        names = joined.split(b"/") if count else []
        if len(names) != count:
            raise WorkerError("entries", 0, f"{len(names)} names of {count} entries")
        self.names += names
        if len(self.names) > _MOST_ENTRIES:
            raise RefusedError(f"directory {inode}", 0, f"it has more than {_MOST_ENTRIES} entries")
        return stop, count < ROWS_AT_ONCE

    def check(self) -> Iterator[str]:
        """Leave out what cannot be, and yield what that is.

        Raises:
            WorkerError: the worker talks nonsense.
        """
        if not self.names:
            return
        if max(self.numbers) > LARGEST_INODE or max(self.sizes) >= 1 << 63:
            raise WorkerError("entries", 0, "a file of a number, or size, that none has")
        seen = set(self.names)
        if len(seen) == len(self.names) and not self._has_nul and seen.isdisjoint(_NO_NAMES):
            return
        inode = self.inodes[self.position]
        seen = set()
        left = []
        for number, name in enumerate(self.names):
            if not is_name(name):
                yield f"directory {inode}: {name!r} is no name"
            elif name in seen:
                yield f"directory {inode}: {name!r} is twice in it"
            else:
                seen.add(name)
                left.append(number)
        self.names = [self.names[number] for number in left]
        for column in ("numbers", "sizes", "times", "modes", "flags"):
            values = getattr(self, column)
            setattr(self, column, array(values.typecode, [values[number] for number in left]))


def time_or_none(moment: int) -> int | None:
    """Return a time of a walked directory, None where there is none."""
    return None if moment == NO_TIME else moment
