"""What every file system gives, and what all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import DamagedError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .wire import Entry

    Tell = Callable[[str], None]
    """Told what cannot be read, where the rest can."""

Run = tuple[int, int, int]
"""First byte in the file, how many, and where they lie in the volume; -1 for zeros."""

MOST_RUNS = 1 << 22
"""Runs that a file may have. No file system makes more but to do harm."""


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        size: bytes.
        runs: where they lie, ascending, without a gap from 0 to `size` or beyond; None where they
            lie nowhere as they are, and `Driver.read` gives them.
    """

    size: int
    runs: Sequence[Run] | None


class Driver(Protocol):
    """A file system. Every method may raise `DamagedError` and `RefusedError`."""

    root: int
    """The number of the root directory."""

    def entries(self, inode: int, tell: Tell) -> Iterator[Entry]:
        """Yield what a directory has, without itself and its parent.

        Raises:
            NotADirectoryError: it is none.
        """

    def find(self, inode: int, name: bytes) -> Entry | None:
        """Return what a name in a directory leads to. Raises as `entries`."""

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name.

        Raises:
            FileNotFoundError: there is none of this number.
        """

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file, or of one of its other streams, are.

        Raises:
            FileNotFoundError: there is no such file, or stream.
        """

    def read(self, inode: int, stream: bytes, offset: int, length: int) -> bytes:
        """Return bytes of what lies nowhere as it is; fewer at its end. Raises as `content`."""

    def attributes(self, inode: int, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of a file, as Linux names them."""

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return the names and sizes of the other streams of a file."""


class WithoutExtras:
    """What a file system gives whose files have neither attributes nor other streams."""

    def stat(self, inode: int) -> Entry:
        """Return a file; see `Driver`."""
        raise NotImplementedError

    def read(self, inode: int, _stream: bytes, _offset: int, _length: int) -> bytes:
        """Raise: every file has its place."""
        raise DamagedError(f"file {inode}", 0, "it lies in its clusters")

    def attributes(self, inode: int, _tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return that there are none."""
        self.stat(inode)
        return []

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return that there are none."""
        self.stat(inode)
        return []


def join(runs: list[Run], start: int, length: int, place: int) -> None:
    """Add a run behind others, as a part of the last one where it goes on with that.

    Raises:
        RefusedError: there are too many.
    """
    if runs:
        first, count, before = runs[-1]
        follows = before if before < 0 else before + count
        if start == first + count and place == follows:
            runs[-1] = (first, count + length, before)
            return
    if len(runs) >= MOST_RUNS:
        raise RefusedError("file", place, f"it has more than {MOST_RUNS} runs")
    runs.append((start, length, place))
