"""Rank index: which blocks a bitmap format stores, and how many come before each.

``rank(b)`` is the number of present blocks strictly before block ``b``. The presence bitmap is
cut into chunks of `CHUNK_BLOCKS` blocks. A chunk is kept compressed, with its rank checkpoint;
it is unpacked when first touched, gets a finer checkpoint every `RANK_STRIDE` blocks, and lives
in an `IndexCache` with a byte budget. So opening an image loads nothing, and memory is bounded
whatever the size of the image.

All block ranges are half-open, ``[start, stop)``. Indexes and the cache may be used from several
threads at once.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import zstandard

from ..errors import CorruptImageError
from .cache import IndexCache
from .rank_chunk import CHUNK_BLOCKS, CHUNK_BYTES, RankChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
RANK_STRIDE = 64
"""Blocks between two fine checkpoints of an unpacked chunk: those of a word."""

_FEW_BLOCKS = 4096
"""Up to so many, the runs of blocks are found in a Python integer."""

_MANY_RUNS = 48
"""From this many runs on, finding them with numpy beats finding them in a Python integer."""


class Run(NamedTuple):
    """Present blocks ``[start, stop)``; `rank` is the rank of block `start`."""

    start: int
    stop: int
    rank: int


NONE_PRESENT = -1
"""`RankIndexLike.uniform_rank`: no block of the range is present."""

NOT_UNIFORM = -2
"""`RankIndexLike.uniform_rank`: some are, or one cannot tell without waiting."""


class RankIndexLike(Protocol):
    """What a reader asks of a rank index."""

    def uniform_rank(self, start: int, stop: int) -> int:
        """Look at ``[start, stop)`` without waiting, the quick way for small reads.

        Returns the rank of block `start` where every block is present, else `NONE_PRESENT` or
        `NOT_UNIFORM`. The range is not empty and ends at `total_blocks` at the latest.
        """

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Yield the maximal runs of present blocks inside ``[start, stop)``, ascending."""

    def resident(self, start: int, stop: int) -> bool:
        """Tell whether `runs` over ``[start, stop)`` needs nothing but memory."""

    def rank(self, block: int) -> int:
        """Return the number of present blocks strictly before `block`."""


class ChunkBuilder:
    """Packs a presence bitmap, given piece by piece, into `RankChunk` records.

    Args:
        total_blocks: number of blocks that the bitmap describes.
    """

    def __init__(self, total_blocks: int) -> None:
        self.total_blocks = total_blocks
        self.present_blocks = 0
        self.chunks: list[RankChunk] = []
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)

    def add(self, bits: bytes | memoryview) -> None:
        """Append the next bits; every piece but the last is a multiple of `CHUNK_BYTES`."""
        for start in range(0, len(bits), CHUNK_BYTES):
            piece = bits[start : start + CHUNK_BYTES]
            number = len(self.chunks)
            left = self.total_blocks - number * CHUNK_BLOCKS
            if len(piece) * 8 > left:
                piece = mask_padding(bytes(piece), left)
            # A copy: what the compressor returns holds as much as the piece itself.
            frame = bytes(memoryview(self._compressor.compress(piece)))
            self.chunks.append(RankChunk(number, self.present_blocks, frame))
            self.present_blocks += popcount(piece)


def mask_padding(bits: bytes, block_count: int) -> bytes:
    """Return `bits` with every bit from `block_count` on cleared, same length."""
    if block_count >= 8 * len(bits):
        return bits
    whole, rest = divmod(block_count, 8)
    masked = bits[:whole]
    if rest:
        masked += bytes([bits[whole] & ((1 << rest) - 1)])
    return masked + bytes(len(bits) - len(masked))


