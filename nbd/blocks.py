"""What a client is told of the blocks of an image: which are data, and which holes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ..formats.extent import ExtentKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..formats.extent import Extent

HOLE_AND_ZERO = 3
"""NBD_STATE_HOLE and NBD_STATE_ZERO of the protocol, as nbdkit numbers them too."""

_DATA = 0
_MOST_BLOCKS = 4096
"""Told at once: a client asks on from where an answer ends."""

_MOST_SECONDS = 0.05
_LOOK_EVERY = 256
"""Extents, between two looks at the clock."""


class Block(NamedTuple):
    """Guest bytes of one kind, as nbdkit takes them. `kind` is 0 for data."""

    offset: int
    length: int
    kind: int


def blocks_of(
    extents: Iterable[Extent], *, only_one: bool = False, seconds: float = _MOST_SECONDS
) -> list[Block]:
    """Return the blocks that adjacent extents are, neighbours of a kind as one.

    What cannot be read is data: reading it says what is wrong. The answer may end before the
    extents do, where going over all of them would take too long.

    Args:
        extents: what the image is made of.
        only_one: the first block is enough.
        seconds: about how long it may take, as long as there is an answer.
    """
    found: list[Block] = []
    start = stop = 0
    kind = -1
    deadline = time.monotonic() + seconds
    for number, extent in enumerate(extents, 1):
        this = HOLE_AND_ZERO if extent.kind is ExtentKind.ZERO else _DATA
        if this != kind:
            if kind >= 0:
                found.append(Block(start, stop - start, kind))
                if only_one or len(found) >= _MOST_BLOCKS:
                    return found
            start, kind = extent.start, this
        stop = extent.stop
        if number % _LOOK_EVERY == 0 and time.monotonic() > deadline:
            break
    if kind >= 0:
        found.append(Block(start, stop - start, kind))
    return found
