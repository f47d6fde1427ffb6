"""What every file system gives, and what all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import DamagedError, RefusedError
from .wire import LOST, MOST_REASONS, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from .wire import Entry, Row

    Tell = Callable[[str], None]
    """Told what cannot be read, where the rest can."""

    Rows = Callable[[int, Tell], Iterator[Row]]
    """Gives what a directory has, in short; raises as `Driver.entries`."""

Run = tuple[int, int, int]
"""First byte in the file, how many, and where they lie in the volume: there, `ZEROS` or `LOST`."""

MOST_RUNS = 1 << 22
"""Runs that a file may have. No file system makes more but to do harm."""


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        size: bytes.
        runs: where they lie, ascending, without a gap from 0 to `size` or beyond; None where they
            lie nowhere as they are, and `Driver.read` gives them.
        reasons: why runs are lost: the first of those that are, the second, and so on; of
            `MOST_REASONS` at most.
    """

    size: int
    runs: Sequence[Run] | None
    reasons: Sequence[str] = ()


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
        """Return what a name in a directory leads to. Raises as `entries`.

        Raises:
            DamagedError: it is not in what can be read of the directory, and the rest cannot.
        """

    def stat(self, inode: int) -> Entry:
        """Return a file, without a name.

        Raises:
            FileNotFoundError: there is none of this number.
        """

    def content(self, inode: int, stream: bytes) -> Content:
        """Return where the bytes of a file, or of one of its other streams, are.

        Where what would tell is damaged, only those bytes are lost that it tells of.

        Raises:
            FileNotFoundError: there is no such file, or stream.
        """

    def read(self, inode: int, stream: bytes, offset: int, length: int) -> bytes:
        """Return bytes of what lies nowhere as it is; fewer at its end. Raises as `content`.

        Raises:
            DamagedError: some of them are lost.
        """

    def attributes(self, inode: int, tell: Tell) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of a file, as Linux names them."""

    def streams(self, inode: int) -> list[tuple[bytes, int]]:
        """Return the names and sizes of the other streams of a file."""


def rows_of(driver: Driver) -> Rows:
    """Return what gives what a directory has in short: a driver may have a quicker way to it."""

    def rows(inode: int, tell: Tell) -> Iterator[Row]:
        return map(row_of, driver.entries(inode, tell))

    own: Rows | None = getattr(driver, "rows", None)
    return own or rows


def row_of(entry: Entry) -> Row:
    """Return what a row has of an entry."""
    written = moment(entry.times.modified)
    return entry.name, entry.inode, entry.size, written, entry.mode, entry.flags


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


class Runs:
    """The runs of a file, put together from its beginning on.

    Attributes:
        found: the runs, without a gap.
        stop: the byte behind the last one.
    """

    def __init__(self) -> None:
        self.found: list[Run] = []
        self.stop = 0
        self._reasons: dict[int, str] = {}

    def add(self, stop: int, place: int) -> None:
        """Let the bytes from the last one up to `stop` lie at a place, or be `ZEROS`.

        Raises:
            RefusedError: there are too many runs.
        """
        if self.stop < stop:
            join(self.found, self.stop, stop - self.stop, place)
            self.stop = stop

    def lose(self, stop: int, why: str) -> None:
        """Let the bytes from the last one up to `stop` be lost. Raises as `add`."""
        is_more = bool(self.found) and self.found[-1][2] == LOST
        if self.stop < stop and not is_more and len(self._reasons) < MOST_REASONS:
            self._reasons[len(self.found)] = why
        self.add(stop, LOST)

    @property
    def reasons(self) -> list[str]:
        """Why runs are lost; see `Content.reasons`."""
        return list(self._reasons.values())

    def why(self, number: int) -> str:
        """Return why a run is lost: the one of this number in `found`."""
        return self._reasons.get(number, "what tells where they are is damaged, as before")

    def there(self, start: int, stop: int, structure: str) -> Iterator[Run]:
        """Yield first byte, length and place of what of bytes ``[start, stop)`` is not zeros.

        Raises:
            DamagedError: some of them are lost.
        """
        for number, (first, count, place) in enumerate(self.found):
            begin, end = max(first, start), min(first + count, stop)
            if begin < end and place == LOST:
                raise DamagedError(
                    structure, begin, f"bytes [{begin}, {end}) of it: {self.why(number)}"
                )
            if begin < end and place >= 0:
                yield begin, end - begin, place + begin - first


def check_all_was_read(structure: str, problems: Collection[str]) -> None:
    """Check that a name which was not found cannot be in what was not read of its directory.

    Args:
        structure: the directory.
        problems: what could not be read of it.

    Raises:
        DamagedError: it can.
    """
    for why in problems:
        raise DamagedError(structure, 0, f"the name is not in what can be read of it: {why}")


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
