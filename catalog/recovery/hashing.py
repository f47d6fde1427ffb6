"""Hashes of pieces: read in the order of the disk, much at a time, in a few threads."""

from __future__ import annotations

import collections
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from ...filesystems.of_one_file import OF_ONE_FILE
from .runs import HASH_SIZE, NO_HASH, PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from ...formats.reader import ImageReader

    Put = Callable[[int, bytes], None]
    Tell = Callable[[str], None]

_WINDOW = 4 << 20
_GAP = PIECE
"""Bytes between two runs that are read with them: that takes less time than to begin anew."""

_THREADS = 2
"""One reads while what the other has read is hashed."""

_AHEAD = 2 * _THREADS


class _Job(NamedTuple):
    place: int
    length: int
    piece: int


def hash_of(data: memoryview | bytes) -> bytes:
    """Return the hash of a piece."""
    return xxhash.xxh3_128_digest(data)


def hashes_of(data: memoryview) -> bytes:
    """Return the hashes of the pieces of a run, one after the other."""
    return b"".join(hash_of(data[at : at + PIECE]) for at in range(0, len(data), PIECE))


class Hasher:
    """Hashes runs of a volume, while whoever has them looks for more.

    Args:
        reader: reads the volume; of any number of threads.
        put: takes the hashes of some pieces, by the number of the first; of any thread.
        tell: told what cannot be read; those pieces have `NO_HASH`.
    """

    def __init__(self, reader: ImageReader, put: Put, tell: Tell) -> None:
        self._reader = reader
        self._put = put
        self._tell = tell
        self._local = threading.local()
        self._pending: collections.deque[Future[list[str]]] = collections.deque()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="hash")

    def add(self, runs: Iterable[tuple[int, int, int]]) -> None:
        """Hash some runs; waits for those before, if they are many.

        Args:
            runs: place, length and number of the first piece of each, by their places.

        Raises:
            Exception: what reading raises that is not about some bytes only.
        """
        for window in _windows(_jobs(runs)):
            self._pending.append(
                self._pool.submit(_hash_window, self._reader, window, self._put, self._local)
            )
            if len(self._pending) >= _AHEAD:
                self._take()

    def finish(self) -> None:
        """Wait until all are hashed. Raises as `add`."""
        while self._pending:
            self._take()

    def close(self) -> None:
        """End the threads; what is not hashed yet will not be."""
        self._pool.shutdown(cancel_futures=True)

    def _take(self) -> None:
        for problem in self._pending.popleft().result():
            self._tell(problem)


def _jobs(runs: Iterable[tuple[int, int, int]]) -> Iterator[_Job]:
    """Yield runs, long ones in parts of whole pieces."""
    for place, length, piece in runs:
        for at in range(0, length, _WINDOW):
            yield _Job(place + at, min(_WINDOW, length - at), piece + at // PIECE)


def _windows(jobs: Iterable[_Job]) -> Iterator[list[_Job]]:
    """Yield what is read at once."""
    window: list[_Job] = []
    start = stop = 0
    for job in jobs:
        behind = max(stop, job.place + job.length)
        if window and (
            # Of bytes that several files share, a part may lie before what is read already.
            job.place < start or job.place - stop > _GAP or behind - start > _WINDOW
        ):
            yield window
            window = []
        if not window:
            start, behind = job.place, job.place + job.length
        window.append(job)
        stop = behind
    if window:
        yield window


def _hash_window(
    reader: ImageReader, window: list[_Job], put: Put, local: threading.local
) -> list[str]:
    """Hash what is read at once; return what cannot be read of it."""
    start = window[0].place
    stop = max(job.place + job.length for job in window)
    if not hasattr(local, "buffer"):
        local.buffer = memoryview(bytearray(_WINDOW))
    view = local.buffer[: stop - start]
    try:
        reader.read_into(view, start)
    except OF_ONE_FILE:
        return _hash_readable(reader, window, put)
    first, found = window[0].piece, bytearray()
    for job in window:
        if job.piece != first + len(found) // HASH_SIZE:
            put(first, bytes(found))
            first, found = job.piece, bytearray()
        at = job.place - start
        found += hashes_of(view[at : at + job.length])
    put(first, bytes(found))
    return []


def _hash_readable(reader: ImageReader, window: list[_Job], put: Put) -> list[str]:
    """Hash what can be read of a window, piece by piece; return what cannot."""
    problems = []
    view = memoryview(bytearray(PIECE))
    for job in window:
        for at in range(0, job.length, PIECE):
            piece = view[: min(PIECE, job.length - at)]
            try:
                reader.read_into(piece, job.place + at)
            except OF_ONE_FILE as error:
                problems.append(f"no hash of {len(piece)} bytes at {job.place + at}: {error}")
                put(job.piece + at // PIECE, NO_HASH)
            else:
                put(job.piece + at // PIECE, hash_of(piece))
    return problems
