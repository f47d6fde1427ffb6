"""Map: where a virtual disk keeps each of its clusters, which may lie anywhere, in any order.

The map divides the guest into *units*: clusters, or the parts of them that a format maps one by
one. Units side by side that are alike are one `MapRun`; what no run covers is not in the image.
Chunks of `CHUNK_UNITS` units are loaded when one of them is first asked for, and kept in an
`IndexCache`: opening an image loads nothing, and memory is bounded however fragmented it is.

All ranges are half-open, ``[start, stop)``. A map may be used from several threads at once.
"""

from __future__ import annotations

import array
import bisect
import enum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import zstandard

from ..errors import CorruptImageError
from .map_chunk import CHUNK_UNITS, MapChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from .cache import IndexCache

_ZSTD_LEVEL = 1

_COLUMNS = (("first", "<u2"), ("last", "<u2"), ("kind", "u1"), ("offset", "<u8"), ("length", "<u4"))
"""A run as it is stored: all firsts, then all lasts, and so on; units count from the chunk's."""

_RUN_BYTES = sum(np.dtype(kind).itemsize for _name, kind in _COLUMNS)
_LOADED_RUN_BYTES = 48
"""Four numbers of eight bytes, a kind, and what an allocator adds."""


class MapKind(enum.IntEnum):
    """What a run's units are.

    ABSENT: not in the image: those of its parent, or zeros. Never stored.
    ZERO: zeros, whatever a parent has.
    DATA: stored as they are, one after the other.
    COMPRESSED: a part of a cluster that is stored as one compressed piece.
    """

    ABSENT = 0
    ZERO = 1
    DATA = 2
    COMPRESSED = 3


class MapRun(NamedTuple):
    """Units ``[first, stop)`` of one kind.

    Attributes:
        first: the first unit.
        stop: the unit after the last.
        kind: a `MapKind`, or its number.
        offset: the byte of the source where the first unit lies; of a COMPRESSED run, where the
            stored piece begins of each cluster that it is a part of. 0 of zeros.
        length: stored bytes of the piece, at most, of a COMPRESSED run; else 0.
    """

    first: int
    stop: int
    kind: int
    offset: int
    length: int


def pack_chunk(
    number: int,
    kinds: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.uint32],
    unit_size: int,
) -> MapChunk | None:
    """Return a chunk from what each of its units is; None where none is in the image.

    Args:
        number: of the chunk.
        kinds: the `MapKind` of each unit, ``CHUNK_UNITS`` of them or, in the last chunk, fewer.
        offsets: where each lies in the source; see `MapRun.offset`.
        lengths: see `MapRun.length`.
        unit_size: bytes in a unit.
    """
    if not kinds.any():
        return None
    is_data = kinds == MapKind.DATA
    step = np.where(is_data, np.uint64(unit_size), np.uint64(0))
    begins = np.ones(len(kinds), np.bool_)
    begins[1:] = (
        (kinds[1:] != kinds[:-1])
        | (offsets[1:] != offsets[:-1] + step[:-1])
        | (lengths[1:] != lengths[:-1])
    )
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(kinds)) - 1
    there = kinds[firsts] != MapKind.ABSENT
    firsts, lasts = firsts[there], lasts[there]
    columns = (firsts, lasts, kinds[firsts], offsets[firsts], lengths[firsts])
    data = b"".join(
        np.ascontiguousarray(column, dtype=kind).tobytes()
        for column, (_name, kind) in zip(columns, _COLUMNS, strict=True)
    )
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True)
    return MapChunk(number, bytes(memoryview(compressor.compress(data))))


class LoadedRuns(NamedTuple):
    """The runs of a chunk, ascending, apart from each other, with units of the whole image."""

    firsts: array.array[int]
    stops: array.array[int]
    kinds: bytes
    offsets: array.array[int]
    lengths: array.array[int]

    @property
    def weight(self) -> int:
        """Bytes that it takes, about."""
        return 512 + _LOADED_RUN_BYTES * len(self.firsts)

    def run(self, position: int) -> MapRun:
        """Return the run that stands at a position."""
        return MapRun(
            self.firsts[position], self.stops[position], self.kinds[position],
            self.offsets[position], self.lengths[position],
        )  # fmt: skip


