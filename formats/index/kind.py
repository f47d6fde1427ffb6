"""The kinds of index."""

from __future__ import annotations

import enum


class IndexKind(enum.StrEnum):
    """The kinds of index, as the catalog names them.

    RANK: a bitmap says which blocks are stored, one after the other.
    RANGES: runs of clusters, and where each lies.
    FULL: every block is stored; there is nothing to look up.
    SEGMENTS: pieces that are literal, or those of other images.
    """

    RANK = "rank"
    RANGES = "ranges"
    FULL = "full"
    SEGMENTS = "segments"
