"""The rank index equals the naive model, for every bitmap, and bounds what it keeps."""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.index import rank as rank_module
from imgcat.formats.index.cache import IndexCache
from imgcat.formats.index.rank import (
    _FEW_BLOCKS,
    NONE_PRESENT,
    NOT_UNIFORM,
    RANK_STRIDE,
    ChunkBuilder,
    FullIndex,
    RankIndex,
    Run,
    block_of_rank,
    mask_padding,
    popcount,
)
from imgcat.formats.index.rank_chunk import CHUNK_BLOCKS, CHUNK_BYTES, ChunkMissingError, RankChunk
from support import naive_bitmap
from support.partclone_writer import pack_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


def _index(
    total_blocks: int, chunks: Sequence[RankChunk], cache: IndexCache | None = None, key: int = 1
) -> RankIndex:
    return RankIndex(total_blocks, chunks.__getitem__, cache or IndexCache(), key)


def _built(present: Sequence[bool], *, ones_in_padding: bool = False) -> list[RankChunk]:
    builder = ChunkBuilder(len(present))
    builder.add(pack_bits(present, ones_in_padding=ones_in_padding))
    assert builder.present_blocks == sum(present)
    return builder.chunks


def _warm(index: RankIndex) -> None:
    """Unpack every chunk."""
    for block in range(0, index.total_blocks, CHUNK_BLOCKS):
        index.rank(block)


def _expected_uniform(present: Sequence[bool], start: int, stop: int) -> int:
    if all(present[start:stop]):
        return naive_bitmap.rank(present, start)
    return NOT_UNIFORM if any(present[start:stop]) else NONE_PRESENT


# --- against the naive model -------------------------------------------------------------------


@given(data=st.data(), present=naive_bitmap.bitmaps(), ones_in_padding=st.booleans())
def test_small_bitmap_equals_the_model(
    data: st.DataObject, present: list[bool], ones_in_padding: bool
) -> None:
    total = len(present)
    chunks = _built(present, ones_in_padding=ones_in_padding)
    index = _index(total, chunks)

    block = data.draw(st.integers(0, total - 1), label="block")
    assert index.rank(block) == naive_bitmap.rank(present, block)

    start, stop = data.draw(naive_bitmap.ranges(total), label="range")
    assert list(index.runs(start, stop)) == naive_bitmap.runs(present, start, stop)

    start, stop = data.draw(naive_bitmap.ranges(total, min_length=1), label="non-empty range")
    assert index.uniform_rank(start, stop) == _expected_uniform(present, start, stop)

    used = [number for number in range(total) if present[number]]
    if used:
        rank = data.draw(st.integers(0, len(used) - 1), label="rank")
        assert block_of_rank(chunks, total, rank) == used[rank]
    with pytest.raises(ValueError, match=f"^no block has rank {len(used)}$"):
        block_of_rank(chunks, total, len(used))


@given(present=naive_bitmap.bitmaps(max_pieces=3, max_piece=70))
def test_every_range_of_a_tiny_bitmap(present: list[bool]) -> None:
    total = len(present)
    index = _index(total, _built(present))
    _warm(index)
    for start in range(total):
        assert index.rank(start) == naive_bitmap.rank(present, start)
        for stop in range(start + 1, min(total, start + 20) + 1):
            assert index.uniform_rank(start, stop) == _expected_uniform(present, start, stop)
            assert list(index.runs(start, stop)) == naive_bitmap.runs(present, start, stop)


