"""What a client is told of the blocks of an image."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from imgcat.nbd.blocks import DATA, HOLE_AND_ZERO, blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP = 64


@given(st.sets(st.integers(0, STOP - 1)), st.booleans())
def test_blocks_are_the_ranges_and_what_lies_between(stored: set[int], only_one: bool) -> None:
    ranges = [(number, number + 1) for number in sorted(stored)]
    found = blocks_of(ranges, 0, STOP, only_one=only_one)
    kinds = {
        number: block.kind
        for block in found
        for number in range(block.offset, block.offset + block.length)
    }
    assert kinds == {
        number: DATA if number in stored else HOLE_AND_ZERO for number in range(len(kinds))
    }
    assert all(
        before.offset + before.length == after.offset and before.kind != after.kind
        for before, after in itertools.pairwise(found)
    )
    assert len(found) == 1 if only_one else len(kinds) == STOP


def test_a_long_walk_is_cut_off() -> None:
    def endless() -> Iterator[tuple[int, int]]:
        for number in itertools.count():
            yield number, number + 1

    (block,) = blocks_of(endless(), 0, 1 << 60, seconds=0.01)
    assert block.offset == 0
    assert 0 < block.length < 1 << 40
    assert block.kind == DATA


def test_so_is_an_answer_of_many_blocks() -> None:
    ranges = ((number, number + 1) for number in range(0, 1 << 30, 2))
    found = blocks_of(ranges, 0, 1 << 30)
    assert 1000 < len(found) < 10_000
