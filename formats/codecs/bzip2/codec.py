"""bzip2: blocks of up to 900 kB that begin at any bit and can each be decoded alone.

A seek point's `state` is 0 at the beginning of a stream, else `INSIDE` plus the bit of its first
byte that a block begins at.
"""

from __future__ import annotations

import bz2
import importlib.metadata
import itertools
from typing import TYPE_CHECKING

from ...errors import CorruptImageError, TruncatedImageError
from ...sources.as_file import StoredFile
from ..scan import UntrustedStreamError
from ..seek_points import SeekPoint
from . import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource

NAME = "bzip2"
LIBRARY = f"rapidgzip {importlib.metadata.version('rapidgzip')}"
WEIGHT = 6 << 20
"""Bytes that a decoder takes, about, with what it has decoded and nobody has taken."""

STRUCTURE = "bzip2.stream"

INSIDE = 8

_READ = 4 << 20
_PIECE = 1 << 20
_AHEAD = 256 << 10
_BLOCK_MAX = 4 << 20
"""More stored bytes than any block has."""


def scan(
    stored: ByteSource,
    points: list[SeekPoint],
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream on all cores; see `Codec.scan`."""
    _first_block(stored, 0)
    # Imported where needed: reading does without it.
    import rapidgzip

    plain = 0
    file = rapidgzip.IndexedBzip2FileRaw(StoredFile(stored, stored.size), parallelization=0)
    try:
        while piece := file.read(_READ):
            plain += len(piece)
            yield piece
            if progress is not None:
                progress(min(stored.size, file.bz2reader.tell_compressed() // 8))
        offsets = file.bz2reader.block_offsets()
    except (ValueError, RuntimeError) as error:
        yield from _the_rest(stored, plain, points, error)
        return
    finally:
        # Closed late, its threads would end the interpreter.
        file.close()
    found = sorted(offsets.items())
    _check_streams(stored, found)
    points.extend(_points(found, spacing or 0))
    # What it takes for an end may be where the file is cut off.
    last = points[-1]
    tail = sum(map(len, decode(stored, last)))
    if last.plain_offset + tail != plain:
        raise CorruptImageError(
            STRUCTURE, last.stored_offset,
            f"{tail} bytes come out from here on, {plain - last.plain_offset} came out before",
        )  # fmt: skip


def decode(stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
    """Yield the plain pieces from a seek point on; see `Codec.decode`."""
    for piece, _bit in _blocks(stored, point):
        for start in range(0, len(piece), _PIECE):
            yield piece[start : start + _PIECE]


def _first_block(stored: ByteSource, offset: int) -> int | None:
    """Return the bit that the first block after the byte `offset` begins at, None at the end.

    Raises:
        CorruptImageError: no stream begins at `offset`, or no block in it.
    """
    bits = _Bits(stored, ahead=64)
    while offset < stored.size:
        bit = bits.stream_header(offset * 8)
        magic = bits.at(bit, layout.MAGIC_BITS)
        if magic == layout.BLOCK_MAGIC:
            return bit
        if magic != layout.END_MAGIC:
            raise CorruptImageError(STRUCTURE, bit // 8, "no block begins here, and no end")
        offset = _end_of_stream(bit)
    return None


def _end_of_stream(bit: int) -> int:
    """Return the byte behind the stream whose end begins at `bit`."""
    return -(-(bit + layout.MAGIC_BITS + layout.CRC_BITS) // 8)


def _check_streams(stored: ByteSource, offsets: list[tuple[int, int]]) -> None:
    """Check that no stream lacks its first block: rapidgzip passes over one that is damaged."""
    found = {bit for bit, _plain in offsets}
    total = offsets[-1][1]
    for (bit, plain), (_next, stop) in itertools.pairwise(offsets):
        if plain != stop or plain == total:
            continue
        try:
            first = _first_block(stored, _end_of_stream(bit))
        except CorruptImageError as error:
            raise UntrustedStreamError(error.structure, error.offset, error.detail) from error
        if first not in found:
            raise UntrustedStreamError(STRUCTURE, bit // 8, "what follows was passed over")


def _blocks(stored: ByteSource, point: SeekPoint) -> Iterator[tuple[bytes, int]]:
    """Yield the plain bytes of each block, and the bit that it begins at."""
    bits = _Bits(stored)
    bit = point.stored_offset * 8 + (point.state & ~INSIDE)
    if not point.state:
        bit = bits.stream_header(bit)
    while True:
        magic = bits.at(bit, layout.MAGIC_BITS)
        if magic == layout.BLOCK_MAGIC:
            piece, stop = bits.block(bit)
            yield piece, bit
            bit = stop
        elif magic == layout.END_MAGIC:
            bits.at(bit + layout.MAGIC_BITS, layout.CRC_BITS)
            end = _end_of_stream(bit)
            if end == stored.size:
                return
            bit = bits.stream_header(end * 8)
        else:
            raise CorruptImageError(STRUCTURE, bit // 8, "no block begins here, and no end")


def _points(offsets: list[tuple[int, int]], spacing: int) -> list[SeekPoint]:
    """Return the points of blocks; an entry without plain bytes is the end of a stream."""
    found = [SeekPoint(0, 0)]
    for number, (bit, plain) in enumerate(offsets[:-1]):
        is_end = offsets[number + 1][1] == plain
        if plain and not is_end and plain - found[-1].plain_offset >= max(1, spacing):
            found.append(SeekPoint(plain, bit // 8, INSIDE | bit % 8))
    return found


def _the_rest(
    stored: ByteSource, known: int, points: list[SeekPoint], why: Exception
) -> Iterator[bytes]:
    """Yield what can be decoded one block after the other beyond `known` bytes, up to the error."""
    plain = 0
    for piece, bit in _blocks(stored, SeekPoint(0, 0)):
        points.append(SeekPoint(plain, bit // 8, INSIDE | bit % 8) if plain else SeekPoint(0, 0))
        if plain + len(piece) > known:
            yield piece[max(0, known - plain) :]
        plain += len(piece)
    raise CorruptImageError(STRUCTURE, stored.size, str(why)) from why


class _Bits:
    """The bits of a stream, from wherever one has come to on."""

    def __init__(self, stored: ByteSource, ahead: int = _AHEAD) -> None:
        self._stored = stored
        self._ahead = ahead
        self._start = 0
        self._data = b""

    def at(self, bit: int, count: int) -> int:
        """Return `count` bits."""
        self._load(bit // 8, count // 8 + 2)
        if bit + count > (self._start + len(self._data)) * 8:
            raise TruncatedImageError(STRUCTURE, self._stored.size, "it is cut off here")
        return layout.bits_at(self._data, bit - self._start * 8, count)

    def stream_header(self, bit: int) -> int:
        """Return where the first block begins of the stream whose header is at `bit`."""
        header = self.at(bit, 32).to_bytes(4, "big")
        if header[:3] != b"BZh" or not 0x31 <= header[3] <= 0x39:  # noqa: PLR2004 - '1' to '9'
            raise CorruptImageError(
                STRUCTURE, bit // 8, f"{header.hex(' ')} is the beginning of no stream"
            )
        return bit + 32

    def block(self, bit: int) -> tuple[bytes, int]:
        """Return the plain bytes of the block at `bit`, and where it ends."""
        size = 512 << 10
        search_from = bit + layout.MAGIC_BITS
        why: Exception | None = None
        while True:
            self._load(bit // 8, size)
            shift = self._start * 8
            stop = layout.find_magic(self._data, search_from - shift)
            if stop is not None:
                # The same bits may be met by chance: then what comes before is no whole block.
                try:
                    stream = layout.single_block_stream(self._data, bit - shift, stop)
                    return bz2.decompress(stream), stop + shift
                except (OSError, ValueError, EOFError) as error:
                    why = error
                    search_from = stop + shift + 1
                continue
            if self._start + len(self._data) >= self._stored.size:
                if why is None:
                    raise TruncatedImageError(STRUCTURE, self._stored.size, "it is cut off here")
                break
            if size >= _BLOCK_MAX:
                break
            size *= 2
        raise CorruptImageError(
            "bzip2.block", bit // 8, f"cannot be decoded ({why or 'it has no end'})"
        ) from why

    def _load(self, first: int, size: int) -> None:
        """Have bytes from `first` on, `size` of them where there are so many."""
        stop = min(first + size, self._stored.size)
        if self._start <= first and stop <= self._start + len(self._data):
            return
        kept = self._data[first - self._start :] if self._start <= first else b""
        have = first + len(kept)
        wanted = min(max(stop, have + self._ahead), self._stored.size)
        self._data = kept + (self._stored.read_at(have, wanted - have) if wanted > have else b"")
        self._start = first