@pytest.mark.parametrize(
    ("kind", "span", "path"),
    [
        # Up to two strides, the runs are found in an integer unless there are many of them.
        ("empty", _FEW_BLOCKS, "integer"),
        ("full", _FEW_BLOCKS, "integer"),
        ("alternating", 96, "integer"),
        ("alternating", 98, "numpy"),
        ("noise", _FEW_BLOCKS, "numpy"),
        ("full", _FEW_BLOCKS + 1, "numpy"),
        ("empty", _FEW_BLOCKS + 1, "numpy"),
    ],
)
@pytest.mark.parametrize("shift", [0, 1, 7, RANK_STRIDE - 1])
def test_both_ways_to_find_runs(
    monkeypatch: pytest.MonkeyPatch, kind: str, span: int, path: str, shift: int
) -> None:
    calls = []
    original = rank_module._LoadedChunk._many_runs

    def spy(chunk: rank_module._LoadedChunk, low: int, high: int) -> list[Run]:
        calls.append((low, high))
        return original(chunk, low, high)

    monkeypatch.setattr(rank_module._LoadedChunk, "_many_runs", spy)
    present = [True] * shift + naive_bitmap.texture(kind, span) + [True] * 5
    index = _index(len(present), _built(present))
    start, stop = shift, shift + span

    assert list(index.runs(start, stop)) == naive_bitmap.runs(present, start, stop)
    assert bool(calls) == (path == "numpy")


@given(present=naive_bitmap.bitmaps(max_pieces=4, max_piece=300), data=st.data())
def test_both_ways_to_find_runs_agree(present: list[bool], data: st.DataObject) -> None:
    start, stop = data.draw(naive_bitmap.ranges(len(present), min_length=1))
    chunk = rank_module._LoadedChunk(0, 0, pack_bits(present))
    assert chunk._many_runs(start, stop) == chunk.runs(start, stop)


# --- across the borders of chunks --------------------------------------------------------------


def _large(seed: int, total: int) -> npt.NDArray[np.bool_]:
    """Return a bitmap of long runs and of noise, both across the borders of chunks."""
    rng = np.random.default_rng(seed)
    present = np.zeros(total, dtype=np.bool_)
    position = 0
    while position < total:
        length = int(rng.integers(1, 300_000))
        kind = rng.integers(0, 3)
        if kind == 1:
            present[position : position + length] = True
        elif kind == 2:
            piece = present[position : position + length]
            piece[:] = rng.random(len(piece)) < rng.choice([0.01, 0.5, 0.99])
        position += length
    return present


