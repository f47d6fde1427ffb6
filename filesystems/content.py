"""The bytes of a file in an image: read by its runs from the image itself, or from the worker."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from ..formats.extent import Extent, ExtentKind, unreadable, zero
from ..formats.reader import check_range
from .errors import DamagedError
from .worker.wire import LOST, ZEROS

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator, Mapping

    from ..formats.reader import ImageReader

    Read = Callable[[int, int], bytes]

_AT_ONCE = 1 << 20


class FileContent:
    """A file, by its runs. An `ImageReader`: any number of threads may read at once.

    Args:
        reader: reads the volume.
        size: bytes of the file.
        starts: where each run begins in the file; the first at 0, ascending. The last one ends
            where the file does.
        places: where its first byte lies in the volume, or `ZEROS`, or `LOST`.
        name: the file, for messages.
        reasons: why bytes are lost, by the number of the run, of some runs.
    """

    def __init__(
        self,
        reader: ImageReader,
        size: int,
        starts: array[int],
        places: array[int],
        name: str,
        reasons: Mapping[int, str],
    ) -> None:
        self._reader = reader
        self._name = name
        self._reasons = reasons
        self._starts = starts
        self._places = places
        self.size = size

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the runs in ``[start, stop)``: start, stop, and place, as `places` has them.

        Raises:
            ValueError: not ``0 <= start <= stop <= size``.
        """
        check_range(start, stop, self.size)
        starts = self._starts
        number = bisect.bisect_right(starts, start) - 1
        while start < stop:
            behind = starts[number + 1] if number + 1 < len(starts) else stop
            end = min(behind, stop)
            place = self._places[number]
            yield start, end, place if place < 0 else place + start - starts[number]
            start = end
            number += 1

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield what bytes ``[start, stop)`` are made of: `source` is the image's reader."""
        for first, behind, place in self.runs(start, stop):
            if place == LOST:
                yield unreadable(first, behind, self, first, self._why(first))
                continue
            if place == ZEROS:
                yield zero(first, behind)
                continue
            shift = first - place
            for each in self._reader.extents(place, place + behind - first):
                below = each.of_child(self._reader)
                yield below._replace(start=each.start + shift, stop=each.stop + shift)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with bytes from `offset` on; see `ImageReader.read_into`.

        Raises:
            DamagedError: some of them are lost; what the view holds then is nothing.
        """
        for first, behind, place in self.runs(offset, offset + len(view)):
            piece = view[first - offset : behind - offset]
            if place == LOST:
                raise DamagedError(self._name, first, self._why(first))
            if place == ZEROS:
                _clear(piece)
            else:
                self._reader.read_into(piece, place)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` if that needs no waiting; else return False."""
        for first, behind, place in self.runs(offset, offset + len(view)):
            piece = view[first - offset : behind - offset]
            if place == LOST:
                raise DamagedError(self._name, first, self._why(first))
            if place == ZEROS:
                _clear(piece)
            elif not self._reader.read_into_nowait(piece, place):
                return False
        return True

    def _why(self, offset: int) -> str:
        """Return why a byte is lost, and which others with it."""
        number = bisect.bisect_right(self._starts, offset) - 1
        start = self._starts[number]
        stop = self._starts[number + 1] if number + 1 < len(self._starts) else self.size
        why = self._reasons.get(number, "what tells where they are is damaged")
        return f"bytes [{start}, {min(stop, self.size)}) are lost: {why}"

    def close(self) -> None:
        """Do nothing: the image is the volume's."""


class WorkerContent:
    """A file whose bytes lie nowhere as they are: the worker gives them. An `ImageReader`.

    Args:
        size: bytes of the file.
        read: asks the worker for bytes, by offset and length.
    """

    def __init__(self, size: int, read: Read) -> None:
        self._read = read
        self.size = size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield one extent of bytes that have no place of their own."""
        check_range(start, stop, self.size)
        if start < stop:
            yield Extent(start, stop, ExtentKind.COMPRESSED, self, start, stop - start)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with bytes from `offset` on; see `ImageReader.read_into`."""
        check_range(offset, offset + len(view), self.size)
        have = 0
        while have < len(view):
            data = self._read(offset + have, min(_AT_ONCE, len(view) - have))
            view[have : have + len(data)] = data
            have += len(data)

    def read_into_nowait(self, _view: memoryview, _offset: int) -> bool:
        """Return False: the worker must be asked."""
        return False

    def close(self) -> None:
        """Do nothing: the worker is the volume's."""


def _clear(view: memoryview) -> None:
    view[:] = bytes(len(view))
