"""Reading the used areas of an image in order, ahead of whoever takes them.

One thread reads into a few buffers that go round, while the caller writes what was read before.
Both wait in the kernel for nearly all of the time, so they do run at once.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from ..errors import CorruptImageError, FormatError
from ..extent import ExtentKind, merged
from ..reader import read_bytes
from .scatter import fill_zero

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..reader import ImageReader

WINDOW_SIZE = 1 << 20
"""Most guest bytes of a window: small enough that a processor's cache still holds them when they
are written, large enough that calls do not count. Also the alignment of where windows end."""

_BUFFER_COUNT = 4

_PROBE_SIZE = 4096
"""How finely the first unreadable guest byte is searched for."""

_PIECE_SIZES = (128 << 10, _PROBE_SIZE)
"""How a window is read that cannot be read as a whole."""


class UnreadableRangeError(CorruptImageError):
    """Guest bytes cannot be given; `offset` is the first of them, in the guest."""

    def __init__(self, start: int, stop: int, reason: str) -> None:
        super().__init__("guest", start, f"bytes [{start}, {stop}) cannot be read: {reason}")
        self.start = start
        self.stop = stop
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return UnreadableRangeError, (self.start, self.stop, self.reason)


class Window(NamedTuple):
    """Guest bytes from `offset` on, beginning and ending with used ones.

    Attributes:
        offset: the first byte in the guest.
        view: the bytes, with zeros between the used ranges. Good until the next window is taken.
        used: the used ranges ``[start, stop)`` in the guest, ascending.
        lost: what of them could not be read, ascending; `view` has filling there.
    """

    offset: int
    view: memoryview
    used: list[tuple[int, int]]
    lost: tuple[Lost, ...] = ()


class Lost(NamedTuple):
    """Guest bytes ``[start, stop)`` that cannot be had, and why."""

    start: int
    stop: int
    reason: str


class ReadAhead:
    """The used areas of an image, read in ascending order by a thread of its own.

    To be iterated over once, inside of ``with``; leaving that ends the thread.

    Args:
        reader: the image.
        rescue: a byte that takes the place of what cannot be read; None to end there instead.
            What the image's extents say cannot be read is then no used area.

    Raises, while it is iterated over:
        UnreadableRangeError: the image cannot give some bytes; it names which.
        OSError: the operating system could not read; it names which guest bytes.
        Whatever else the reader raises.
    """

    def __init__(self, reader: ImageReader, *, rescue: int | None = None) -> None:
        self._reader = reader
        self._rescue = rescue
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[Window | BaseException | None] = queue.SimpleQueue()
        self._stopped = False
        for _ in range(_BUFFER_COUNT):
            self._free.put(memoryview(bytearray(WINDOW_SIZE)))
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped = True
        # It may be waiting for a buffer.
        self._free.put(memoryview(b""))
        self._thread.join()

    def __iter__(self) -> Iterator[Window]:
        while (item := self._full.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            self._free.put(memoryview(item.view.obj))

    def _run(self) -> None:
        try:
            used = used_ranges(self._reader, with_unreadable=self._rescue is None)
            for ranges in plan_windows(used, WINDOW_SIZE):
                buffer = self._free.get()
                if self._stopped:
                    return
                start, stop = ranges[0][0], ranges[-1][1]
                view = memoryview(buffer)[: stop - start]
                lost: tuple[Lost, ...] = ()
                if self._rescue is None:
                    read_guest(self._reader, view, start)
                else:
                    lost = tuple(_rescued(self._reader, view, ranges, self._rescue))
                self._full.put(Window(start, view, ranges, lost))
            self._full.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the windows are taken
            self._full.put(error)


def used_ranges(reader: ImageReader, *, with_unreadable: bool = True) -> Iterator[tuple[int, int]]:
    """Yield the guest bytes ``[start, stop)`` that are stored, ascending, neighbours joined.

    Args:
        reader: the image.
        with_unreadable: whether what is known to be unreadable is among them.
    """
    start = stop = -1
    for extent in merged(reader.extents(0, reader.size)):
        if not extent.is_stored or (extent.kind is ExtentKind.UNREADABLE and not with_unreadable):
            continue
        if extent.start != stop:
            if start < stop:
                yield start, stop
            start = extent.start
        stop = extent.stop
    if start < stop:
        yield start, stop


def unreadable_ranges(reader: ImageReader) -> Iterator[Lost]:
    """Yield what the image's extents say cannot be read, ascending, neighbours joined."""
    for extent in merged(reader.extents(0, reader.size)):
        if extent.kind is ExtentKind.UNREADABLE:
            yield Lost(extent.start, extent.stop, extent.reason)


