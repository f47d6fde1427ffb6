"""lz4: blocks that carry their sizes; linked ones need the 64 KiB of plain data before them.

A seek point's `state` is the flags of its frame, with `INSIDE` added behind the frame's header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import lz4.block
import lz4.version
import xxhash

from ...errors import ChecksumError, CorruptImageError
from ...ordered_map import in_order
from .. import skippable_frames
from .. import window_use as window
from ..cursor import Feed
from ..seek_points import SeekPoint
from . import layout as lz4_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource
    from ..seek_points import ScanMarks

NAME = "lz4"
LIBRARY = f"lz4 {lz4.version.version}"
SPACING = 2 << 20
_WEIGHT = 9 << 20
"""Bytes that a decoder takes, about, with what it has decoded and nobody has taken."""

STRUCTURE = "lz4.stream"

INSIDE = 1 << 16
_HEADERS = 4096
"""Bytes that are read at once where only headers are wanted."""
_LINKED_SPACING = 16 << 20
"""Where each point needs a window, fewer points."""

_ENDS = frozenset({lz4_layout.MAGIC, lz4_layout.LEGACY_MAGIC}) | skippable_frames.MAGICS


class _Block(NamedTuple):
    offset: int
    data: bytes
    is_compressed: bool
    frame: lz4_layout.FrameHeader


def scan(
    stored: ByteSource,
    marks: ScanMarks,
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream; see `Codec.scan`."""
    feed = Feed(stored, structure=STRUCTURE, chunk=_HEADERS)
    plain = due = 0
    while (frame := _next_frame(feed)) is not None:
        step = (_LINKED_SPACING if frame.is_linked else SPACING) if spacing is None else spacing
        begins = True
        first = plain
        before = b""
        hasher = xxhash.xxh32()
        for block, piece in _decoded(feed, frame):
            if plain >= due or (begins and not marks.points):
                state = 0 if begins else frame.flags | INSIDE
                needs = frame.is_linked and not begins
                offset = block.offset - (frame.size if begins else 0)
                marks.points.append(
                    _linked_point(plain, offset, state, before, block)
                    if needs
                    else SeekPoint(plain, offset, state)
                )
                due = plain + step
            begins = False
            if frame.is_linked:
                before = _window_after(before, piece)
            if frame.has_content_checksum:
                hasher.update(piece)
            if frame.has_block_checksums and marks.trusted_size == plain:
                marks.trusted_size += len(piece)
            plain += len(piece)
            yield piece
            if progress is not None:
                progress(feed.offset)
        _end_frame(feed, frame, hasher)
        if frame.has_content_checksum and marks.trusted_size >= first:
            marks.trusted_size = plain
    if not marks.points:
        marks.points.append(SeekPoint(0, 0))


def weight(stored: ByteSource, point: SeekPoint) -> int:  # noqa: ARG001
    """Return the bytes that a decoder takes from a point on; see `Codec.weight`."""
    return _WEIGHT + 3 * point.window_size


