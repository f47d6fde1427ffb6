"""The xz container as far as it must be walked: footers, indexes, stream headers.

Source: the .xz file format, version 1.1.0. A file is streams one after the other, with padding of
zeros in multiples of four bytes between and behind them. Each stream ends in an index of its
blocks, so the blocks are found from the end without decoding any.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from ...errors import (
    ChecksumError,
    CorruptImageError,
    FormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)

if TYPE_CHECKING:
    import lzma

    from ...sources.byte_source import ByteSource

MAGIC = b"\xfd7zXZ\x00"
HEADER_SIZE = 12
BLOCK_HEADER_MAX = 1024
_FOOTER_MAGIC = b"YZ"
_INDEX_MAX = 256 << 20
"""Bytes of an index beyond which it is none: it would be of more than ten million blocks."""

MEMORY_MAX = 136 << 20
"""Most memory that a decoder may take: a dictionary of 128 MiB, and what goes with it. Presets ask
for 64 MiB at the most."""

_FOOTER = "xz.footer"
_INDEX = "xz.index"


class Block(NamedTuple):
    """A block; `check` is the kind of check of its stream."""

    stored_offset: int
    stored_size: int
    plain_size: int
    check: int


def stream_header(check: int) -> bytes:
    """Return the header of a stream whose blocks have checks of this kind."""
    flags = bytes([0, check])
    return MAGIC + flags + zlib.crc32(flags).to_bytes(4, "little")


def failure(structure: str, offset: int, error: lzma.LZMAError) -> FormatError:
    """Return the error for what liblzma says of a stream."""
    if "emory usage limit" in str(error):
        return UnsupportedFeatureError(
            structure,
            offset,
            "a dictionary beyond 128 MiB: pack it anew, `xz -dc FILE | xz -T0 > NEW`",
        )
    return CorruptImageError(structure, offset, str(error))


_LZMA2 = 0x21
_FILTER_COUNT = 0x03
_HAS_STORED_SIZE, _HAS_PLAIN_SIZE = 0x40, 0x80
_LARGEST_DICTIONARY = 40


def dictionary_size(head: bytes, offset: int) -> int:
    """Return the bytes of the dictionary that a block's header asks for; 0 where there is none.

    Args:
        head: the file from the block on.
        offset: of the block, for errors.

    Raises:
        CorruptImageError: it is no block's header.

    Source: the .xz file format, 3.1 (block header) and 5.3.1 (LZMA2).
    """
    try:
        flags, at = head[1], 2
        for flag in (_HAS_STORED_SIZE, _HAS_PLAIN_SIZE):
            if flags & flag:
                _size, at = _varint(head, at, offset)
        for _ in range((flags & _FILTER_COUNT) + 1):
            kind, at = _varint(head, at, offset)
            length, at = _varint(head, at, offset)
            if kind == _LZMA2:
                bits = head[at]
                if bits <= _LARGEST_DICTIONARY:
                    return (
                        0xFFFFFFFF
                        if bits == _LARGEST_DICTIONARY
                        else ((2 | bits & 1) << (bits // 2 + 11))
                    )
            at += length
    except IndexError:
        raise CorruptImageError("xz.block", offset, "its header is none") from None
    return 0


def read_blocks(source: ByteSource) -> list[Block]:
    """Return the blocks of all streams, in order, from the indexes.

    Raises:
        TruncatedImageError: the file does not end like an xz file: it is cut off.
        CorruptImageError: an index cannot be, or its checksum is wrong.
        OSError: the operating system could not read.
    """
    streams: list[list[Block]] = []
    end = source.size
    while end:
        end = _without_padding(source, end, is_last=not streams)
        if not end:
            break
        blocks, end = _stream_before(source, end)
        streams.append(blocks)
    return [block for blocks in reversed(streams) for block in blocks]


def _without_padding(source: ByteSource, end: int, *, is_last: bool) -> int:
    start = end
    while end:
        size = min(end, 4096)
        tail = source.read_at(end - size, size)
        kept = len(tail.rstrip(b"\0"))
        if kept:
            # The last byte of a footer is no zero.
            end = end - size + kept
            break
        end -= size
    if (start - end) % 4 and not is_last:
        raise CorruptImageError("xz.padding", end, f"{start - end} bytes, no multiple of four")
    if (start - end) % 4:
        raise CorruptImageError("xz.padding", end, f"{start - end} zero bytes follow the end")
    return end


def _stream_before(source: ByteSource, end: int) -> tuple[list[Block], int]:
    """Return the blocks of the stream that ends at `end`, and where it begins."""
    if end < 2 * HEADER_SIZE:
        raise TruncatedImageError(_FOOTER, 0, "no whole stream: the file is cut off")
    footer = source.read_at(end - HEADER_SIZE, HEADER_SIZE)
    if footer[10:] != _FOOTER_MAGIC:
        raise TruncatedImageError(
            _FOOTER, end - HEADER_SIZE, "no stream ends here: the file is cut off, or more follows"
        )
    _check_crc(_FOOTER, end - HEADER_SIZE, footer[4:10], footer[:4])
    if footer[8] or footer[9] > 15:  # noqa: PLR2004 - kinds of check
        raise CorruptImageError(_FOOTER, end - 4, f"flags {footer[8:10].hex()}")
    index_size = (int.from_bytes(footer[4:8], "little") + 1) * 4
    index_start = end - HEADER_SIZE - index_size
    if index_start < HEADER_SIZE or index_size > _INDEX_MAX:
        raise CorruptImageError(_INDEX, end, f"{index_size} bytes of it do not fit before the end")
    records = _parse_index(source.read_at(index_start, index_size), index_start)
    start = index_start - HEADER_SIZE - sum(-(-unpadded // 4) * 4 for unpadded, _plain in records)
    if start < 0:
        raise CorruptImageError(_INDEX, index_start, "its blocks are longer than the file")
    header = source.read_at(start, HEADER_SIZE)
    if header[:6] != MAGIC or header[6:8] != footer[8:10]:
        raise CorruptImageError("xz.header", start, "no stream begins where its index says so")
    _check_crc("xz.header", start, header[6:8], header[8:])
    blocks = []
    offset = start + HEADER_SIZE
    for unpadded, plain in records:
        size = -(-unpadded // 4) * 4
        blocks.append(Block(offset, size, plain, footer[9]))
        offset += size
    return blocks, start


def _parse_index(data: bytes, offset: int) -> list[tuple[int, int]]:
    _check_crc(_INDEX, offset, data[:-4], data[-4:])
    if data[0]:
        raise CorruptImageError(_INDEX, offset, f"begins with 0x{data[0]:02x}")
    count, at = _varint(data, 1, offset)
    if count > len(data) // 2:
        raise CorruptImageError(_INDEX, offset, f"{count} blocks do not fit into it")
    records = []
    for _ in range(count):
        unpadded, at = _varint(data, at, offset)
        plain, at = _varint(data, at, offset)
        if unpadded < 5:  # noqa: PLR2004 - the shortest header
            raise CorruptImageError(_INDEX, offset + at, f"a block of {unpadded} bytes")
        records.append((unpadded, plain))
    if any(data[at:-4]) or len(data) - 4 - at > 3:  # noqa: PLR2004 - padding
        raise CorruptImageError(_INDEX, offset + at, "something follows its last record")
    return records


def _varint(data: bytes, at: int, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data) - 4:
            break
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, at
    raise CorruptImageError(_INDEX, offset + at, "a number has no end")


def _check_crc(structure: str, offset: int, covered: bytes, stored: bytes) -> None:
    expected, actual = int.from_bytes(stored, "little"), zlib.crc32(covered)
    if expected != actual:
        raise ChecksumError(structure, offset, group=0, expected=expected, actual=actual)