def popcount(bits: bytes | memoryview) -> int:
    """Return the number of one bits, of any number of bytes."""
    whole = len(bits) // 8 * 8
    words = np.frombuffer(bits, dtype="<u8", count=whole // 8)
    return int(np.bitwise_count(words).sum(dtype=np.uint64)) + (
        int.from_bytes(bits[whole:], "little").bit_count()
    )


def _with_checkpoints(bits: bytes) -> tuple[bytes, memoryview, memoryview]:
    """Return bits, padded to words; their words; and how many ones come before each, and in all."""
    bits += bytes(-len(bits) % 8)
    words = np.frombuffer(bits, dtype="<u8").astype(np.uint64, copy=False)
    before = np.zeros(len(words) + 1, dtype=np.uint32)
    np.cumsum(np.bitwise_count(words), out=before[1:])
    return bits, words.data.cast("B").cast("Q"), before.data.cast("B").cast("I")


_SHARED = tuple(_with_checkpoints(octet * CHUNK_BYTES) for octet in (b"\x00", b"\xff"))
"""Most chunks of most images are empty or full: they need no memory of their own."""


class _LoadedChunk:
    """An unpacked chunk with fine checkpoints: how many blocks of it come before each word of bits.

    A word and its checkpoint tell a small read everything. They are kept as integers of 64 and of
    32 bits, half as many bytes again as the bits alone.
    """

    __slots__ = ("_before", "_bits", "_first", "_rank", "_words", "weight")

    def __init__(self, first: int, rank: int, bits: bytes) -> None:
        self._first = first
        self._rank = rank
        shared = next((each for each in _SHARED if each[0] == bits), None)
        self._bits, self._words, self._before = shared or _with_checkpoints(bits)
        self.weight = 512 + (0 if shared else len(self._bits) + self._before.nbytes)

    def rank(self, block: int) -> int:
        number, rest = divmod(block - self._first, RANK_STRIDE)
        rank = self._rank + self._before[number]
        if rest:
            rank += (self._words[number] & ((1 << rest) - 1)).bit_count()
        return rank

    def uniform_rank(self, start: int, stop: int) -> int:
        """Do as `RankIndexLike.uniform_rank` for a range inside the chunk."""
        low = start - self._first
        count = stop - start
        number, within = low >> 6, low & 63
        word = self._words[number]
        ones = (1 << count) - 1
        if within + count <= RANK_STRIDE:
            found = word >> within & ones
        else:
            bits = self._bits[low >> 3 : (low + count + 7) >> 3]
            found = int.from_bytes(bits, "little") >> (low & 7) & ones
        if found != ones:
            return NOT_UNIFORM if found else NONE_PRESENT
        # As `rank`, without another call: this is the hot path of small reads.
        return self._rank + self._before[number] + (word & ((1 << within) - 1)).bit_count()

    def runs(self, start: int, stop: int) -> list[Run]:
        """Return the runs inside ``[start, stop)``, which lies inside the chunk."""
        low = start - self._first
        high = stop - self._first
        if high - low > _FEW_BLOCKS:
            return self._many_runs(low, high)
        word = int.from_bytes(self._bits[low >> 3 : (high + 7) >> 3], "little") >> (low & 7)
        word &= (1 << (high - low)) - 1
        if not word:
            return []
        rank = self.rank(start)
        if word + 1 == 1 << (high - low):
            return [Run(start, stop, rank)]
        if (word ^ (word << 1)).bit_count() > 2 * _MANY_RUNS:
            return self._many_runs(low, high)
        runs = []
        position = start
        while word:
            skip = (word & -word).bit_length() - 1
            word >>= skip
            length = (~word & (word + 1)).bit_length() - 1
            word >>= length
            position += skip
            runs.append(Run(position, position + length, rank))
            position += length
            rank += length
        return runs

    def _many_runs(self, low: int, high: int) -> list[Run]:
        octets = np.frombuffer(self._bits, dtype=np.uint8)[low >> 3 : (high + 7) >> 3]
        bits = np.unpackbits(octets, bitorder="little")[low & 7 :][: high - low]
        edges = np.flatnonzero(np.diff(bits, prepend=0, append=0))
        starts = edges[0::2]
        stops = edges[1::2]
        lengths = stops - starts
        first_rank = self.rank(self._first + low)
        ranks = np.cumsum(lengths) - lengths + first_rank
        base = self._first + low
        return [
            Run(*run)
            for run in zip(
                (starts + base).tolist(), (stops + base).tolist(), ranks.tolist(), strict=True
            )
        ]


class RankIndex:
    """The rank index of one image.

    Args:
        total_blocks: number of blocks in the bitmap.
        load: returns the stored chunk of a number, or raises `ChunkMissingError`; it may block.
        cache: where unpacked chunks are kept.
        key: what tells this index from others in the cache.
    """

    def __init__(
        self,
        total_blocks: int,
        load: Callable[[int], RankChunk],
        cache: IndexCache,
        key: int,
    ) -> None:
        self.total_blocks = total_blocks
        self._load = load
        self._cache = cache
        self._key = key
        # Where the last small read was, how many pieces the cache had dropped then, and the chunk.
        self._last: tuple[int, int, _LoadedChunk | None] = (0, 0, None)

    def rank(self, block: int) -> int:
        """Return the number of present blocks strictly before `block` (< `total_blocks`)."""
        return self._chunk(block // CHUNK_BLOCKS).rank(block)

    def uniform_rank(self, start: int, stop: int) -> int:
        """Look at ``[start, stop)`` without waiting; see `RankIndexLike.uniform_rank`."""
        first, dropped, chunk = self._last
        is_same = 0 <= start - first < CHUNK_BLOCKS and dropped == self._cache.dropped
        if chunk is None or not is_same:
            number = start // CHUNK_BLOCKS
            chunk = self._cache.get((self._key, number))
            if chunk is None:
                return NOT_UNIFORM
            first = number * CHUNK_BLOCKS
            self._last = (first, self._cache.dropped, chunk)
        if stop - first > CHUNK_BLOCKS:
            return NOT_UNIFORM
        return chunk.uniform_rank(start, stop)

    def resident(self, start: int, stop: int) -> bool:
        """Tell whether every chunk of blocks ``[start, stop)`` is unpacked in the cache."""
        return start >= stop or all(
            self._cache.get((self._key, number)) is not None
            for number in range(start // CHUNK_BLOCKS, -(-stop // CHUNK_BLOCKS))
        )

    def block_of_rank(self, rank: int) -> int:
        """Return the present block that has `rank` present blocks before it.

        Raises:
            ValueError: there are not that many present blocks.
        """
        chunks = range(-(-self.total_blocks // CHUNK_BLOCKS))
        number = bisect.bisect_right(chunks, rank, key=lambda each: self._load(each).rank) - 1
        start = number * CHUNK_BLOCKS
        for run in self.runs(start, min(start + CHUNK_BLOCKS, self.total_blocks)):
            if rank < run.rank + run.stop - run.start:
                return run.start + rank - run.rank
        message = f"no block has rank {rank}"
        raise ValueError(message)

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Yield the maximal runs of present blocks inside ``[start, stop)``, ascending.

        Raises:
            ChunkMissingError: the index is gone from where it was kept.
            CorruptImageError: a stored chunk does not unpack to its size.
        """
        pending: Run | None = None
        while start < stop:
            number = start // CHUNK_BLOCKS
            edge = min(stop, (number + 1) * CHUNK_BLOCKS)
            for run in self._chunk(number).runs(start, edge):
                if pending is None:
                    pending = run
                elif pending.stop == run.start:
                    pending = Run(pending.start, run.stop, pending.rank)
                else:
                    yield pending
                    pending = run
            start = edge
        if pending is not None:
            yield pending

    def _chunk(self, number: int) -> _LoadedChunk:
        key = (self._key, number)
        chunk: _LoadedChunk | None = self._cache.get(key)
        if chunk is None:
            stored = self._load(number)
            bits = unpack_chunk(stored, self.total_blocks)
            chunk = _LoadedChunk(number * CHUNK_BLOCKS, stored.rank, bits)
            self._cache.put(key, chunk)
        return chunk


def unpack_chunk(stored: RankChunk, total_blocks: int) -> bytes:
    """Return the bits of a stored chunk, one a block, least significant first.

    Raises:
        CorruptImageError: it does not unpack, or not to the size that it must have.
    """
    first = stored.number * CHUNK_BLOCKS
    expected = (min(CHUNK_BLOCKS, total_blocks - first) + 7) // 8
    try:
        # The frame names its size; a wrong one must not size an allocation.
        named = zstandard.frame_content_size(stored.bitmap)
        bits = zstandard.ZstdDecompressor().decompress(stored.bitmap) if named == expected else b""
    except zstandard.ZstdError as error:
        raise CorruptImageError("rank_chunk", stored.number, f"{error}: add it again") from error
    if len(bits) != expected:
        raise CorruptImageError(
            "rank_chunk", stored.number, f"unpacks to {named} bytes, not {expected}: add it again"
        )
    return bits


def block_of_rank(chunks: Sequence[RankChunk], total_blocks: int, rank: int) -> int:
    """Return the present block that has `rank` present blocks before it.

    Args:
        chunks: all chunks of an index, ascending.
        total_blocks: number of blocks in the bitmap.
        rank: less than the number of present blocks.

    Raises:
        ValueError: there are not that many present blocks.
    """
    return RankIndex(total_blocks, chunks.__getitem__, IndexCache(), key=0).block_of_rank(rank)


class FullIndex:
    """The index of an image that stores every block, without a bitmap."""

    def __init__(self, total_blocks: int) -> None:
        self.total_blocks = total_blocks

    def rank(self, block: int) -> int:
        """Return `block`: all blocks before it are present."""
        return block

    def block_of_rank(self, rank: int) -> int:
        """Return `rank`: all blocks before it are present."""
        return rank

    def uniform_rank(self, start: int, stop: int) -> int:  # noqa: ARG002 - the protocol's shape
        """Return `start`: all blocks are present."""
        return start

    def resident(self, start: int, stop: int) -> bool:  # noqa: ARG002 - the protocol's shape
        """Return True: there is nothing to load."""
        return True

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Yield the one run ``[start, stop)``."""
        if start < stop:
            yield Run(start, stop, start)