def distrusted_ranges(reader: ImageReader, every_byte: ImageReader) -> Iterator[Lost]:
    """Yield what a reader refuses that another of the same image gives, ascending.

    Args:
        reader: refuses what no checksum of a damaged stream vouches for.
        every_byte: refuses only what is not there.
    """
    gone = list(unreadable_ranges(every_byte))
    for lost in unreadable_ranges(reader):
        start = lost.start
        for other in gone:
            if other.stop <= start or lost.stop <= other.start:
                continue
            if start < other.start:
                yield lost._replace(start=start, stop=other.start)
            start = other.stop
        if start < lost.stop:
            yield lost._replace(start=start)


def stored_pieces(reader: ImageReader) -> Iterator[tuple[int, bytes]]:
    """Yield (guest offset, bytes) of everything that is stored, up to a window at once.

    Reads the source forwards where the image stores its blocks in ascending order.
    """
    for extent in reader.extents(0, reader.size):
        if extent.kind is ExtentKind.DATA:
            for offset in range(extent.start, extent.stop, WINDOW_SIZE):
                yield offset, read_bytes(reader, offset, min(WINDOW_SIZE, extent.stop - offset))


def plan_windows(ranges: Iterable[tuple[int, int]], most: int) -> Iterator[list[tuple[int, int]]]:
    """Yield ascending `ranges` in groups that lie within the same `most` bytes; cut as needed."""
    group: list[tuple[int, int]] = []
    limit = 0
    for start, stop in ranges:
        position = start
        while position < stop:
            if position >= limit:
                if group:
                    yield group
                group = []
                limit = (position // most + 1) * most
            end = min(stop, limit)
            group.append((position, end))
            position = end
    if group:
        yield group


def read_guest(reader: ImageReader, view: memoryview, offset: int) -> None:
    """Fill `view` from guest byte `offset` on, or tell which guest bytes cannot be read.

    Raises:
        UnreadableRangeError: the stored bytes cannot give them.
        OSError: the operating system could not read them.
    """
    try:
        reader.read_into(view, offset)
    except FormatError as error:
        start = _first_unreadable(reader, view, offset)
        raise UnreadableRangeError(start, offset + len(view), str(error)) from error
    except OSError as error:
        start = _first_unreadable(reader, view, offset)
        where = f"guest bytes [{start}, {offset + len(view)}) cannot be read"
        raise OSError(error.errno, f"{where}: {error.strerror}", error.filename) from error


def _rescued(
    reader: ImageReader, view: memoryview, ranges: Sequence[tuple[int, int]], filling: int
) -> Iterator[Lost]:
    """Do as `_read_what_can_be` with each used range: what lies between may be unreadable."""
    offset = position = ranges[0][0]
    for start, stop in ranges:
        fill_zero(view[position - offset : start - offset])
        yield from _read_what_can_be(reader, view[start - offset : stop - offset], start, filling)
        position = stop


def _read_what_can_be(
    reader: ImageReader, view: memoryview, offset: int, filling: int
) -> Iterator[Lost]:
    """Fill `view` as far as it can be read, the rest with a byte; yield what is lost.

    Neighbours are joined, with the reason of the first.
    """
    pending: Lost | None = None
    for lost in _failures(reader, view, offset, _PIECE_SIZES):
        view[lost.start - offset : lost.stop - offset] = bytes([filling]) * (lost.stop - lost.start)
        if pending is not None and pending.stop == lost.start:
            pending = pending._replace(stop=lost.stop)
            continue
        if pending is not None:
            yield pending
        pending = lost
    if pending is not None:
        yield pending


def _failures(
    reader: ImageReader, view: memoryview, offset: int, sizes: Sequence[int]
) -> Iterator[Lost]:
    """Fill `view`, and yield what cannot be read, in ever smaller pieces."""
    try:
        reader.read_into(view, offset)
    except (FormatError, OSError) as error:
        if not sizes:
            yield Lost(offset, offset + len(view), str(error))
            return
        size, *smaller = sizes
        # Pieces end where pages do, of whatever the reading goes through.
        position = offset
        while position < offset + len(view):
            end = min(offset + len(view), (position // size + 1) * size)
            yield from _failures(reader, view[position - offset : end - offset], position, smaller)
            position = end


def _first_unreadable(reader: ImageReader, view: memoryview, offset: int) -> int:
    for start in range(0, len(view), _PROBE_SIZE):
        try:
            reader.read_into(view[start : start + _PROBE_SIZE], offset + start)
        except (FormatError, OSError):
            return offset + start
    return offset
