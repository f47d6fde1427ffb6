"""The range index equals a dict with last write wins, and bounds what it keeps."""

from __future__ import annotations

import contextlib
import itertools
import random
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.formats.index.cache import IndexCache
from imgcat.formats.index.ranges import (
    WINDOW_CLUSTERS,
    ClusterRange,
    RangeBuilder,
    RangeIndex,
    RangeList,
)
from imgcat.formats.index.rank_chunk import ChunkMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STRIDE = 7

# Small numbers, so that they meet.
_ADDED = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 25), st.integers(0, 40)), max_size=40
)


def _built(added: Iterable[tuple[int, int, int]]) -> RangeList:
    builder = RangeBuilder(_STRIDE)
    for each in added:
        builder.add(*each)
    return builder.finish()


def _model(added: Iterable[tuple[int, int, int]]) -> dict[int, int]:
    """Return where each cluster lies; of two copies, the one that was added later."""
    found = {}
    for first, count, offset in added:
        for number in range(count):
            found[first + number] = offset + number * _STRIDE
    return found


def _check(ranges: RangeList, expected: dict[int, int]) -> None:
    assert _model(ranges) == expected
    each = list(ranges)
    for before, after in itertools.pairwise(each):
        assert before.stop <= after.first
        # What can be one range is one.
        assert before.stop < after.first or (
            before.source_offset + before.number * _STRIDE != after.source_offset
        )
    assert all(found.number > 0 for found in each)
    assert ranges.cluster_count == len(expected)


@given(added=_ADDED)
def test_any_order_and_overlap_equals_the_model(added: list[tuple[int, int, int]]) -> None:
    _check(_built(added), _model(added))


@given(
    places=st.lists(st.tuples(st.integers(-5, 40), st.integers(1, 9)), max_size=30), data=st.data()
)
def test_an_image_in_order_equals_the_model(
    places: list[tuple[int, int]], data: st.DataObject
) -> None:
    """As a scan adds: offsets only ever grow, so that neighbours join."""
    added = []
    position, offset = 0, 56
    for skip, count in places:
        position = max(0, position + skip)
        offset += 9 if skip else 0
        added.append((position, count, offset))
        position += count
        offset += count * _STRIDE
    ranges = _built(added)
    _check(ranges, _model(added))
    if all(skip >= 0 for skip, _ in places):
        assert len(ranges) == len([n for n, (skip, _) in enumerate(places) if skip or n == 0])


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ([], []),
        ([(5, 1, 9)], [(5, 1, 9)]),
        ([(0, 2, 10), (2, 3, 24)], [(0, 5, 10)]),
        ([(0, 2, 10), (2, 3, 25)], [(0, 2, 10), (2, 3, 25)]),
        ([(4, 2, 10), (0, 2, 100)], [(0, 2, 100), (4, 2, 10)]),
        # The inside of one is replaced, all of one, and its beginning.
        ([(0, 9, 0), (3, 2, 500)], [(0, 3, 0), (3, 2, 500), (5, 4, 35)]),
        ([(3, 2, 500), (0, 9, 0)], [(0, 9, 0)]),
        ([(5, 5, 0), (3, 4, 500)], [(3, 4, 500), (7, 3, 14)]),
        # The same place twice: the later copy.
        ([(5, 1, 0), (5, 1, 90)], [(5, 1, 90)]),
    ],
)
def test_known_cases(
    added: list[tuple[int, int, int]], expected: list[tuple[int, int, int]]
) -> None:
    assert list(_built(added)) == expected


@given(added=_ADDED, start=st.integers(0, 90), length=st.integers(0, 90))
def test_overlapping_equals_the_model(
    added: list[tuple[int, int, int]], start: int, length: int
) -> None:
    ranges = _built(added)
    stop = start + length
    expected = [each for each in ranges if each.first < stop and each.stop > start]
    found = list(ranges.overlapping(start, stop))
    # Where nothing is asked, a range around it may or may not be given.
    assert found == expected or not length
    assert list(ranges.window(start, stop)) == found


# --- windows -----------------------------------------------------------------------------------

_EDGES = st.integers(0, 4).map(lambda number: number * WINDOW_CLUSTERS)
_NEAR = st.builds(lambda edge, shift: max(0, edge + shift), _EDGES, st.integers(-3, 3))
_ANYWHERE = _NEAR | st.integers(0, 5 * WINDOW_CLUSTERS)
_LENGTHS = st.integers(1, 5) | st.integers(1, 3 * WINDOW_CLUSTERS)


@settings(max_examples=300)
@given(
    added=st.lists(st.tuples(_ANYWHERE, _LENGTHS, st.integers(0, 1 << 40)), max_size=12),
    start=_ANYWHERE,
    length=_LENGTHS,
)
def test_ranges_over_windows_equal_the_list(
    added: list[tuple[int, int, int]], start: int, length: int
) -> None:
    ranges = _built(added)
    asked = []

    def load(first: int, last: int) -> RangeList:
        asked.append((first, last))
        return ranges.window(first, last)

    index = RangeIndex(load, IndexCache(), key=1)
    stop = start + length
    assert not index.resident(start, stop)
    expected = list(ranges.overlapping(start, stop))
    assert list(index.ranges(start, stop)) == expected
    assert index.resident(start, stop)
    windows = range(start // WINDOW_CLUSTERS, -(-stop // WINDOW_CLUSTERS))
    assert asked == [(n * WINDOW_CLUSTERS, (n + 1) * WINDOW_CLUSTERS) for n in windows]
    assert list(index.ranges(start, stop)) == expected
    assert len(asked) == len(windows)


def test_an_index_that_is_gone_is_an_error() -> None:
    def load(first: int, last: int) -> RangeList:
        raise ChunkMissingError(f"[{first}, {last})")

    index = RangeIndex(load, IndexCache(), key=1)
    with pytest.raises(ChunkMissingError):
        list(index.ranges(0, 1))
    assert not index.resident(0, 1)


# --- how much ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    """Let the process have `more` bytes than it has now: beyond, MemoryError is raised."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_million_random_ranges_take_bounded_memory() -> None:
    count = 1_000_000
    rng = random.Random(1)
    builder = RangeBuilder(4097)
    last: dict[int, int] = {}
    for number in range(count):
        first = rng.randrange(2 * count)
        builder.add(first, 1, number * 4106)
        last[first] = number * 4106
    # 24 bytes each for what comes out, as much again while it grows, and 8 for the order.
    with _memory_limit(96 * count):
        ranges = builder.finish()
    assert ranges.cluster_count == len(last)
    assert list(ranges.firsts) == sorted(last)
    assert all(last[first] == offset for first, _number, offset in ranges)


def test_the_cache_bounds_what_an_index_keeps() -> None:
    total = 64 * WINDOW_CLUSTERS
    ranges = RangeList.of((n, 1, n * 600) for n in range(0, total, 2))
    cache = IndexCache(budget=1 << 20)
    index = RangeIndex(ranges.window, cache, key=1)
    count = sum(1 for _ in index.ranges(0, total))
    assert count == total // 2
    assert 0 < cache.weight <= 1 << 20


def test_stop_is_the_cluster_after_the_last() -> None:
    assert ClusterRange(5, 3, 0).stop == 8