def _model_runs(
    present: npt.NDArray[np.bool_], ranks: npt.NDArray[np.int64], start: int, stop: int
) -> list[Run]:
    edges = np.flatnonzero(np.diff(present[start:stop].astype(np.int8), prepend=0, append=0))
    bounds = (edges + start).tolist()
    first_ranks = ranks[bounds[::2]].tolist()
    return [Run(*run) for run in zip(bounds[::2], bounds[1::2], first_ranks, strict=True)]


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 1 << 32),
    total=st.integers(CHUNK_BLOCKS + 1, 2 * CHUNK_BLOCKS + 70_000),
    piece=st.sampled_from((CHUNK_BYTES, 2 * CHUNK_BYTES, 8 * CHUNK_BYTES)),
)
@example(seed=1, total=2 * CHUNK_BLOCKS, piece=CHUNK_BYTES)
@example(seed=2, total=CHUNK_BLOCKS + 1, piece=8 * CHUNK_BYTES)
@example(seed=3, total=CHUNK_BLOCKS + 8, piece=8 * CHUNK_BYTES)
def test_large_bitmap_equals_the_model(seed: int, total: int, piece: int) -> None:
    present = _large(seed, total)
    packed = np.packbits(present, bitorder="little").tobytes()
    # Pad bits are set, as writers leave them.
    packed = packed[:-1] + bytes([packed[-1] | (0xFF << ((total - 1) % 8 + 1)) & 0xFF])
    builder = ChunkBuilder(total)
    for start in range(0, len(packed), piece):
        builder.add(memoryview(packed)[start : start + piece])
    ranks = np.concatenate(([0], np.cumsum(present)))
    used = np.flatnonzero(present)
    index = _index(total, builder.chunks)

    assert builder.present_blocks == len(used)
    assert [chunk.number for chunk in builder.chunks] == list(range(-(-total // CHUNK_BLOCKS)))
    assert [chunk.rank for chunk in builder.chunks] == ranks[:total:CHUNK_BLOCKS].tolist()
    assert list(index.runs(0, total)) == _model_runs(present, ranks, 0, total)

    rng = random.Random(seed)
    near_borders = [
        min(total - 1, border + delta)
        for border in range(0, total, CHUNK_BLOCKS)
        for delta in (-1, 0, 1)
        if border + delta >= 0
    ]
    for block in near_borders + [rng.randrange(total) for _ in range(200)]:
        assert index.rank(block) == ranks[block]
    for _ in range(60):
        start = max(0, rng.choice(near_borders) - rng.choice((0, 1, 8, 3000, 100_000)))
        stop = min(total, start + rng.choice((1, 9, 4096, 5000, 200_000)))
        assert list(index.runs(start, stop)) == _model_runs(present, ranks, start, stop)
        counted = int(ranks[stop] - ranks[start])
        if start // CHUNK_BLOCKS != (stop - 1) // CHUNK_BLOCKS:
            assert index.uniform_rank(start, stop) == NOT_UNIFORM
        elif counted in {0, stop - start}:
            assert index.uniform_rank(start, stop) == (ranks[start] if counted else NONE_PRESENT)
        else:
            assert index.uniform_rank(start, stop) == NOT_UNIFORM
    for rank in [0, len(used) - 1, *(rng.randrange(len(used)) for _ in range(10))]:
        assert block_of_rank(builder.chunks, total, rank) == used[rank]
    with pytest.raises(ValueError, match=f"^no block has rank {len(used)}$"):
        block_of_rank(builder.chunks, total, len(used))


@pytest.mark.parametrize("is_present", [True, False])
def test_uniform_bitmap_is_one_run_or_none_across_chunks(*, is_present: bool) -> None:
    total = 2 * CHUNK_BLOCKS + 3
    builder = ChunkBuilder(total)
    builder.add((b"\xff" if is_present else b"\0") * (2 * CHUNK_BYTES + 1))
    index = _index(total, builder.chunks)
    assert builder.present_blocks == (total if is_present else 0)
    assert list(index.runs(0, total)) == ([Run(0, total, 0)] if is_present else [])
    assert list(index.runs(CHUNK_BLOCKS - 1, CHUNK_BLOCKS + 1)) == (
        [Run(CHUNK_BLOCKS - 1, CHUNK_BLOCKS + 1, CHUNK_BLOCKS - 1)] if is_present else []
    )


# --- bits --------------------------------------------------------------------------------------


@given(bits=st.binary(max_size=40), data=st.data())
def test_mask_padding_clears_what_is_behind(bits: bytes, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 8 * len(bits)))
    masked = mask_padding(bits, count)
    value = int.from_bytes(bits, "little") & ((1 << count) - 1)
    assert len(masked) == len(bits)
    assert int.from_bytes(masked, "little") == value


@given(bits=st.binary(max_size=70))
def test_popcount_counts_the_ones(bits: bytes) -> None:
    expected = sum(byte >> bit & 1 for byte in bits for bit in range(8))
    assert popcount(bits) == expected
    assert popcount(memoryview(bits)) == expected


# --- what is loaded, and what is kept ----------------------------------------------------------


def test_nothing_is_loaded_before_it_is_asked() -> None:
    present = naive_bitmap.texture("noise", 3000)
    chunks = _built(present)
    loads: list[int] = []

    def load(number: int) -> RankChunk:
        loads.append(number)
        return chunks[number]

    index = RankIndex(len(present), load, IndexCache(), key=1)
    assert not index.resident(0, 3000)
    assert index.uniform_rank(0, 1) == NOT_UNIFORM
    assert loads == []

    list(index.runs(10, 20))
    assert loads == [0]
    assert index.resident(0, 3000)
    index.rank(2999)
    list(index.runs(0, 3000))
    assert index.uniform_rank(0, 3000) == NOT_UNIFORM
    assert loads == [0]


def test_an_empty_range_needs_nothing() -> None:
    index = _index(3000, _built([True] * 3000))
    assert index.resident(5, 5)
    assert list(index.runs(5, 5)) == []
    assert not index.resident(5, 6)


def test_only_the_touched_chunks_are_loaded() -> None:
    total = 4 * CHUNK_BLOCKS
    builder = ChunkBuilder(total)
    builder.add(b"\x55" * (4 * CHUNK_BYTES))
    loads: list[int] = []

    def load(number: int) -> RankChunk:
        loads.append(number)
        return builder.chunks[number]

    index = RankIndex(total, load, IndexCache(), key=1)
    list(index.runs(CHUNK_BLOCKS, 2 * CHUNK_BLOCKS))
    assert loads == [1]
    list(index.runs(2 * CHUNK_BLOCKS - 1, 2 * CHUNK_BLOCKS + 1))
    assert loads == [1, 2]
    assert index.resident(CHUNK_BLOCKS, 3 * CHUNK_BLOCKS)
    assert not index.resident(CHUNK_BLOCKS - 1, CHUNK_BLOCKS)
    assert not index.resident(3 * CHUNK_BLOCKS - 1, 3 * CHUNK_BLOCKS + 1)


def test_a_chunk_that_is_gone_is_reported() -> None:
    def load(number: int) -> RankChunk:
        raise ChunkMissingError(number)

    index = RankIndex(100, load, IndexCache(), key=1)
    with pytest.raises(ChunkMissingError):
        index.rank(5)
    with pytest.raises(ChunkMissingError):
        list(index.runs(0, 5))
    assert index.uniform_rank(0, 5) == NOT_UNIFORM


def _loaded(seed: int, stride_count: int) -> rank_module._LoadedChunk:
    return rank_module._LoadedChunk(0, 0, random.Random(seed).randbytes(256 * stride_count))


@given(
    budget=st.integers(0, 40_000),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 40)), max_size=60),
)
def test_cache_never_outgrows_its_budget(budget: int, steps: list[tuple[bool, int, int]]) -> None:
    cache = IndexCache(budget)
    model: dict[tuple[int, int], rank_module._LoadedChunk] = {}  # least recently used first
    for is_put, number, stride_count in steps:
        key = (number % 2, number)
        if is_put:
            chunk = _loaded(number, stride_count)
            cache.put(key, chunk)
            model.pop(key, None)
            model[key] = chunk
            while sum(each.weight for each in model.values()) > budget and len(model) > 1:
                del model[next(iter(model))]
        else:
            found = cache.get(key)
            assert found is model.get(key)
            if found is not None:
                model[key] = model.pop(key)
        assert cache.weight == sum(each.weight for each in model.values())
        assert cache.weight <= budget or len(model) == 1


