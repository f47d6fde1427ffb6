"""The parts that an image is made of, each opened or loaded when it is first touched.

A part that cannot be opened spoils only its own bytes. For any number of threads.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import FormatError, TruncatedImageError, UnreadablePartError
from ..extent import Extent, data, unreadable, zero
from ..index.cache import IndexCache
from ..reader import stored_ranges
from ..sources.place import Place
from ..stored.scatter import fill_zero

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..reader import ImageReader

_REMEMBERED = 1.0
"""Seconds for which it is not tried again to open what could not be opened."""


class Part(Protocol):
    """Bytes of a part, counted from its own beginning."""

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from byte `offset` on. It may block. Raises as `ImageReader.read_into`."""

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` if that needs no waiting; else return False."""

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents of bytes ``[start, stop)``. It may block, and raises nothing."""

    def close(self) -> None:
        """Close what was opened. Closing twice is harmless."""


class _Loaded(NamedTuple):
    """Literal bytes in a cache."""

    data: bytes

    @property
    def weight(self) -> int:
        """Bytes that it takes."""
        return len(self.data)


class Literal:
    """Literal bytes, loaded when they are first read. A `Part`, and a `ByteSource`.

    Args:
        size: how many they are.
        load: returns them; it may block.
        cache: where they are kept.
        key: what tells them from others in the cache.
    """

    def __init__(
        self, size: int, load: Callable[[], bytes], cache: IndexCache, key: tuple[int, int]
    ) -> None:
        self._size = size
        self._load = load
        self._cache = cache
        self._key = key

    @classmethod
    def of(cls, data: bytes) -> Literal:
        """Return literal bytes that are in memory."""
        return cls(len(data), lambda: data, IndexCache(), (0, 0))

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._size

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from byte `offset` on; see `Part`."""
        view[:] = self.read_at(offset, len(view))

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` if the bytes are loaded; see `Part`."""
        loaded: _Loaded | None = self._cache.get(self._key)
        if loaded is None:
            return False
        view[:] = loaded.data[offset : offset + len(view)]
        return True

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield one extent; see `Part`."""
        yield data(start, stop, self, start)

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource`."""
        for buffer in buffers:
            self.read_into(buffer, offset)
            offset += len(buffer)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers` if the bytes are loaded; see `ByteSource`."""
        for buffer in buffers:
            if not self.read_into_nowait(buffer, offset):
                return False
            offset += len(buffer)
        return True

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes; see `ByteSource`."""
        loaded: _Loaded | None = self._cache.get(self._key)
        if loaded is None:
            loaded = _Loaded(self._load())
            self._cache.put(self._key, loaded)
        piece = loaded.data[offset : offset + length]
        if len(piece) < length:
            raise TruncatedImageError("literal", len(loaded.data), "the bytes end here")
        return piece

    def place(self, offset: int) -> Place:  # noqa: ARG002 - see `ByteSource`
        """Tell of no file: they are in the catalog."""
        return Place()

    def close(self) -> None:
        """Do nothing: what is loaded is the cache's."""


class Child:
    """An image that is part of another, opened when it is first touched. A `Part`.

    Behind its end are zeros.

    Args:
        name: what an error calls it.
        open_child: opens it. It is called from any thread, and again a while after it has raised;
            what it returns is closed with this.
    """

    def __init__(self, name: str, open_child: Callable[[], ImageReader]) -> None:
        self.name = name
        self._open_child = open_child
        # A lock for each, so that one that takes long to open does not stop the others.
        self._lock = threading.Lock()
        self._reader: ImageReader | None = None
        self._error: FormatError | OSError | None = None
        self._failed_at = 0.0

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` of the child on; see `Part`."""
        reader = self._opened()
        stored = _within(reader, offset, len(view))
        if stored:
            reader.read_into(view[:stored], offset)
        fill_zero(view[stored:])

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` if the child is open, and need not wait; see `Part`."""
        reader = self._reader
        if reader is None:
            return False
        stored = _within(reader, offset, len(view))
        if stored and not reader.read_into_nowait(view[:stored], offset):
            return False
        fill_zero(view[stored:])
        return True

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield what the child has; unreadable from where it cannot tell any more. See `Part`."""
        position = start
        try:
            reader = self._opened()
            end = max(start, min(stop, reader.size))
            for extent in reader.extents(start, end) if start < end else ():
                reason = extent.reason and f"{self.name}: {extent.reason}"
                yield extent.of_child(reader)._replace(reason=reason)
                position = extent.stop
        except (FormatError, OSError) as error:
            # Its index may be damaged further on.
            yield unreadable(position, stop, None, position, _reason(self.name, error))
            return
        if end < stop:
            yield zero(end, stop)

    def stored_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield what is stored, or cannot be told any more; see `reader.stored_ranges`."""
        position = start
        try:
            reader = self._opened()
            end = max(start, min(stop, reader.size))
            for first, last in stored_ranges(reader, start, end) if start < end else ():
                yield first, last
                position = last
        except (FormatError, OSError):
            yield position, stop

    def close(self) -> None:
        """Close the child if it is open."""
        if self._reader is not None:
            self._reader.close()

    def _opened(self) -> ImageReader:
        with self._lock:
            if self._error is not None and time.monotonic() - self._failed_at < _REMEMBERED:
                # Without the traceback, which otherwise grows with every read.
                raise self._error.with_traceback(None)
            if self._reader is None:
                try:
                    self._reader = self._open_child()
                except (FormatError, OSError) as error:
                    self._error, self._failed_at = error, time.monotonic()
                    raise
                self._error = None
            return self._reader


def _within(reader: ImageReader, offset: int, length: int) -> int:
    """Return how many of `length` bytes from `offset` on the image reaches."""
    return max(0, min(length, reader.size - offset))


def _reason(name: str, error: FormatError | OSError) -> str:
    if isinstance(error, UnreadablePartError):
        return str(error)
    return f"{name}: {error}"
