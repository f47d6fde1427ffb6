"""gzip: deflate streams, entered between two of their blocks, with the 32 KiB of plain data before.

The scan goes over a stream once and in one thread, with the system's zlib, which tells where blocks
begin; reading decodes with ISA-L, which is faster.

A seek point's `state` is 0 at the header of a member, else `INSIDE` plus the low bits of its first
byte that belong to what comes before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isal import isal_zlib

from ...errors import CorruptImageError, TruncatedImageError
from ...ordered_map import in_order
from .. import window_use as window
from ..cursor import Feed
from ..seek_points import SeekPoint
from . import deflate
from .zlib_stream import WINDOW_SIZE, Inflater
from .zlib_stream import version as zlib_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource
    from ..seek_points import ScanMarks
    from .zlib_stream import Boundary

NAME = "gzip"
LIBRARY = f"zlib {zlib_version()}"
_WEIGHT = 1 << 20
"""Bytes that a decoder takes, about, with what it has decoded and nobody has taken."""

STRUCTURE = "gzip.stream"

INSIDE = 8

SPACING = 2 << 20
"""Plain bytes between two points: each costs a window, of which a tenth or so is needed."""

_ENTRY = 64 << 10
"""Stored bytes behind a point that are enough to tell which bytes of its window are needed."""

_PIECE = 1 << 20
_TRAILER_SIZE = 8

_BGZF_HEADER = b"\x1f\x8b\x08\x04\x06\x00BC\x02\x00"
"""A member's first four bytes, and bytes 10 to 16: one extra field, with the member's size."""

_BGZF_HEADER_SIZE = 18
_BGZF_SPACING = 2 << 20

_FEXTRA, _FNAME, _FCOMMENT, _FHCRC = 4, 8, 16, 2
_MOST_NAME = 64 << 10


def scan(
    stored: ByteSource,
    marks: ScanMarks,
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream; see `Codec.scan`."""
    spans = _bgzf_spans(stored, spacing or _BGZF_SPACING)
    if spans is not None:
        yield from _scan_bgzf(stored, spans, marks, progress)
        return
    feed = Feed(stored, structure=STRUCTURE, chunk=256 << 10)
    step = spacing or SPACING
    marks.points.append(SeekPoint(0, 0))
    plain = 0
    while feed.left:
        start = feed.offset
        if not _next_member(feed):
            break
        if plain - marks.points[-1].plain_offset >= step:
            marks.points.append(SeekPoint(plain, start))
        for piece in _scan_member(stored, feed, marks, plain, step):
            plain += len(piece)
            yield piece
            if progress is not None:
                progress(feed.offset)
        # The checksum at the member's end was right.
        marks.trusted_size = plain


def _scan_member(
    stored: ByteSource, feed: Feed, marks: ScanMarks, plain: int, spacing: int
) -> Iterator[bytes]:
    """Yield the plain pieces of a member whose header was read, and check what follows them."""
    due = marks.points[-1].plain_offset + spacing - plain
    inflater = Inflater(feed, due, spacing)
    crc = size = 0
    for piece in inflater:
        crc, size = isal_zlib.crc32(piece, crc), size + len(piece)
        yield piece
        marks.points.extend(_inside(stored, place, plain) for place in inflater.boundaries)
        inflater.boundaries.clear()
    _check_trailer(feed, crc, size)


def _inside(stored: ByteSource, place: Boundary, plain: int) -> SeekPoint:
    """Return the point at a place in a member that begins at a plain byte of the whole stream."""
    before = place.window.rjust(WINDOW_SIZE, b"\0")
    return SeekPoint(
        plain + place.plain_offset,
        place.stored_offset,
        INSIDE | place.skipped,
        WINDOW_SIZE,
        _packed(stored, place, before),
    )


def _packed(stored: ByteSource, place: Boundary, before: bytes) -> bytes | memoryview:
    """Return the stored form of a window: of those bytes that something is copied from."""
    size = min(_ENTRY, stored.size - place.stored_offset)
    entry = stored.read_at(place.stored_offset, size)
    if place.skipped:
        entry = deflate.enter(entry[0], place.skipped) + entry[1:]
    try:
        plain = _head(entry, before)
    except CorruptImageError:
        # The scan finds the damage too.
        plain = None
    if plain is None:
        return window.pack(before, None)
    needed = window.referred(lambda marks: _head(entry, marks) or b"", WINDOW_SIZE, plain)
    packed = window.pack(before, needed)
    if _head(entry, window.unpack(packed, WINDOW_SIZE)) == plain:
        return packed
    return window.pack(before, None)


def _head(entry: bytes, before: bytes) -> bytes | None:
    """Return what comes behind a window, as far as it can be copied from there; None if unknown."""
    decompressor = isal_zlib.decompressobj(wbits=-15, zdict=before)
    try:
        plain: bytes = decompressor.decompress(entry, WINDOW_SIZE)
    except isal_zlib.IsalError as error:  # type: ignore[misc]
        raise CorruptImageError("gzip.deflate", 0, str(error)) from error
    return plain if len(plain) == WINDOW_SIZE or decompressor.eof else None


def weight(stored: ByteSource, point: SeekPoint) -> int:  # noqa: ARG001
    """Return the bytes that a decoder takes from a point on; see `Codec.weight`."""
    return _WEIGHT + 3 * point.window_size


