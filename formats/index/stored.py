"""A stored index: where a reader gets the pieces of its index from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .cache import IndexCache
from .kind import IndexKind
from .ranges import RangeIndex, RangeList
from .rank import RankIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .rank_chunk import RankChunk


@dataclasses.dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index, wherever it is stored.

    Attributes:
        kind: which kind of index it is.
        key: what tells it from others in the cache.
        total_blocks: blocks or clusters that it covers.
        load_chunk: returns a chunk of a rank index by its number.
        load_ranges: returns the ranges of a range index that overlap ``[start, stop)`` clusters.
        cache: where loaded pieces are kept.
    """

    kind: IndexKind
    key: int
    total_blocks: int
    load_chunk: Callable[[int], RankChunk]
    load_ranges: Callable[[int, int], RangeList]
    cache: IndexCache

    @classmethod
    def in_memory(
        cls,
        kind: IndexKind,
        total_blocks: int,
        chunks: Sequence[RankChunk] | None,
        ranges: RangeList | None,
    ) -> StoredIndex:
        """Return an index that is kept in memory, made of what a scan has found."""
        chunks = chunks or ()
        ranges = RangeList.of(()) if ranges is None else ranges
        return cls(
            kind, 0, total_blocks, chunks.__getitem__, ranges.window,
            IndexCache(),
        )  # fmt: skip

    def rank_index(self) -> RankIndex | None:
        """Return the rank index, None where every block is stored."""
        if self.kind is IndexKind.FULL:
            return None
        return RankIndex(self.total_blocks, self.load_chunk, self.cache, self.key)

    def range_index(self) -> RangeIndex:
        """Return the range index."""
        return RangeIndex(self.load_ranges, self.cache, self.key)
