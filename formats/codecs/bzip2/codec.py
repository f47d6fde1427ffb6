"""bzip2: blocks of up to 900 kB that begin at any bit and can each be decoded alone.

A seek point's `state` is 0 at the beginning of a stream, else `INSIDE` plus the bit of its first
byte that a block begins at.
"""

from __future__ import annotations

import bz2
import platform
from typing import TYPE_CHECKING, NamedTuple

from ...errors import CorruptImageError, FormatError, TruncatedImageError
from ...ordered_map import in_order
from ..seek_points import SeekPoint
from . import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...progress import Progress
    from ...sources.byte_source import ByteSource
    from ..seek_points import ScanMarks

NAME = "bzip2"
LIBRARY = f"bz2 of Python {platform.python_version()}"
_WEIGHT = 6 << 20
"""Bytes that a decoder takes, about, with what it has decoded and nobody has taken."""

STRUCTURE = "bzip2.stream"

INSIDE = 8

_MOST_AT_ONCE = 4 << 20
"""Plain bytes of a block up to which several are decoded at once: one of zeros has 46 MB."""

_PIECE = 1 << 20
_AHEAD = 256 << 10
_BLOCK_MAX = 4 << 20
"""More stored bytes than any block has."""


def scan(
    stored: ByteSource,
    marks: ScanMarks,
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream on all cores; see `Codec.scan`."""
    bits = _Bits(stored)
    bit = _next_block(bits, 0, is_start=True)
    marks.points.append(SeekPoint(0, 0))
    plain = 0
    while bit is not None:
        after = bit
        for block, pieces in in_order(_decoded, _candidates(stored, bit)):
            if pieces is None:
                break
            plain = _note(marks, plain, block.bit, pieces, spacing or 0)
            yield from pieces
            after = block.stop
            if progress is not None:
                progress(after // 8)
        bit = _next_block(bits, after)
        if bit is not None:
            # Damage, a block of very many bytes, or bits in one that look like the next.
            pieces, stop = bits.block(bit)
            plain = _note(marks, plain, bit, pieces, spacing or 0)
            yield from pieces
            bit = _next_block(bits, stop)


class _Candidate(NamedTuple):
    """What may be a block: bits ``[bit, stop)``, and a stream of it alone."""

    bit: int
    stop: int
    stream: bytes


def _note(marks: ScanMarks, plain: int, bit: int, pieces: Sequence[bytes], spacing: int) -> int:
    """Note a block that was decoded, and whose checksum was right; return the plain byte behind."""
    if plain and plain - marks.points[-1].plain_offset >= max(1, spacing):
        marks.points.append(SeekPoint(plain, bit // 8, INSIDE | bit % 8))
    plain += sum(map(len, pieces))
    marks.trusted_size = plain
    return plain


def _candidates(stored: ByteSource, bit: int) -> Iterator[_Candidate]:
    """Yield what looks like a block, from the one at `bit` on, as far as one follows the other."""
    bits = _Bits(stored)
    at: int | None = bit
    try:
        while at is not None:
            found = next(bits.attempts(at), None)
            if found is None:
                return
            yield found
            at = _next_block(bits, found.stop)
    except FormatError:
        # Whoever goes on from there is told.
        return


def _decoded(block: _Candidate) -> tuple[_Candidate, list[bytes] | None]:
    """Return the plain pieces of a block; None where it is none, or too much comes out of it."""
    decompressor = bz2.BZ2Decompressor()
    try:
        plain = decompressor.decompress(block.stream, _MOST_AT_ONCE)
    except (OSError, ValueError, EOFError):
        return block, None
    return block, _cut(plain) if decompressor.eof else None


def _cut(plain: bytes) -> list[bytes]:
    return [plain[start : start + _PIECE] for start in range(0, len(plain), _PIECE)]


def weight(stored: ByteSource, point: SeekPoint) -> int:  # noqa: ARG001
    """Return the bytes that a decoder takes from a point on; see `Codec.weight`."""
    return _WEIGHT


def decode(stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
    """Yield the plain pieces from a seek point on; see `Codec.decode`."""
    bits = _Bits(stored)
    start = point.stored_offset * 8 + (point.state & ~INSIDE)
    bit = _next_block(bits, start, is_start=not point.state)
    while bit is not None:
        pieces, stop = bits.block(bit)
        yield from pieces
        bit = _next_block(bits, stop)


def _next_block(bits: _Bits, bit: int, *, is_start: bool = False) -> int | None:
    """Return where the next block begins, None at the end of the last stream.

    Args:
        bits: the stored bits.
        bit: behind a block; or where a stream begins.
        is_start: whether a stream begins there.

    Raises:
        CorruptImageError: neither a block nor the end of a stream is there.
        TruncatedImageError: the bits end.
    """
    while True:
        if is_start:
            bit = bits.stream_header(bit)
        magic = bits.at(bit, layout.MAGIC_BITS)
        if magic == layout.BLOCK_MAGIC:
            return bit
        if magic != layout.END_MAGIC:
            raise CorruptImageError(STRUCTURE, bit // 8, "no block begins here, and no end")
        bits.at(bit + layout.MAGIC_BITS, layout.CRC_BITS)
        bit = -(-(bit + layout.MAGIC_BITS + layout.CRC_BITS) // 8) * 8
        if bit == bits.size * 8:
            return None
        is_start = True


class _Bits:
    """The bits of a stream, from wherever one has come to on."""

    def __init__(self, stored: ByteSource, ahead: int = _AHEAD) -> None:
        self.size = stored.size
        self._stored = stored
        self._ahead = ahead
        self._start = 0
        self._data = b""

    def at(self, bit: int, count: int) -> int:
        """Return `count` bits."""
        self._load(bit // 8, count // 8 + 2)
        if bit + count > (self._start + len(self._data)) * 8:
            raise TruncatedImageError(STRUCTURE, self.size, "it is cut off here")
        return layout.bits_at(self._data, bit - self._start * 8, count)

    def stream_header(self, bit: int) -> int:
        """Return where the first block begins of the stream whose header is at `bit`."""
        header = self.at(bit, 32).to_bytes(4, "big")
        if header[:3] != b"BZh" or not 0x31 <= header[3] <= 0x39:  # noqa: PLR2004 - '1' to '9'
            raise CorruptImageError(
                STRUCTURE, bit // 8, f"{header.hex(' ')} is the beginning of no stream"
            )
        return bit + 32

    def block(self, bit: int) -> tuple[list[bytes], int]:
        """Return the plain pieces of the block at `bit`, and where it ends."""
        why: Exception | None = None
        for block in self.attempts(bit):
            try:
                return _cut(bz2.decompress(block.stream)), block.stop
            except (OSError, ValueError, EOFError) as error:
                # The same bits may be met by chance: then what comes before is no whole block.
                why = error
        if why is None and self._start + len(self._data) >= self.size:
            raise TruncatedImageError(STRUCTURE, self.size, "it is cut off here")
        raise CorruptImageError(
            "bzip2.block", bit // 8, f"cannot be decoded ({why or 'it has no end'})"
        ) from why

    def attempts(self, bit: int) -> Iterator[_Candidate]:
        """Yield what the block at `bit` may be: up to each place where the next one may begin."""
        size = 512 << 10
        search_from = bit + layout.MAGIC_BITS
        while True:
            self._load(bit // 8, size)
            shift = self._start * 8
            stop = layout.find_magic(self._data, search_from - shift)
            if stop is not None:
                stream = layout.single_block_stream(self._data, bit - shift, stop)
                yield _Candidate(bit, stop + shift, stream)
                search_from = stop + shift + 1
            elif self._start + len(self._data) >= self.size or size >= _BLOCK_MAX:
                return
            else:
                size *= 2

    def _load(self, first: int, size: int) -> None:
        """Have bytes from `first` on, `size` of them where there are so many."""
        stop = min(first + size, self.size)
        if self._start <= first and stop <= self._start + len(self._data):
            return
        kept = self._data[first - self._start :] if self._start <= first else b""
        have = first + len(kept)
        wanted = min(max(stop, have + self._ahead), self.size)
        self._data = kept + (self._stored.read_at(have, wanted - have) if wanted > have else b"")
        self._start = first
