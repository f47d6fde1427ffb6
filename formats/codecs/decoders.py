"""What the decoded sources of a process share: decoded pages, and decoders that can go on."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import threading
from typing import TYPE_CHECKING

from ..index.cache import IndexCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .seek_points import SeekPoint

PAGE_BUDGET = 96 << 20
DECODER_BUDGET = 64 << 20
RUNNING_BUDGET = 512 << 20
"""Bytes of decoders that run at the same time: one for each processor, if they are that small."""

_MOST_DECODERS = 12

_NICENESS = 5
"""How much less urgent decoding ahead is than what is waited for."""


class LiveDecoder:
    """A decoder that stands somewhere in a stream.

    Args:
        owner: whose stored bytes it reads; nobody else may use it, for they are closed with that.
        point: where it began.
        pieces: what the codec yields from there.
        weight: bytes that the codec's decoder takes; see `Codec.weight`.

    Attributes:
        position: the plain byte that comes next.
        weight: bytes that it takes.
    """

    def __init__(
        self, owner: object, point: SeekPoint, pieces: Iterator[bytes], weight: int
    ) -> None:
        self.owner = owner
        self.position = point.plain_offset
        self.weight = weight
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
        decoder_budget: bytes of decoders that wait.
        running_budget: bytes of decoders that run at the same time. A single one may be larger.
        looks_ahead: decode what a reader will want next; of no use for a few samples.

    Attributes:
        pages: decoded pages by (stream's key, page), and their hashes.
    """

    def __init__(
        self,
        page_budget: int = PAGE_BUDGET,
        decoder_budget: int = DECODER_BUDGET,
        running_budget: int = RUNNING_BUDGET,
        *,
        looks_ahead: bool = True,
    ) -> None:
        self.pages = IndexCache(page_budget)
        self._looks_ahead = looks_ahead
        self._decoder_budget = decoder_budget
        self._running_budget = running_budget
        self._running = 0
        processors = len(os.sched_getaffinity(0))
        self._limiter = threading.BoundedSemaphore(processors)
        self._processors = processors
        self._running_ahead = 0
        self._ahead: concurrent.futures.ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._has_ended = threading.Condition(self._lock)
        self._decoders: collections.OrderedDict[int, LiveDecoder] = collections.OrderedDict()
        self._weight = 0

    @contextlib.contextmanager
    def turn(self, weight: int) -> Iterator[None]:
        """Wait until a decoder may run that takes so many bytes.

        No more do than there are processors, and is memory for.
        Decoders that wait are let go of where there is not enough for this one beside them.
        """
        with self._limiter:
            with self._lock:
                while self._running and self._running + weight > self._running_budget:
                    self._has_ended.wait()
                self._running += weight
                most = self._running_budget + self._decoder_budget
                while self._decoders and self._running + self._weight > most:
                    self._weight -= self._decoders.popitem(last=False)[1].weight
            try:
                yield
            finally:
                with self._lock:
                    self._running -= weight
                    self._has_ended.notify_all()

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
            self._drop_surplus()

    def shrink(self, page_budget: int, decoder_budget: int, running_budget: int) -> None:
        """Have other budgets from now on, and drop what is beyond them."""
        self.pages.shrink(page_budget)
        with self._lock:
            self._decoder_budget = decoder_budget
            self._running_budget = running_budget
            self._drop_surplus()

    def _drop_surplus(self) -> None:
        while len(self._decoders) > 1 and (
            self._weight > self._decoder_budget or len(self._decoders) > _MOST_DECODERS
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
        try:
            future = executor.submit(function, group, start, stop)
        except RuntimeError:
            # No thread can be started: who reads decodes for itself.
            with self._lock:
                self._running_ahead -= 1
            return False
        future.add_done_callback(self._ended_ahead)
        return True

    def plan_ahead(self, function: Callable[[], None]) -> bool:
        """Have one of the same threads find out what is to be decoded next, as soon as one is free.

        Does not wait itself. False where nothing is, or no thread can be started.
        """
        if not self._looks_ahead:
            return False
        with self._lock:
            executor = self._threads()
        try:
            executor.submit(function).add_done_callback(_raised)
        except RuntimeError:
            return False
        return True

    def _threads(self) -> concurrent.futures.ThreadPoolExecutor:
        if self._ahead is None:
            self._ahead = concurrent.futures.ThreadPoolExecutor(
                self._processors, thread_name_prefix="decode-ahead", initializer=_give_way
            )
        return self._ahead

    def _ended_ahead(self, future: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._running_ahead -= 1
        _raised(future)


def _give_way() -> None:
    """Let others run before this thread: nobody waits yet for what it decodes.

    Not by much: while it holds the interpreter's lock, others wait for it.
    """
    with contextlib.suppress(OSError):
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def _raised(future: concurrent.futures.Future[None]) -> None:
    # What went wrong is told to whoever reads; anything else is a fault of ours, and is logged.
    future.result()
