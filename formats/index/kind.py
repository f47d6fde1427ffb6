"""The kinds of index."""

from __future__ import annotations

import enum


class IndexKind(enum.StrEnum):
    """The kinds of index, as the catalog names them.

    RANK: a bitmap says which blocks are stored, one after the other.
    RANGES: runs of clusters, and where each lies.
    MAP: runs of units, and where each lies, in any order.
    FULL: every block is stored; there is nothing to look up.
    SEGMENTS: pieces that are literal, or those of other images.
    """

    RANK = "rank"
    RANGES = "ranges"
    MAP = "map"
    FULL = "full"
    SEGMENTS = "segments"
