"""zstd: frames one after the other, and the inside of large ones.

A seek point's `state` is 0 at the beginning of a frame, else `INSIDE`, with `CHECKSUM` added where
a checksum follows the frame. How a frame is entered in its middle: see `zstd_points`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash
import zstandard

from ...errors import CorruptImageError, FormatError
from .. import skippable_frames
from .. import window_use as window
from ..cursor import Feed
from ..seek_points import SeekPoint
from . import layout as zstd_layout
from .points import Block, FramePoints, inside_decompressor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource
    from ..seek_points import ScanMarks

NAME = "zstd"
LIBRARY = f"zstandard {zstandard.__version__}, libzstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
SPACING = 16 << 20
"""Plain bytes between two points inside of a frame: each costs a window."""

FRAME_SPACING = 2 << 20
"""Plain bytes between two points at the beginning of frames: these cost next to nothing."""

_WEIGHT = 4 << 20
"""Bytes that a decoder takes beside its window, with what it has decoded and nobody took."""

STRUCTURE = "zstd.stream"

INSIDE = 1
CHECKSUM = 2


def scan(
    stored: ByteSource,
    marks: ScanMarks,
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream; see `Codec.scan`."""
    points = marks.points
    feed = Feed(stored, structure=STRUCTURE)
    plain = point_due = 0
    while _next_frame(feed):
        if plain >= point_due:
            points.append(SeekPoint(plain, feed.offset))
            point_due = plain + (spacing or FRAME_SPACING)
        header = _frame_header(feed)
        step = spacing or max(SPACING, header.window_size)
        due = points[-1].plain_offset + step
        state = INSIDE | (CHECKSUM if header.has_checksum else 0)
        with FramePoints(stored, header.window_size, state, due, step) as inside:
            first = plain
            try:
                for piece in _whole_frame(feed, header, plain, inside):
                    plain += len(piece)
                    yield piece
                    if progress is not None:
                        progress(feed.offset)
            except FormatError:
                # What comes before damage has points too; whoever wants no more gets none.
                points.extend(inside.finish())
                raise
            found = inside.finish()
            points.extend(found)
        if header.has_checksum and marks.trusted_size == first:
            marks.trusted_size = plain
        if found:
            # What follows is no part of the frame that the last point is in.
            point_due = plain
    if not points:
        raise CorruptImageError(STRUCTURE, 0, "there is no frame in it")


def weight(stored: ByteSource, point: SeekPoint) -> int:
    """Return the bytes that a decoder takes from a point on; see `Codec.weight`."""
    if point.state:
        # It has the window as it was given, as a dictionary, and as its own buffer.
        return _WEIGHT + 3 * point.window_size
    feed = Feed(stored, point.stored_offset, structure=STRUCTURE, chunk=4096)
    if not _next_frame(feed):
        return _WEIGHT
    return _WEIGHT + _frame_header(feed).window_size


def decode(stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
    """Yield the plain pieces from a seek point on, up to the end of the stream.

    Raises:
        FormatError: the stream or the point is damaged.
        OSError: the operating system could not read.
    """
    feed = Feed(stored, point.stored_offset, structure=STRUCTURE)
    if point.state:
        decompressor = inside_decompressor(window.unpacked(point))
        yield from _blocks(feed, decompressor)
        if point.state & CHECKSUM:
            feed.take(zstd_layout.CHECKSUM_SIZE)
    while _next_frame(feed):
        yield from _whole_frame(feed, _frame_header(feed))


def _whole_frame(
    feed: Feed,
    header: zstd_layout.FrameHeader,
    plain: int = 0,
    inside: FramePoints | None = None,
) -> Iterator[bytes]:
    """Yield the plain pieces of a frame from its header on, a block each."""
    decompressor = zstandard.ZstdDecompressor(
        max_window_size=zstd_layout.WINDOW_MAX
    ).decompressobj()
    offset = feed.offset
    _decompress(decompressor, feed.take(header.size), offset)
    yield from _blocks(feed, decompressor, plain, inside)
    if header.has_checksum:
        offset = feed.offset
        try:
            decompressor.decompress(feed.take(zstd_layout.CHECKSUM_SIZE))
        except zstandard.ZstdError as error:
            raise zstd_layout.failure("zstd.checksum", offset, error) from error


def _blocks(
    feed: Feed,
    decompressor: zstandard.ZstdDecompressionObj,
    plain: int = 0,
    inside: FramePoints | None = None,
) -> Iterator[bytes]:
    is_last = False
    while not is_last:
        offset = feed.offset
        head, block = _next_block(feed)
        piece = _decompress(decompressor, block, offset)
        if inside is not None:
            inside.add(
                Block(offset, len(block), plain, len(piece), xxhash.xxh3_64_intdigest(piece)),
                zstd_layout.may_begin_here(head.kind, block[zstd_layout.BLOCK_HEADER_SIZE :]),
                piece,
            )
            plain += len(piece)
        if piece:
            yield piece
        is_last = head.is_last


def _next_block(feed: Feed) -> tuple[zstd_layout.BlockHeader, memoryview]:
    """Return the next block's header, and the block with it."""
    head = zstd_layout.parse_block_header(feed.look(zstd_layout.BLOCK_HEADER_SIZE), feed.offset)
    return head, feed.take(zstd_layout.BLOCK_HEADER_SIZE + head.stored_size)


def _next_frame(feed: Feed) -> bool:
    """Go to the next frame that holds data; False at the end of the stream."""
    while True:
        magic = bytes(feed.peek(4))
        if not magic:
            return False
        if magic == zstd_layout.MAGIC:
            return True
        if magic not in skippable_frames.MAGICS:
            raise CorruptImageError(
                STRUCTURE, feed.offset, f"{magic.hex(' ')} is the beginning of no frame"
            )
        header = feed.take(skippable_frames.HEADER_SIZE)
        feed.skip(skippable_frames.content_size(header))


def _frame_header(feed: Feed) -> zstd_layout.FrameHeader:
    return zstd_layout.parse_frame_header(feed.peek(zstd_layout.LONGEST_HEADER), feed.offset)


def _decompress(
    decompressor: zstandard.ZstdDecompressionObj, data: memoryview, offset: int
) -> bytes:
    try:
        return decompressor.decompress(data)
    except zstandard.ZstdError as error:
        raise zstd_layout.failure("zstd.block", offset, error) from error