def unpack_chunk(chunk: MapChunk) -> LoadedRuns:
    """Return the runs of a chunk.

    Raises:
        CorruptImageError: they are damaged.
    """
    try:
        data = zstandard.ZstdDecompressor().decompress(
            chunk.runs, max_output_size=CHUNK_UNITS * _RUN_BYTES
        )
    except zstandard.ZstdError as error:
        raise _damaged(chunk, str(error)) from error
    count, rest = divmod(len(data), _RUN_BYTES)
    if rest or count > CHUNK_UNITS:
        raise _damaged(chunk, f"{len(data)} bytes")
    columns = []
    position = 0
    for _name, kind in _COLUMNS:
        column = np.frombuffer(data, kind, count, position)
        position += column.nbytes
        columns.append(column)
    first, last, kinds, offsets, lengths = columns
    if count and (
        (last < first).any() or (first[1:] <= last[:-1]).any() or last[-1] >= CHUNK_UNITS
    ):
        raise _damaged(chunk, "runs that overlap")
    if (offsets >> np.uint64(63)).any():
        raise _damaged(chunk, "an offset that no file has")
    if not np.isin(kinds, (MapKind.ZERO, MapKind.DATA, MapKind.COMPRESSED)).all():
        raise _damaged(chunk, "runs of no kind that is known")
    base = chunk.number * CHUNK_UNITS
    return LoadedRuns(
        _numbers(first.astype(np.int64) + base),
        _numbers(last.astype(np.int64) + (base + 1)),
        kinds.tobytes(),
        _numbers(offsets.astype(np.int64)),
        _numbers(lengths.astype(np.int64)),
    )


def _numbers(column: npt.NDArray[np.int64]) -> array.array[int]:
    """Return a column as what is quick to bisect, and takes 8 bytes a number."""
    return array.array("q", column.tobytes())


def _damaged(chunk: MapChunk, why: str) -> CorruptImageError:
    return CorruptImageError("index.map", chunk.number, f"{why}: add the image again with --force")


class MapIndex:
    """The map of one image.

    Args:
        load: returns a chunk by its number, None where it has no runs, or raises
            `ChunkMissingError`; it may block.
        cache: where loaded chunks are kept.
        key: what tells this map from others in the cache.
    """

    def __init__(self, load: Callable[[int], MapChunk | None], cache: IndexCache, key: int) -> None:
        self._load = load
        self._cache = cache
        self._key = key
        self._last: tuple[int, int, LoadedRuns] = (-1, -1, _NO_RUNS)

    def resident(self, start: int, stop: int) -> bool:
        """Tell whether every chunk of units ``[start, stop)`` is in the cache."""
        return all(
            self._cache.get((self._key, number)) is not None
            for number in range(start // CHUNK_UNITS, -(-stop // CHUNK_UNITS))
        )

    def single_run(self, start: int, stop: int) -> MapRun | None:
        """Return what all of units ``[start, stop)`` is, if that is one thing and is in memory.

        The hot path of small reads: ABSENT is a run here. None where one must look closer.
        """
        number = start // CHUNK_UNITS
        last, dropped, runs = self._last
        if last != number or dropped != self._cache.dropped:
            found: LoadedRuns | None = self._cache.get((self._key, number))
            if found is None:
                return None
            runs = found
            self._last = (number, self._cache.dropped, runs)
        position = bisect.bisect_right(runs.firsts, start) - 1
        if position >= 0 and start < runs.stops[position]:
            return runs.run(position) if stop <= runs.stops[position] else None
        following = position + 1
        end = (number + 1) * CHUNK_UNITS
        if following < len(runs.firsts):
            end = runs.firsts[following]
        return MapRun(start, end, MapKind.ABSENT, 0, 0) if stop <= end else None

    def runs(self, start: int, stop: int) -> Iterator[MapRun]:
        """Yield the runs that overlap units ``[start, stop)``, ascending, not cut to it.

        Raises:
            ChunkMissingError: the map is gone from where it was kept.
            CorruptImageError: it is damaged there.
        """
        while start < stop:
            number = start // CHUNK_UNITS
            edge = min(stop, (number + 1) * CHUNK_UNITS)
            runs = self._chunk(number)
            position = max(0, bisect.bisect_right(runs.firsts, start) - 1)
            for each in range(position, len(runs.firsts)):
                if runs.firsts[each] >= edge:
                    break
                if runs.stops[each] > start:
                    yield runs.run(each)
            start = edge

    def _chunk(self, number: int) -> LoadedRuns:
        runs: LoadedRuns | None = self._cache.get((self._key, number))
        if runs is None:
            chunk = self._load(number)
            runs = _NO_RUNS if chunk is None else unpack_chunk(chunk)
            self._cache.put((self._key, number), runs)
        return runs


_NO_RUNS = LoadedRuns(*(array.array("q"),) * 2, b"", *(array.array("q"),) * 2)
