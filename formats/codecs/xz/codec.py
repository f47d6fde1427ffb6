"""xz: blocks that can each be decoded alone. A seek point's `state` is its stream's kind of check.

`xz` with several threads, pxz and pixz write many blocks; one thread writes a single one.
"""

from __future__ import annotations

import bisect
import lzma
import os
import weakref
from typing import TYPE_CHECKING

from ...errors import CorruptImageError, FormatError, TruncatedImageError
from ...ordered_map import in_order
from ..cursor import Feed
from ..seek_points import SeekPoint
from . import layout as xz_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource
    from ..seek_points import ScanMarks

NAME = "xz"
LIBRARY = f"liblzma, Python's lzma {lzma.FORMAT_XZ}"
_WEIGHT = 12 << 20
"""Bytes that a decoder takes beside its dictionary, with what it has decoded and nobody took."""

SPACING = 1 << 20

_PIECE = 1 << 20
_WHOLE = 32 << 20
"""Blocks of up to so many plain bytes are decoded several at a time, whole."""

_blocks_of: weakref.WeakKeyDictionary[ByteSource, list[xz_layout.Block]] = (
    weakref.WeakKeyDictionary()
)
"""The blocks of sources that are open, so that each index is read once."""

_AT_ONCE = 96 << 20
"""Plain bytes of blocks that are decoded at the same time, or wait to be taken."""


def scan(
    stored: ByteSource,
    marks: ScanMarks,
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream; see `Codec.scan`."""
    spacing = SPACING if spacing is None else spacing
    blocks = xz_layout.read_blocks(stored)
    plain = due = 0
    for block in blocks:
        if plain >= due and block.plain_size:
            marks.points.append(SeekPoint(plain, block.stored_offset, block.check))
            due = plain + spacing
        plain += block.plain_size
    if not marks.points:
        # A stream of nothing is a stream.
        marks.points.append(SeekPoint(0, 0))
    decoded: Iterator[Iterable[bytes]] = (_decode_block(stored, block) for block in blocks)
    if len(blocks) > 1 and max(block.plain_size for block in blocks) <= _WHOLE:
        largest = max(1, *(block.plain_size for block in blocks))
        # Besides those that are decoded, one waits and one is taken.
        jobs = max(1, min(len(os.sched_getaffinity(0)), _AT_ONCE // largest - 2))
        decoded = in_order(lambda block: list(_decode_block(stored, block)), blocks, jobs=jobs)
    plain = 0
    for block, pieces in zip(blocks, decoded, strict=True):
        yield from pieces
        # Where in a block damage is, cannot be told: its check is of all that came out of it.
        if marks.trusted_size == plain and lzma.is_check_supported(block.check) and block.check:
            marks.trusted_size += block.plain_size
        plain += block.plain_size
        if progress is not None:
            progress(block.stored_offset + block.stored_size)


def weight(stored: ByteSource, point: SeekPoint) -> int:
    """Return the bytes that a decoder takes from a point on; see `Codec.weight`."""
    # A stream that is not read by its index begins with its header.
    offset = point.stored_offset or xz_layout.HEADER_SIZE
    head = stored.read_at(offset, min(xz_layout.BLOCK_HEADER_MAX, stored.size - offset))
    return _WEIGHT + xz_layout.dictionary_size(head, offset)


def decode(stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
    """Yield the plain pieces from a seek point on; see `Codec.decode`."""
    blocks = _blocks_of.get(stored)
    if blocks is None:
        try:
            blocks = _blocks_of[stored] = xz_layout.read_blocks(stored)
        except FormatError:
            # Of a file that is cut off, and of a first chunk, the beginning is there all the same.
            if not point.stored_offset:
                yield from _forwards(stored)
            raise
    first = bisect.bisect_left(blocks, (point.stored_offset,))
    for number in range(first, len(blocks)):
        yield from _decode_block(stored, blocks[number])


def _forwards(stored: ByteSource) -> Iterator[bytes]:
    """Yield the pieces of the first stream as far as they come, without its index."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=xz_layout.MEMORY_MAX)
    feed = Feed(stored, structure="xz.block", chunk=256 << 10)
    try:
        while not decompressor.eof:
            data = feed.take_some() if decompressor.needs_input else b""
            piece = decompressor.decompress(data, _PIECE)
            if piece:
                yield piece
            elif decompressor.needs_input and not feed.left:
                return
    except lzma.LZMAError as error:
        raise xz_layout.failure("xz.block", feed.offset, error) from error


def _decode_block(stored: ByteSource, block: xz_layout.Block) -> Iterator[bytes]:
    """Yield the pieces of one block; its check is checked before the last one."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=xz_layout.MEMORY_MAX)
    feed = Feed(stored, block.stored_offset, structure="xz.block", chunk=256 << 10)
    stop = block.stored_offset + block.stored_size
    data: bytes | memoryview = xz_layout.stream_header(block.check)
    plain = 0
    try:
        while True:
            piece = decompressor.decompress(data, _PIECE)
            plain += len(piece)
            if plain > block.plain_size:
                raise CorruptImageError(
                    "xz.block", block.stored_offset, "holds more than its index says"
                )
            if piece:
                yield piece
            if decompressor.needs_input:
                if feed.offset >= stop:
                    break
                data = feed.take(min(stop - feed.offset, 256 << 10))
            elif not piece:
                break
            else:
                data = b""
    except lzma.LZMAError as error:
        raise xz_layout.failure("xz.block", feed.offset, error) from error
    if plain != block.plain_size:
        raise TruncatedImageError(
            "xz.block", block.stored_offset, f"{plain} bytes instead of {block.plain_size}"
        )
