"""The stored form of a rank index. Imports nothing heavy, for those who only keep it."""

from __future__ import annotations

from typing import NamedTuple

CHUNK_BLOCKS = 1 << 20
"""Blocks in a chunk."""

CHUNK_BYTES = CHUNK_BLOCKS // 8
"""Bytes of bitmap in a chunk: 128 KiB."""


class RankChunk(NamedTuple):
    """One chunk of a presence bitmap as it is stored.

    `number` counts chunks from 0, `rank` is the number of present blocks before the chunk, and
    `bitmap` is the zstd frame of its bits: one bit per block, least significant first, with the
    bits past the last block zero.
    """

    number: int
    rank: int
    bitmap: bytes


class ChunkMissingError(LookupError):
    """The store of chunks no longer has this chunk: the index was replaced or removed."""
