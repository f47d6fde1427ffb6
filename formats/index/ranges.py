"""Range index: which clusters a format without a bitmap stores, and where.

The clusters that lie side by side both in the guest and in the image are one `ClusterRange`. The
ranges of an image are kept sorted and apart from each other; a `RangeIndex` loads those of a
*window* of `WINDOW_CLUSTERS` clusters when one of them is first asked for, and keeps it in an
`IndexCache`. So opening an image loads nothing, and memory is bounded however fragmented it is.

All cluster ranges are half-open, ``[start, stop)``. An index may be used from several threads at
once.
"""

from __future__ import annotations

import array
import bisect
import heapq
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .cache import IndexCache

WINDOW_CLUSTERS = 1 << 14
"""Clusters in a window."""


class ClusterRange(NamedTuple):
    """`number` clusters from `first` on; `source_offset` is the first byte of the first one.

    The others follow at the format's stride.
    """

    first: int
    number: int
    source_offset: int

    @property
    def stop(self) -> int:
        """The cluster after the last."""
        return self.first + self.number


class RangeIndexLike(Protocol):
    """What a reader asks of a range index."""

    def ranges(self, start: int, stop: int) -> Iterator[ClusterRange]:
        """Yield the stored ranges that overlap ``[start, stop)``, ascending, not cut to it."""

    def resident(self, start: int, stop: int) -> bool:
        """Tell whether `ranges` over ``[start, stop)`` needs nothing but memory."""


class RangeBuilder:
    """Collects stored clusters in the order of the image, and gives sorted ranges.

    Args:
        stride: bytes from one cluster's first byte to the next one's.
    """

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._firsts = array.array("q")
        self._counts = array.array("q")
        self._offsets = array.array("q")
        self._is_sorted = True

    def add(self, first: int, count: int, source_offset: int) -> None:
        """Append `count` clusters from `first` on, the first of them at `source_offset`."""
        if self._firsts:
            stop = self._firsts[-1] + self._counts[-1]
            if first == stop and (
                source_offset == self._offsets[-1] + self._counts[-1] * self._stride
            ):
                self._counts[-1] += count
                return
            if first < stop:
                self._is_sorted = False
        self._firsts.append(first)
        self._counts.append(count)
        self._offsets.append(source_offset)

    def finish(self) -> RangeList:
        """Return the ranges, sorted; of a cluster that is stored twice, the later copy."""
        ranges = RangeList(self._firsts, self._counts, self._offsets)
        if self._is_sorted:
            return ranges
        return RangeList.of(_last_wins(ranges, self._stride))


class RangeList:
    """Ranges in three arrays of 64-bit numbers: 24 bytes each."""

    def __init__(
        self, firsts: array.array[int], counts: array.array[int], offsets: array.array[int]
    ) -> None:
        self.firsts = firsts
        self.counts = counts
        self.offsets = offsets

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int, int]]) -> RangeList:
        """Return a list of (first cluster, count, source offset)."""
        firsts, counts, offsets = (array.array("q") for _ in range(3))
        for first, count, offset in ranges:
            firsts.append(first)
            counts.append(count)
            offsets.append(offset)
        return cls(firsts, counts, offsets)

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self.firsts)

    def __iter__(self) -> Iterator[ClusterRange]:
        """Yield the ranges."""
        return map(ClusterRange, self.firsts, self.counts, self.offsets)

    @property
    def cluster_count(self) -> int:
        """The number of clusters in all ranges."""
        return sum(self.counts)

    @property
    def weight(self) -> int:
        """Bytes that the list takes, about."""
        return 512 + 24 * len(self.firsts)

    def overlapping(self, start: int, stop: int) -> Iterator[ClusterRange]:
        """Yield the ranges that overlap ``[start, stop)``, ascending; they must be sorted."""
        number = max(0, bisect.bisect_right(self.firsts, start) - 1)
        for position in range(number, len(self.firsts)):
            first = self.firsts[position]
            if first >= stop:
                return
            count = self.counts[position]
            if first + count > start:
                yield ClusterRange(first, count, self.offsets[position])

    def window(self, start: int, stop: int) -> RangeList:
        """Return the ranges that overlap ``[start, stop)``, as a store of ranges would."""
        return RangeList.of(self.overlapping(start, stop))


class RangeIndex:
    """The range index of one image.

    Args:
        load: returns the sorted ranges that overlap ``[start, stop)`` clusters, or raises
            `ChunkMissingError`; it may block.
        cache: where loaded windows are kept.
        key: what tells this index from others in the cache.
    """

    def __init__(self, load: Callable[[int, int], RangeList], cache: IndexCache, key: int) -> None:
        self._load = load
        self._cache = cache
        self._key = key

    def resident(self, start: int, stop: int) -> bool:
        """Tell whether every window of clusters ``[start, stop)`` is in the cache."""
        return all(
            self._cache.get((self._key, number)) is not None
            for number in range(start // WINDOW_CLUSTERS, -(-stop // WINDOW_CLUSTERS))
        )

    def ranges(self, start: int, stop: int) -> Iterator[ClusterRange]:
        """Yield the stored ranges that overlap ``[start, stop)``, ascending, not cut to it.

        Raises:
            ChunkMissingError: the index is gone from where it was kept.
        """
        reached = start
        while start < stop:
            number = start // WINDOW_CLUSTERS
            edge = min(stop, (number + 1) * WINDOW_CLUSTERS)
            for found in self._window(number).overlapping(start, edge):
                # One that crosses windows is in both.
                if found.stop > reached:
                    yield found
                    reached = found.stop
            start = edge

    def _window(self, number: int) -> RangeList:
        key = (self._key, number)
        window: RangeList | None = self._cache.get(key)
        if window is None:
            start = number * WINDOW_CLUSTERS
            window = self._load(start, start + WINDOW_CLUSTERS)
            self._cache.put(key, window)
        return window


def _last_wins(ranges: RangeList, stride: int) -> Iterator[ClusterRange]:
    """Yield sorted ranges that do not overlap; where some do, the last of them is taken.

    A sweep over the clusters, with the numbers of the ranges that cover the present one in a heap,
    the latest first: n log n for n ranges. Besides the heap, it takes 8 bytes for each range.
    """
    firsts, counts, offsets = ranges.firsts, ranges.counts, ranges.offsets
    ordered = array.array("q", np.argsort(np.frombuffer(firsts, np.int64)).tobytes())
    covering: list[int] = []
    pending: ClusterRange | None = None
    upcoming = position = 0
    while upcoming < len(ordered) or covering:
        if not covering:
            position = firsts[ordered[upcoming]]
        while upcoming < len(ordered) and firsts[ordered[upcoming]] <= position:
            heapq.heappush(covering, -ordered[upcoming])
            upcoming += 1
        while covering and firsts[-covering[0]] + counts[-covering[0]] <= position:
            heapq.heappop(covering)
        if not covering:
            continue
        latest = -covering[0]
        first, stop, offset = firsts[latest], firsts[latest] + counts[latest], offsets[latest]
        if upcoming < len(ordered):
            stop = min(stop, firsts[ordered[upcoming]])
        found = ClusterRange(position, stop - position, offset + (position - first) * stride)
        position = stop
        if pending is None:
            pending = found
        elif pending.stop == found.first and (
            found.source_offset == pending.source_offset + pending.number * stride
        ):
            pending = pending._replace(number=pending.number + found.number)
        else:
            yield pending
            pending = found
    if pending is not None:
        yield pending