def test_least_recently_used_chunk_goes_first() -> None:
    chunks = [_loaded(number, 4) for number in range(3)]
    cache = IndexCache(budget=2 * chunks[0].weight)
    cache.put((1, 0), chunks[0])
    cache.put((1, 1), chunks[1])
    assert cache.get((1, 0)) is chunks[0]
    cache.put((1, 2), chunks[2])
    assert cache.get((1, 1)) is None
    assert cache.get((1, 0)) is chunks[0]
    assert cache.get((1, 2)) is chunks[2]


def test_weight_is_not_less_than_what_the_bits_take() -> None:
    assert _loaded(1, 40).weight >= 256 * 40 * 3 // 2


def test_two_indexes_share_a_cache_and_stay_apart() -> None:
    cache = IndexCache()
    full = _index(100, _built([True] * 100), cache, key=1)
    empty = _index(100, _built([False] * 100), cache, key=2)
    for _ in range(2):
        assert list(full.runs(0, 100)) == [Run(0, 100, 0)]
        assert list(empty.runs(0, 100)) == []


def test_threads_share_a_cache_too_small_for_them() -> None:
    total = 4 * CHUNK_BLOCKS
    present = _large(7, total)
    ranks = np.concatenate(([0], np.cumsum(present)))
    builder = ChunkBuilder(total)
    builder.add(np.packbits(present, bitorder="little").tobytes())
    cache = IndexCache(budget=200_000)
    index = _index(total, builder.chunks, cache)

    def work(seed: int) -> bool:
        rng = random.Random(seed)
        blocks = [rng.randrange(total) for _ in range(300)]
        return all(index.rank(block) == ranks[block] for block in blocks)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert cache.weight <= 200_000


