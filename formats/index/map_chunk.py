"""The stored form of a map. Imports nothing heavy, for those who only keep it."""

from __future__ import annotations

from typing import NamedTuple

CHUNK_UNITS = 1 << 14
"""Units in a chunk."""


class MapChunk(NamedTuple):
    """The runs of one chunk of a map as they are stored.

    `number` counts chunks from 0; `runs` is a zstd frame, see `map.pack_chunk`. A chunk without
    runs is not stored.
    """

    number: int
    runs: bytes
