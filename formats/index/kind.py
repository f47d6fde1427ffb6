"""The kinds of index."""

from __future__ import annotations

import enum


class IndexKind(enum.StrEnum):
    """The kinds of index, as the catalog names them."""

    RANK = "rank"
    RANGES = "ranges"
    FULL = "full"