def test_full_index_has_every_block() -> None:
    index = FullIndex(1 << 50)
    assert index.rank(1 << 49) == 1 << 49
    assert index.uniform_rank(5, 1 << 50) == 5
    assert index.resident(0, 1 << 50)
    assert list(index.runs(3, 1 << 50)) == [Run(3, 1 << 50, 3)]
    assert list(index.runs(3, 3)) == []


# --- stored chunks that are not what was stored ------------------------------------------------


def _compress(data: bytes, *, write_content_size: bool = True) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=write_content_size)
    return compressor.compress(data)


def _bomb_header() -> bytes:
    """Return a frame that names a content of 2^60 bytes."""
    return b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 60).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "rank_chunk @0x0: error when determining content size: add it again"),
        (b"\x28\xb5\x2f\xfd", "rank_chunk @0x0: error when determining content size: add it again"),
        (b"not a zstd frame", "rank_chunk @0x0: error when determining content size: add it again"),
        (_compress(bytes(374)), "rank_chunk @0x0: unpacks to 374 bytes, not 375: add it again"),
        (_compress(bytes(376)), "rank_chunk @0x0: unpacks to 376 bytes, not 375: add it again"),
        (_compress(b""), "rank_chunk @0x0: unpacks to 0 bytes, not 375: add it again"),
        (_bomb_header(), f"rank_chunk @0x0: unpacks to {1 << 60} bytes, not 375: add it again"),
        (
            _compress(bytes(375), write_content_size=False),
            "rank_chunk @0x0: unpacks to -1 bytes, not 375: add it again",
        ),
    ],
)
def test_corrupted_chunk_is_refused_by_name(frame: bytes, message: str) -> None:
    index = _index(3000, [RankChunk(0, 0, frame)])
    for ask in (lambda: index.rank(7), lambda: list(index.runs(0, 3000))):
        with pytest.raises(CorruptImageError) as caught:
            ask()
        assert str(caught.value) == message


def test_truncated_chunk_is_refused_at_every_length() -> None:
    frame = _built(naive_bitmap.texture("noise", 3000))[0].bitmap
    for length in range(len(frame)):
        with pytest.raises(CorruptImageError):
            _index(3000, [RankChunk(0, 0, frame[:length])]).rank(7)


@given(frame=st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(_compress)))
def test_any_bytes_for_a_chunk_raise_only_the_documented_error(frame: bytes) -> None:
    index = _index(100, [RankChunk(0, 0, frame)])
    try:
        index.rank(99)
    except CorruptImageError:
        return
    assert len(zstandard.ZstdDecompressor().decompress(frame)) == 13


def test_changed_bytes_of_a_chunk_raise_only_the_documented_error() -> None:
    frame = _built(naive_bitmap.texture("alternating", 300) + [True] * 9000)[0].bitmap
    for position in range(len(frame)):
        for flip in (0x01, 0x10, 0x80, 0xFF):
            changed = bytearray(frame)
            changed[position] ^= flip
            index = _index(9300, [RankChunk(0, 0, bytes(changed))])
            with contextlib.suppress(CorruptImageError):
                list(index.runs(0, 9300))
