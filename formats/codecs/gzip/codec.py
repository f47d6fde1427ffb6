"""gzip: deflate streams, entered where `rapidgzip` found that they can be.

A seek point's `state` is 0 at the header of a member, else `INSIDE` plus the low bits of its first
byte that belong to what comes before.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from isal import isal_zlib

from ...errors import CorruptImageError, TruncatedImageError
from ...ordered_map import in_order
from ...sources.as_file import StoredFile
from .. import window_use as window
from ..cursor import Feed
from ..scan import UntrustedStreamError
from ..seek_points import SeekPoint
from . import deflate
from .index import IndexReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource

NAME = "gzip"
LIBRARY = f"rapidgzip {importlib.metadata.version('rapidgzip')}"
WEIGHT = 1 << 20
"""Bytes that a decoder takes, about, with what it has decoded and nobody has taken."""

STRUCTURE = "gzip.stream"

INSIDE = 8

_PIECE = 1 << 20
_READ = 4 << 20
_TRAILER_SIZE = 8
_WINDOW_SIZE = 32 << 10
_MOST_ZEROS = 4
"""Zero bytes that the end of a member can be: the length of its data, modulo 2^32."""

_BGZF_HEADER = b"\x1f\x8b\x08\x04\x06\x00BC\x02\x00"
"""A member's first four bytes, and bytes 10 to 16: one extra field, with the member's size."""

_BGZF_HEADER_SIZE = 18
_BGZF_SPACING = 2 << 20

_FEXTRA, _FNAME, _FCOMMENT, _FHCRC = 4, 8, 16, 2
_MOST_NAME = 64 << 10


def scan(
    stored: ByteSource,
    points: list[SeekPoint],
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream on all cores; see `Codec.scan`."""
    # rapidgzip overlooks flags that decoders must not.
    _next_member(Feed(stored, structure=STRUCTURE, chunk=64 << 10))
    spans = _bgzf_spans(stored, spacing or _BGZF_SPACING)
    if spans is not None:
        yield from _scan_bgzf(stored, spans, points, progress)
        return
    # Imported where needed: reading does without it.
    import rapidgzip

    plain = 0
    size = _without_zeros(stored)
    file = rapidgzip.open(StoredFile(stored, size), parallelization=0)
    try:
        try:
            while piece := file.read(_READ):
                plain += len(piece)
                yield piece
                if progress is not None:
                    progress(min(size, file.tell_compressed() // 8))
            index = IndexReader(spacing or 0)
            file.export_index(index)
        finally:
            # Closed late, its threads would end the interpreter.
            file.close()
    except (ValueError, RuntimeError) as error:
        if "CRC32" in str(error):
            raise UntrustedStreamError(STRUCTURE, 0, str(error)) from error
        points.append(SeekPoint(0, 0))
        yield from _the_rest(stored, plain, error)
        return
    points.extend(index.points())
    # rapidgzip takes a stream that is cut off for one that ends.
    last = points[-1]
    tail = sum(map(len, decode(stored, last)))
    if last.plain_offset + tail != plain:
        raise CorruptImageError(
            STRUCTURE, last.stored_offset,
            f"{tail} bytes come out from here on, {plain - last.plain_offset} came out before",
        )  # fmt: skip


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
        offset = feed.offset
        trailer = feed.take(_TRAILER_SIZE)
        expected = int.from_bytes(trailer[:4], "little")
        if crc != expected or size & 0xFFFFFFFF != int.from_bytes(trailer[4:], "little"):
            raise UntrustedStreamError(
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


def _without_zeros(stored: ByteSource) -> int:
    """Return the size of the stream without padding, which `rapidgzip` takes for a member."""
    end = stored.size
    while end:
        size = min(end, 64 << 10)
        kept = len(stored.read_at(end - size, size).rstrip(b"\0"))
        if kept:
            end = end - size + kept
            break
        end -= size
    # The end of the last member may be zeros too, and so few more do no harm.
    return min(stored.size, end + _MOST_ZEROS)


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
    points: list[SeekPoint],
    progress: Progress | None,
) -> Iterator[bytes]:
    plain = 0

    def decode_span(span: tuple[int, int]) -> list[bytes]:
        feed = Feed(stored, span[0], structure=STRUCTURE, chunk=256 << 10)
        return list(_members(feed, span[1]))

    for span, pieces in zip(spans, in_order(decode_span, spans), strict=True):
        points.append(SeekPoint(plain, span[0]))
        yield from pieces
        plain += sum(map(len, pieces))
        if progress is not None:
            progress(span[1])


def _the_rest(stored: ByteSource, plain: int, why: Exception) -> Iterator[bytes]:
    """Yield what a decoder that knows no other way gives beyond `plain` bytes, up to its error.

    Where it finds none, nothing is wrong with the stream.
    """
    for piece in decode(stored, SeekPoint(0, 0)):
        if plain >= len(piece):
            plain -= len(piece)
        else:
            yield piece[plain:]
            plain = 0
    if plain:
        raise CorruptImageError(STRUCTURE, stored.size, str(why)) from why
