"""What a client is told of the blocks of an image: which are data, and which holes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA = 0
HOLE_AND_ZERO = 3
"""NBD_STATE_HOLE and NBD_STATE_ZERO of the protocol, as nbdkit numbers them too."""

_MOST_BLOCKS = 4096
"""Told at once: a client asks on from where an answer ends."""

_MOST_SECONDS = 0.05
_LOOK_EVERY = 256
"""Ranges, between two looks at the clock."""


class Block(NamedTuple):
    """Guest bytes of one kind, as nbdkit takes them."""

    offset: int
    length: int
    kind: int


def blocks_of(
    stored: Iterable[tuple[int, int]],
    start: int,
    stop: int,
    *,
    only_one: bool = False,
    seconds: float = _MOST_SECONDS,
) -> list[Block]:
    """Return the blocks from guest byte `start` on, neighbours of a kind as one.

    What is stored is data, also where it cannot be read: reading it says what is wrong. The answer
    may end before `stop`, where going over all of it would take too long.

    Args:
        stored: ascending ranges inside of ``[start, stop)`` that are not zeros; they may touch.
        start: the first guest byte.
        stop: the guest byte after the last.
        only_one: the first block is enough.
        seconds: about how long it may take, as long as there is an answer.
    """
    found: list[Block] = []
    # Of the data at the end of what was gone over, which the next range may continue.
    began = ended = start
    deadline = time.monotonic() + seconds
    for number, (first, last) in enumerate(stored, 1):
        if first > ended:
            if began < ended:
                found.append(Block(began, ended - began, DATA))
            found.append(Block(ended, first - ended, HOLE_AND_ZERO))
            if only_one or len(found) >= _MOST_BLOCKS:
                return found[:1] if only_one else found
            began = first
        ended = last
        if number % _LOOK_EVERY == 0 and time.monotonic() > deadline:
            stop = ended
            break
    if began < ended:
        found.append(Block(began, ended - began, DATA))
    if ended < stop:
        found.append(Block(ended, stop - ended, HOLE_AND_ZERO))
    return found[:1] if only_one else found