def decode(stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
    """Yield the plain pieces from a seek point on; see `Codec.decode`."""
    feed = Feed(stored, point.stored_offset, structure=STRUCTURE, chunk=_HEADERS)
    if point.state & INSIDE:
        frame = lz4_layout.FrameHeader(0, point.state & ~INSIDE)
        before = window.unpacked(point)
        yield from _in_sequence(feed, frame, before)
        _end_frame(feed, frame, None)
    while (header := _next_frame(feed)) is not None:
        yield from _in_sequence(feed, header, b"")
        _end_frame(feed, header, None)


def _next_frame(feed: Feed) -> lz4_layout.FrameHeader | None:
    """Go behind the next frame's header, None at the end of the stream."""
    while True:
        magic = bytes(feed.peek(4))
        if not magic:
            return None
        if magic in skippable_frames.MAGICS:
            header = feed.take(skippable_frames.HEADER_SIZE)
            feed.skip(skippable_frames.content_size(header))
            continue
        if magic not in {lz4_layout.MAGIC, lz4_layout.LEGACY_MAGIC}:
            raise CorruptImageError(
                STRUCTURE, feed.offset, f"{magic.hex(' ')} is the beginning of no frame"
            )
        frame = lz4_layout.parse_frame_header(feed.peek(lz4_layout.LONGEST_HEADER), feed.offset)
        feed.take(frame.size)
        return frame


def _blocks(feed: Feed, frame: lz4_layout.FrameHeader) -> Iterator[_Block]:
    """Yield the stored blocks of a frame, with their checksums checked."""
    while True:
        offset = feed.offset
        if frame.is_legacy and (not feed.left or bytes(feed.peek(4)) in _ENDS):
            return
        size, is_compressed = lz4_layout.parse_block_size(feed.take(4), frame, offset)
        if not size and not frame.is_legacy:
            return
        data = _stored_bytes(feed, size)
        if frame.has_block_checksums:
            expected = int.from_bytes(feed.take(4), "little")
            actual = xxhash.xxh32_intdigest(data)
            if expected != actual:
                raise ChecksumError("lz4.block", offset, group=0, expected=expected, actual=actual)
        yield _Block(offset, data, is_compressed, frame)


def _stored_bytes(feed: Feed, size: int) -> bytes:
    """Return the next bytes, read at once and copied once: blocks are up to 4 MiB."""
    data = feed.read_at(size)
    feed.skip(size)
    return data


def _decoded(feed: Feed, frame: lz4_layout.FrameHeader) -> Iterator[tuple[_Block, bytes]]:
    """Yield each block of a frame and its plain bytes; independent ones on several cores."""
    if not frame.is_linked:
        yield from in_order(lambda block: (block, _plain(block, b"")), _blocks(feed, frame))
        return
    before = b""
    for block in _blocks(feed, frame):
        piece = _plain(block, before)
        before = _window_after(before, piece)
        yield block, piece


def _in_sequence(feed: Feed, frame: lz4_layout.FrameHeader, before: bytes) -> Iterator[bytes]:
    for block in _blocks(feed, frame):
        piece = _plain(block, before if frame.is_linked else b"")
        before = _window_after(before, piece) if frame.is_linked else b""
        yield piece


def _window_after(before: bytes, piece: bytes) -> bytes:
    if len(piece) >= lz4_layout.WINDOW_SIZE:
        return piece[-lz4_layout.WINDOW_SIZE :]
    return (before + piece)[-lz4_layout.WINDOW_SIZE :]


def _plain(block: _Block, before: bytes) -> bytes:
    if not block.is_compressed:
        return block.data
    try:
        plain: bytes = lz4.block.decompress(
            block.data, uncompressed_size=block.frame.block_max, dict=before
        )
    except lz4.block.LZ4BlockError as error:
        raise CorruptImageError("lz4.block", block.offset, str(error)) from error
    return plain


def _linked_point(plain: int, offset: int, state: int, before: bytes, block: _Block) -> SeekPoint:
    """Return a point with what of the window its block refers to; the next block needs no more.

    A block of less than 64 KiB may leave the rest of the window to those that follow it.
    """
    before = before.rjust(lz4_layout.WINDOW_SIZE, b"\0")
    piece = _plain(block, before)
    needed = None
    if len(piece) >= lz4_layout.WINDOW_SIZE:
        needed = window.referred(lambda marks: _plain(block, marks), len(before), piece)
    return SeekPoint(plain, offset, state, len(before), window.pack(before, needed))


def _end_frame(feed: Feed, frame: lz4_layout.FrameHeader, hasher: xxhash.xxh32 | None) -> None:
    if not frame.has_content_checksum:
        return
    offset = feed.offset
    expected = int.from_bytes(feed.take(4), "little")
    if hasher is not None and hasher.intdigest() != expected:
        raise CorruptImageError(
            "lz4.checksum",
            offset,
            f"of the content is 0x{hasher.intdigest():08x}, but 0x{expected:08x} is stored",
        )