def decode(stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
    """Yield the plain pieces from a seek point on; see `Codec.decode`."""
    feed = Feed(stored, point.stored_offset, structure=STRUCTURE, chunk=256 << 10)
    if point.state:
        skipped = point.state & ~INSIDE
        if skipped >= INSIDE:
            raise CorruptImageError(
                "index.point", point.plain_offset, "no such state: add the image again with --force"
            )
        before = window.unpacked(point)
        first = deflate.enter(feed.take(1)[0], skipped) if skipped else b""
        yield from _inflate(feed, first, before)
        feed.take(_TRAILER_SIZE)
    yield from _members(feed, stored.size)


def _members(feed: Feed, stop: int) -> Iterator[bytes]:
    """Yield the plain pieces of the members that begin before `stop`, checking each."""
    while feed.offset < stop and _next_member(feed):
        crc, size = 0, 0
        for piece in _inflate(feed, b"", b""):
            crc, size = isal_zlib.crc32(piece, crc), size + len(piece)
            yield piece
        _check_trailer(feed, crc, size)


def _check_trailer(feed: Feed, crc: int, size: int) -> None:
    """Take the end of a member, and compare it with what came out."""
    offset = feed.offset
    trailer = feed.take(_TRAILER_SIZE)
    expected = int.from_bytes(trailer[:4], "little")
    if crc != expected or size & 0xFFFFFFFF != int.from_bytes(trailer[4:], "little"):
        raise CorruptImageError(
            "gzip.trailer", offset,
            f"CRC32 0x{crc:08x} of {size} bytes, but 0x{expected:08x} is stored",
        )  # fmt: skip


def _inflate(feed: Feed, first: bytes, before: bytes) -> Iterator[bytes]:
    """Yield the plain pieces of one deflate stream, and leave the feed behind its end."""
    decompressor = isal_zlib.decompressobj(wbits=-15, zdict=before)
    data: bytes | memoryview = first
    while not decompressor.eof:
        data = data or decompressor.unconsumed_tail or feed.take_some()
        is_at_end = not data
        try:
            # Also without input: something may be left to come out.
            piece = decompressor.decompress(data, _PIECE)
        except isal_zlib.IsalError as error:  # type: ignore[misc]
            raise CorruptImageError("gzip.deflate", feed.offset, str(error)) from error
        data = b""
        if piece:
            yield piece
        elif is_at_end and not decompressor.eof:
            raise TruncatedImageError(STRUCTURE, feed.offset, "it is cut off here")
    feed.back(len(decompressor.unused_data))


def _next_member(feed: Feed) -> bool:
    """Go behind the header of the next member; False at the end of the stream."""
    offset = feed.offset
    head = bytes(feed.peek(10))
    if not head:
        return False
    if not any(head):
        return _is_padding(feed)
    if head[:3] != b"\x1f\x8b\x08":
        raise CorruptImageError(
            STRUCTURE, offset, f"{head[:4].hex(' ')} is the beginning of no member"
        )
    flags = feed.take(10)[3]
    if flags & 0xE0:
        raise CorruptImageError("gzip.header", offset + 3, f"flags 0x{flags:02x}")
    if flags & _FEXTRA:
        feed.skip(int.from_bytes(feed.take(2), "little"))
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            _skip_name(feed)
    if flags & _FHCRC:
        feed.skip(2)
    return True


def _skip_name(feed: Feed) -> None:
    offset = feed.offset
    for _ in range(_MOST_NAME):
        if not feed.take(1)[0]:
            return
    raise CorruptImageError("gzip.header", offset, "a name without an end")


def _is_padding(feed: Feed) -> bool:
    """Go to the end over zeros, which may follow a stream; return False."""
    while piece := feed.take_some():
        if any(piece):
            raise CorruptImageError(STRUCTURE, feed.offset, "something follows its zero padding")
    return False


def _bgzf_spans(stored: ByteSource, spacing: int) -> list[tuple[int, int]] | None:
    """Return where members ``[start, stop)`` lie that are decoded together; None of other gzip.

    bgzip writes members of up to 64 KiB, each with its stored size in a field of its header, so
    they are found without decoding. Source: the SAM format specification, 4.1.
    """
    feed = Feed(stored, structure=STRUCTURE, chunk=256 << 10)
    spans: list[tuple[int, int]] = []
    start = plain = 0
    while feed.left:
        head = bytes(feed.peek(_BGZF_HEADER_SIZE))
        if not any(head) and spans:
            # Padding, which the last span is followed by.
            break
        if len(head) < _BGZF_HEADER_SIZE or head[:4] + head[10:16] != _BGZF_HEADER:
            return None
        size = int.from_bytes(head[16:18], "little") + 1
        if not _BGZF_HEADER_SIZE + _TRAILER_SIZE < size <= feed.left:
            return None
        # Not believed, but for where points are wanted.
        plain += int.from_bytes(feed.take(size)[-4:], "little")
        if plain >= spacing:
            spans.append((start, feed.offset))
            start, plain = feed.offset, 0
    if start < stored.size:
        spans.append((start, stored.size))
    return spans


def _scan_bgzf(
    stored: ByteSource,
    spans: list[tuple[int, int]],
    marks: ScanMarks,
    progress: Progress | None,
) -> Iterator[bytes]:
    plain = 0

    def decode_span(span: tuple[int, int]) -> list[bytes]:
        feed = Feed(stored, span[0], structure=STRUCTURE, chunk=256 << 10)
        return list(_members(feed, span[1]))

    for span, pieces in zip(spans, in_order(decode_span, spans), strict=True):
        marks.points.append(SeekPoint(plain, span[0]))
        yield from pieces
        plain += sum(map(len, pieces))
        marks.trusted_size = plain
        if progress is not None:
            progress(span[1])
