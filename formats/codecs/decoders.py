"""What the decoded sources of a process share: decoded pages, and decoders that can go on."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING

from ..index.cache import IndexCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .seek_points import SeekPoint

_PAGE_BUDGET = 96 << 20
_DECODER_BUDGET = 64 << 20
_MOST_DECODERS = 12


class LiveDecoder:
    """A decoder that stands somewhere in a stream.

    Args:
        owner: whose stored bytes it reads; nobody else may use it, for they are closed with that.
        point: where it began.
        pieces: what the codec yields from there.
        weight: bytes that the codec's decoder takes without a window.

    Attributes:
        position: the plain byte that comes next.
        weight: bytes that it takes.
    """

    def __init__(
        self, owner: object, point: SeekPoint, pieces: Iterator[bytes], weight: int
    ) -> None:
        self.owner = owner
        self.position = point.plain_offset
        # It keeps the window twice: as it was given, and as its own buffer.
        self.weight = weight + 2 * point.window_size
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the stream's end."""
        if not self._rest:
            piece = next(self._pieces, b"")
            if len(piece) == size:
                # As it mostly is: blocks of 128 KiB are what many compressors make.
                self.position += size
                return piece
            self._rest = memoryview(piece)
        parts = []
        missing = size
        while missing:
            if not self._rest:
                piece = next(self._pieces, b"")
                if not piece:
                    break
                self._rest = memoryview(piece)
            part = self._rest[:missing]
            self._rest = self._rest[len(part) :]
            missing -= len(part)
            parts.append(part)
        self.position += size - missing
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def skip(self, size: int) -> None:
        """Decode `size` bytes that nobody wants."""
        while size and (part := self.read(min(size, 1 << 20))):
            size -= len(part)


class Decoding:
    """Pages and decoders, each within a budget of bytes. For any number of threads.

    Args:
        page_budget: bytes of decoded pages.

    Attributes:
        pages: decoded pages by (stream's key, page), and their hashes.
        limiter: to be held while something is decoded, so that not more runs than processors do.
    """

    def __init__(self, page_budget: int = _PAGE_BUDGET) -> None:
        self.pages = IndexCache(page_budget)
        processors = len(os.sched_getaffinity(0))
        self.limiter = threading.BoundedSemaphore(processors)
        self._processors = processors
        self._running_ahead = 0
        self._ahead: concurrent.futures.ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._decoders: collections.OrderedDict[int, LiveDecoder] = collections.OrderedDict()
        self._weight = 0

    def take(self, owner: object, origin: int, target: int) -> LiveDecoder | None:
        """Return the decoder of a source that stands closest before `target`, for use alone.

        Args:
            owner: the source.
            origin: a new decoder would begin there, so one that stands before is of no use.
            target: the plain byte that is wanted.
        """
        with self._lock:
            fitting = [
                decoder
                for decoder in self._decoders.values()
                if decoder.owner is owner and origin <= decoder.position <= target
            ]
            if not fitting:
                return None
            best = max(fitting, key=lambda decoder: decoder.position)
            del self._decoders[id(best)]
            self._weight -= best.weight
            return best

    def put_back(self, decoder: LiveDecoder) -> None:
        """Let a decoder wait until somebody wants what comes next."""
        with self._lock:
            self._decoders[id(decoder)] = decoder
            self._weight += decoder.weight
            while len(self._decoders) > 1 and (
                self._weight > _DECODER_BUDGET or len(self._decoders) > _MOST_DECODERS
            ):
                self._weight -= self._decoders.popitem(last=False)[1].weight

    def forget(self, owner: object) -> None:
        """Let go of the decoders of a source."""
        with self._lock:
            for number in [n for n, each in self._decoders.items() if each.owner is owner]:
                self._weight -= self._decoders.pop(number).weight

    def run_ahead(
        self, function: Callable[[int, int, int], None], group: int, start: int, stop: int
    ) -> bool:
        """Have a thread of its own decode what a reader will want next.

        Returns:
            Whether there was one to do it: no more run than there are processors.
        """
        with self._lock:
            if self._running_ahead >= self._processors:
                return False
            self._running_ahead += 1
            executor = self._threads()
        future = executor.submit(function, group, start, stop)
        future.add_done_callback(self._ended_ahead)
        return True

    def plan_ahead(self, function: Callable[[], None]) -> None:
        """Have one of the same threads find out what is to be decoded next, as soon as one is free.

        Does not wait itself.
        """
        with self._lock:
            executor = self._threads()
        executor.submit(function).add_done_callback(_raised)

    def _threads(self) -> concurrent.futures.ThreadPoolExecutor:
        if self._ahead is None:
            self._ahead = concurrent.futures.ThreadPoolExecutor(
                self._processors, thread_name_prefix="decode-ahead"
            )
        return self._ahead

    def _ended_ahead(self, future: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._running_ahead -= 1
        _raised(future)


def _raised(future: concurrent.futures.Future[None]) -> None:
    # What went wrong is told to whoever reads; anything else is a fault of ours, and is logged.
    future.result()
