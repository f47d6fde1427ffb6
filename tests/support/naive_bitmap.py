"""The naive model of a presence bitmap: one boolean per block, plain loops."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from imgcat.formats.index.rank import Run

if TYPE_CHECKING:
    from collections.abc import Sequence


def rank(present: Sequence[bool], block: int) -> int:
    """Return how many blocks before `block` are present."""
    return sum(present[:block])


def runs(present: Sequence[bool], start: int, stop: int) -> list[Run]:
    """Return the maximal runs of present blocks inside ``[start, stop)``."""
    found = []
    block_rank = rank(present, start)
    block = start
    while block < stop:
        if not present[block]:
            block += 1
            continue
        first = block
        while block < stop and present[block]:
            block += 1
        found.append(Run(first, block, block_rank))
        block_rank += block - first
    return found


def texture(kind: str, length: int, seed: int = 0) -> list[bool]:
    """Return `length` blocks that are all ``full``, all ``empty``, ``alternating`` or ``noise``."""
    if kind == "noise":
        rng = random.Random(seed)
        return [rng.random() < 0.5 for _ in range(length)]
    return [{"full": True, "empty": False, "alternating": i % 2 == 0}[kind] for i in range(length)]


@st.composite
def bitmaps(draw: st.DrawFn, *, max_pieces: int = 8, max_piece: int = 900) -> list[bool]:
    """Draw a bitmap of one block at least: pieces of different textures, one after the other."""
    pieces = draw(
        st.lists(
            st.tuples(
                st.sampled_from(("full", "empty", "alternating", "noise")),
                st.integers(1, max_piece),
                st.integers(0, 9),
            ),
            min_size=1,
            max_size=max_pieces,
        )
    )
    return [bit for piece in pieces for bit in texture(*piece)]


@st.composite
def ranges(draw: st.DrawFn, total: int, *, min_length: int = 0) -> tuple[int, int]:
    """Draw a range ``[start, stop)`` inside ``[0, total)`` of at least `min_length`."""
    start = draw(st.integers(0, total - min_length))
    return start, draw(st.integers(start + min_length, total))
