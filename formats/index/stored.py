"""A stored index: where a reader gets the pieces of its index from."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from .cache import IndexCache
from .kind import IndexKind
from .map import MapIndex
from .ranges import RangeIndex, RangeList
from .rank import RankIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from .map_chunk import MapChunk
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
        load_map: returns a chunk of a map by its number, None where it has no runs.
        cache: where loaded pieces are kept.
        pages: where clusters are kept that were decoded.
        turn: entered while one is decoded, with the bytes of memory that this takes.
    """

    kind: IndexKind
    key: int
    total_blocks: int
    load_chunk: Callable[[int], RankChunk]
    load_ranges: Callable[[int, int], RangeList]
    load_map: Callable[[int], MapChunk | None]
    cache: IndexCache
    pages: IndexCache
    turn: Callable[[int], AbstractContextManager[None]]

    @classmethod
    def in_memory(
        cls,
        kind: IndexKind,
        total_blocks: int,
        chunks: Sequence[RankChunk] | None,
        ranges: RangeList | None,
        map_chunks: Iterable[MapChunk] = (),
    ) -> StoredIndex:
        """Return an index that is kept in memory, made of what a scan has found."""
        chunks = chunks or ()
        ranges = RangeList.of(()) if ranges is None else ranges
        by_number = {chunk.number: chunk for chunk in map_chunks}
        return cls(
            kind, 0, total_blocks, chunks.__getitem__, ranges.window, by_number.get,
            IndexCache(), IndexCache(), lambda _weight: contextlib.nullcontext(),
        )  # fmt: skip

    def rank_index(self) -> RankIndex | None:
        """Return the rank index, None where every block is stored."""
        if self.kind is IndexKind.FULL:
            return None
        return RankIndex(self.total_blocks, self.load_chunk, self.cache, self.key)

    def range_index(self) -> RangeIndex:
        """Return the range index."""
        return RangeIndex(self.load_ranges, self.cache, self.key)

    def map_index(self) -> MapIndex:
        """Return the map."""
        return MapIndex(self.load_map, self.cache, self.key)
