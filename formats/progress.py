"""How long work tells what it has done, and goes on from there another time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

Progress = Callable[[int], None]
"""Takes the number of bytes that are done so far."""


def _go_on(_position: int) -> None:
    """Go on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """A stage of work that may be ended in its middle, and gone on with another time.

    Attributes:
        begin: a position that `reached` was told: all before it is done, and was told then; 0 at
            the beginning.
        reached: takes a position as soon as all before it is done; what it raises ends the work.
            Work that cannot be gone on with never calls it.
        is_right: nothing that is wrong was found before.
    """

    begin: int = 0
    reached: Progress = _go_on
    is_right: bool = True


WHOLE = Stage()
"""All of the work at once."""
