"""What verification finds."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Damage that verification found.

    Attributes:
        start: first guest byte that is in doubt; None where it is no data, but a structure.
        stop: guest byte after the last, or None. Inside, only used blocks are in doubt.
        detail: what is wrong.
    """

    start: int | None
    stop: int | None
    detail: str
