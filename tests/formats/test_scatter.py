"""Scatter reads equal a naive model, whatever the groups, and take as few reads as they can."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.formats.errors import TruncatedImageError
from imgcat.formats.stored import scatter as scatter_module
from imgcat.formats.stored.scatter import Scatter, fill_zero
from support.memory_source import Call, CountingSource, MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable

_STORED = bytes((n * 7 + n // 251 * 13 + n // 65_536) % 256 for n in range(400_000))


class _Piece(NamedTuple):
    """`length` bytes that begin `skip` bytes behind the piece before."""

    skip: int
    length: int
    source_offset: int
    within: int
    group: int
    gap: int


def _pieces() -> st.SearchStrategy[list[_Piece]]:
    def piece(group: int, gap: int) -> st.SearchStrategy[_Piece]:
        longest = min(6000, 40 * group)
        return st.builds(
            _Piece,
            skip=st.integers(0, 3) | st.integers(0, 3000),
            length=st.integers(0, longest) | st.integers(0, min(60_000, 3 * group)),
            source_offset=st.integers(0, 100_000),
            within=st.integers(0, group - 1),
            group=st.just(group),
            gap=st.just(gap),
        )

    groups = st.integers(1, 40) | st.sampled_from((512, 1000, 4096, 16_383, 16_384, 20_000))
    gaps = st.integers(0, 5) | st.sampled_from((16, 63, 64, 65, 100))
    return st.lists(st.tuples(groups, gaps).flatmap(lambda both: piece(*both)), max_size=5)


def _model(pieces: list[_Piece], tail: int) -> bytes:
    """Copy byte after byte."""
    out = bytearray()
    for piece in pieces:
        out += bytes(piece.skip)
        offset, within = piece.source_offset, piece.within
        for _ in range(piece.length):
            out.append(_STORED[offset])
            offset += 1
            within += 1
            if within == piece.group:
                within = 0
                offset += piece.gap
    return bytes(out) + bytes(tail)


def _fits(pieces: list[_Piece]) -> bool:
    return all(
        each.source_offset + each.length + (each.length // each.group + 1) * each.gap < len(_STORED)
        for each in pieces
    )


def _plan(view: memoryview, pieces: list[_Piece], junk: int) -> Scatter:
    scatter = Scatter(view, junk)
    position = 0
    for skip, length, *rest in pieces:
        position += skip
        scatter.grouped(position, position + length, *rest)
        position += length
    scatter.finish()
    return scatter


@settings(max_examples=150)
@given(pieces=_pieces().filter(_fits), tail=st.integers(0, 50), junk=st.sampled_from((0, 1, 64)))
@pytest.mark.parametrize("waiting", [True, False])
def test_groups_equal_the_model(waiting: bool, pieces: list[_Piece], tail: int, junk: int) -> None:
    expected = _model(pieces, tail)
    source = MemorySource(_STORED)
    buffer = bytearray(b"\xaa" * (len(expected) + 8))
    scatter = _plan(memoryview(buffer)[4:-4], pieces, junk)
    if waiting:
        scatter.read(source)
    else:
        assert scatter.read_nowait(source)
    assert bytes(buffer[4:-4]) == expected
    assert buffer[:4] == buffer[-4:] == b"\xaa" * 4


@pytest.mark.parametrize(
    ("group", "gap", "length", "within", "copies"),
    [
        (512, 1, 8 * 512, 0, 0),
        (512, 1, 8 * 512 + 1, 0, 1),
        (512, 1, 64 * 512, 511, 1),
        (16_383, 1, 9 * 16_383, 5, 1),
        (16_384, 1, 9 * 16_384, 5, 0),
    ],
)
def test_one_read_for_a_run_of_groups(
    group: int, gap: int, length: int, within: int, copies: int
) -> None:
    source = CountingSource(MemorySource(_STORED))
    pieces = [_Piece(0, length, 1000, within, group, gap)]
    buffer = bytearray(length)
    scatter = _plan(memoryview(buffer), pieces, 64)
    assert len(scatter.copies) == copies
    scatter.read(source)
    stored = length + (within + length - 1) // group * gap
    assert source.calls == [Call("readv", 1000, stored)]
    assert bytes(buffer) == _model(pieces, 0)


def test_a_gap_larger_than_the_junk_is_two_reads() -> None:
    pieces = [_Piece(0, 40_000, 7, 0, 20_000, 65)]
    source = CountingSource(MemorySource(_STORED))
    buffer = bytearray(40_000)
    _plan(memoryview(buffer), pieces, 64).read(source)
    assert source.calls == [Call("readv", 7, 20_000), Call("readv", 20_072, 20_000)]
    assert bytes(buffer) == _model(pieces, 0)


def test_more_small_groups_than_the_scratch_holds() -> None:
    """Each piece has a buffer of its own all the same."""
    size = scatter_module._SCRATCH_SIZE // 3
    stored = MemorySource(_STORED * 8)
    pieces = [_Piece(1, size, number * 11, 0, 512, 1) for number in range(5)]
    buffer = bytearray(5 * (size + 1))
    _plan(memoryview(buffer), pieces, 0).read(stored)
    for number in range(5):
        at = number * (size + 1)
        whole = (_STORED * 8)[number * 11 :]
        expected = b"".join(whole[n * 513 : n * 513 + 512] for n in range(size // 512 + 1))
        assert buffer[at : at + 1] == b"\0"
        assert buffer[at + 1 : at + 1 + size] == expected[:size]


@pytest.mark.parametrize("group", [512, 20_000])
def test_beyond_the_end_is_an_error_or_left_to_waiting(group: int) -> None:
    pieces = [_Piece(0, 50_000, len(_STORED) - 10_000, 0, group, 1)]
    scatter = _plan(memoryview(bytearray(50_000)), pieces, 64)
    source = MemorySource(_STORED)
    with pytest.raises(TruncatedImageError):
        scatter.read(source)
    assert not scatter.read_nowait(source)


def test_threads_have_a_scratch_each() -> None:
    def work(seed: int) -> bool:
        pieces = [_Piece(0, 30_000, seed * 1000, seed % 512, 512, 1)]
        expected = _model(pieces, 0)
        for _ in range(50):
            buffer = bytearray(30_000)
            _plan(memoryview(buffer), pieces, 64).read(MemorySource(_STORED))
            if bytes(buffer) != expected:
                return False
        return True

    _in_threads(work)


def _in_threads(work: Callable[[int], bool]) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_fill_zero(size: int) -> None:
    buffer = bytearray(b"\xaa" * (size + 2))
    fill_zero(memoryview(buffer)[1:-1])
    assert buffer == b"\xaa" + bytes(size) + b"\xaa"
