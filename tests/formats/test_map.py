"""Maps: what is packed into chunks comes out as it was, whatever it is."""

from __future__ import annotations

import random

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.index.cache import IndexCache
from imgcat.formats.index.map import MapIndex, MapKind, MapRun, pack_chunk, unpack_chunk
from imgcat.formats.index.map_chunk import CHUNK_UNITS, MapChunk

UNIT = 4096

units = st.lists(
    st.tuples(st.sampled_from(list(MapKind)), st.integers(0, 3), st.integers(0, 2)),
    min_size=1,
    max_size=60,
)


def arrays(
    cells: list[tuple[MapKind, int, int]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return columns of units: stored ones lie one behind the other now and then."""
    kinds = np.array([kind for kind, _jump, _length in cells], np.uint8)
    offsets = np.zeros(len(cells), np.uint64)
    lengths = np.zeros(len(cells), np.uint32)
    place = 0
    for number, (kind, jump, length) in enumerate(cells):
        if kind >= MapKind.DATA:
            place += UNIT * jump if kind == MapKind.DATA else 0
            offsets[number] = place
            place += UNIT if kind == MapKind.DATA and not jump else 0
        if kind == MapKind.COMPRESSED:
            lengths[number] = 100 + length
    return kinds, offsets, lengths


@given(cells=units)
def test_every_unit_comes_out_as_it_was_packed(cells: list[tuple[MapKind, int, int]]) -> None:
    kinds, offsets, lengths = arrays(cells)
    chunk = pack_chunk(3, kinds, offsets, lengths, UNIT)
    if not kinds.any():
        assert chunk is None
        return
    assert chunk is not None
    runs = unpack_chunk(chunk)
    base = 3 * CHUNK_UNITS
    found = [(0, 0, 0)] * len(cells)
    for run in map(runs.run, range(len(runs.firsts))):
        for unit in range(run.first, run.stop):
            step = UNIT * (unit - run.first) if run.kind == MapKind.DATA else 0
            found[unit - base] = (run.kind, run.offset + step, run.length)
    expected = [
        (int(kind), int(offset) if kind >= MapKind.DATA else 0, int(length))
        for kind, offset, length in zip(kinds, offsets, lengths, strict=True)
    ]
    assert found == expected


def test_what_lies_in_order_is_one_run() -> None:
    count = CHUNK_UNITS
    kinds = np.full(count, MapKind.DATA, np.uint8)
    offsets = np.arange(count, dtype=np.uint64) * np.uint64(UNIT) + np.uint64(1 << 40)
    chunk = pack_chunk(0, kinds, offsets, np.zeros(count, np.uint32), UNIT)
    assert chunk is not None
    runs = unpack_chunk(chunk)
    assert runs.run(0) == MapRun(0, count, MapKind.DATA, 1 << 40, 0)
    assert len(runs.firsts) == 1
    assert len(chunk.runs) < 64


def test_runs_and_single_runs_of_any_range() -> None:
    rng = random.Random(1)
    cells = [(rng.choice(list(MapKind)), rng.randrange(3), 0) for _ in range(2 * CHUNK_UNITS)]
    kinds, offsets, lengths = arrays(cells)
    chunks = {}
    for number in range(2):
        part = slice(number * CHUNK_UNITS, (number + 1) * CHUNK_UNITS)
        chunks[number] = pack_chunk(number, kinds[part], offsets[part], lengths[part], UNIT)
    index = MapIndex(chunks.get, IndexCache(), 1)
    for _ in range(500):
        start = rng.randrange(2 * CHUNK_UNITS)
        stop = min(2 * CHUNK_UNITS, start + rng.randrange(1, 9))
        is_loaded = index.resident(start, stop)
        single = index.single_run(start, stop)
        runs = list(index.runs(start, stop))
        covered = {unit: run for run in runs for unit in range(run.first, run.stop)}
        for unit in range(start, stop):
            run = covered.get(unit)
            assert (MapKind.ABSENT if run is None else run.kind) == kinds[unit]
        if single is not None:
            assert set(kinds[start:stop]) == {single.kind}
            assert single.first <= start < stop <= single.stop
            assert single.kind == MapKind.ABSENT or runs == [single]
        elif is_loaded:
            assert len(runs) > 1 or runs[0].first > start or runs[0].stop < stop


def test_a_chunk_without_runs_is_all_absent() -> None:
    index = MapIndex(lambda _number: None, IndexCache(), 1)
    assert index.single_run(0, 1) is None
    assert list(index.runs(0, 10)) == []
    found = index.single_run(5, 9)
    assert found is not None
    assert found.kind == MapKind.ABSENT


@pytest.mark.parametrize(
    "stored",
    [
        b"nonsense",
        zstandard.compress(b"123"),
        zstandard.compress(b"\x05\x00\x02\x00\x01" + bytes(12)),
        zstandard.compress(b"\x00\x00\x02\x00\x09" + bytes(12)),
        zstandard.compress(b"\x00\x00\xff\xff\x01" + bytes(12)),
        zstandard.compress(bytes(1 << 24)),
    ],
)
def test_a_damaged_chunk_is_refused_by_name(stored: bytes) -> None:
    with pytest.raises(CorruptImageError, match="add the image again with --force"):
        unpack_chunk(MapChunk(0, stored))
