"""Decoding what a reader will want next, while it is not asked for yet.

Who reads only tells how far it has got, which touches nothing but memory. Where the spans lie that
follow, and what of them is decoded already, is found out by the threads that decode ahead.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ..errors import FormatError
from ..index.rank_chunk import ChunkMissingError
from ..sources.pages import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .decoders import Decoding

log = logging.getLogger("imgcat.formats")

LOCKED_TOGETHER = 8 << 20
"""Spans so close to each other are decoded one after the other: who decodes one to its end goes on
into the next, and the next one need not be begun anew."""

_NEAR = 2 << 20
"""Reads follow each other where one begins so close to where another has ended: several are under
way at once, and come in any order."""

_FOLLOWING = 2
"""So many reads in a row make a reader one that goes on."""

_AHEAD = 24 << 20
"""Plain bytes that are decoded ahead of such a reader: of two spans at the same time."""

_SHARE = 4
"""No more is decoded ahead of one reader than this part of all decoded pages that are kept."""

_PLAN_STEP = 1 << 20
"""Plain bytes that a reader goes on by before it is looked again what comes next."""

_STEP = 1 << 20
"""Plain bytes that are decoded ahead at once, before others get their turn."""


class LookAhead:
    """Where one stream is read, and what is decoded ahead of that. For any number of threads.

    Args:
        key: what the stream's pages are kept under.
        size: plain bytes that can be read.
        span_at: returns the span ``[start, stop)`` that a plain offset lies in; it may wait.
        decode: decodes a page, and those after it up to a plain byte, into the cache.
        decoding: what decoded sources share.
    """

    def __init__(
        self,
        key: int,
        size: int,
        span_at: Callable[[int], tuple[int, int]],
        decode: Callable[[int, int], object],
        decoding: Decoding,
    ) -> None:
        self._key = key
        self._size = size
        self._span_at = span_at
        self._decode = decode
        self._decoding = decoding
        self._reached = -2 * _NEAR
        self._streak = 0
        self._plan_due = 0
        self._is_planned = False
        self._is_closed = False
        self._planning = threading.Lock()
        self._fetching: set[int] = set()

    def note(self, offset: int, stop: int) -> None:
        """Take note that plain bytes ``[offset, stop)`` were read. Touches only memory."""
        if abs(offset - self._reached) > _NEAR:
            self._reached = stop
            self._streak = 0
            self._plan_due = 0
            return
        self._reached = max(stop, self._reached)
        self._streak += 1
        is_due = self._streak >= _FOLLOWING and self._reached >= self._plan_due
        if is_due and not self._is_planned and self._reached < self._size:
            self._is_planned = True
            if not self._decoding.plan_ahead(self._plan):
                self._is_planned = False

    def close(self) -> None:
        """Wait until nothing is planned any more, and plan nothing from now on."""
        self._is_closed = True
        with self._planning:
            pass

    def _plan(self) -> None:
        """Have decoded what comes next, as far as there are threads for it."""
        try:
            with self._planning:
                # Before what is looked at: a reader that jumps meanwhile wants another plan.
                at = self._reached
                self._plan_due = at + _PLAN_STEP
                if not self._is_closed and not self._begin(at):
                    self._plan_due = 0
        except (FormatError, OSError, ChunkMissingError, MemoryError) as error:
            # Who reads that is told.
            log.debug("planning ahead of the reader: %s", error)
        finally:
            self._is_planned = False

    def _begin(self, at: int) -> bool:
        """Begin to decode what follows plain byte `at`; tell whether there were threads for all."""
        ahead = min(_AHEAD, self._decoding.pages.budget // _SHARE)
        limit = min(self._size, at + ahead)
        while at < limit:
            start, end = self._span_at(at)
            group = start // LOCKED_TOGETHER
            end = min(limit, max(end, (group + 1) * LOCKED_TOGETHER))
            last = (self._key, (end - 1) // PAGE_SIZE)
            if group not in self._fetching and self._decoding.pages.get(last) is None:
                self._fetching.add(group)
                if not self._decoding.run_ahead(self._fetch, group, at, end):
                    self._fetching.discard(group)
                    return False
            at = end
        return True

    def _fetch(self, group: int, start: int, stop: int) -> None:
        """Decode plain bytes ``[start, stop)`` of a group of spans into the cache."""
        try:
            for number in range(start // PAGE_SIZE, -(-stop // PAGE_SIZE)):
                if self._is_closed:
                    return
                offset = number * PAGE_SIZE
                if offset + PAGE_SIZE > self._reached:
                    self._decode(number, min(stop, offset + _STEP))
        except (FormatError, OSError, ChunkMissingError, MemoryError) as error:
            # Who reads them is told.
            log.debug("ahead of the reader, at %d: %s", start, error)
        finally:
            self._fetching.discard(group)
