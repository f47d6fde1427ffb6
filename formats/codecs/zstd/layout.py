"""The zstd frame format as far as it must be walked: frame headers and block headers.

Source: RFC 8878. Pure functions, bytes to records; offsets are only for the errors.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import CorruptImageError, UnsupportedFeatureError

MAGIC = b"\x28\xb5\x2f\xfd"
LONGEST_HEADER = 18
BLOCK_HEADER_SIZE = 3
CHECKSUM_SIZE = 4
BLOCK_MAX = 128 << 10
"""Most plain bytes in a block."""

WINDOW_MAX = 128 << 20
"""Largest window that is decoded: zstd's own limit unless it is told otherwise."""

_RAW, _RLE, _COMPRESSED = range(3)
_TREELESS = 3
_REPEAT = 3


class FrameHeader(NamedTuple):
    """A frame's header; `window_size` is what of the plain data may be referred to."""

    size: int
    window_size: int
    has_checksum: bool


class BlockHeader(NamedTuple):
    """A block's header; `stored_size` is what follows it."""

    is_last: bool
    kind: int
    stored_size: int


def parse_frame_header(data: bytes | memoryview, offset: int) -> FrameHeader:
    """Parse a frame header, magic included.

    Args:
        data: at least the header, or all there is up to `LONGEST_HEADER` bytes.
        offset: where it lies in the stream.

    Raises:
        CorruptImageError: it is too short, or a reserved bit is set.
        UnsupportedFeatureError: it needs a dictionary, or a window beyond `WINDOW_MAX`.
    """
    structure = "zstd.frame_header"
    if len(data) < 6:  # noqa: PLR2004 - magic, descriptor, one byte more
        raise CorruptImageError(structure, offset, "the stream is cut off in it")
    descriptor = data[4]
    if descriptor & 0x08:
        raise CorruptImageError(structure, offset + 4, f"descriptor 0x{descriptor:02x}")
    is_single = bool(descriptor & 0x20)
    size = 5 + (not is_single)
    dictionary_size = (0, 1, 2, 4)[descriptor & 3]
    content_field = descriptor >> 6
    content_size_size = (1 if is_single else 0) if content_field == 0 else 1 << content_field
    end = size + dictionary_size + content_size_size
    if len(data) < end:
        raise CorruptImageError(structure, offset, "the stream is cut off in it")
    if any(data[size : size + dictionary_size]):
        raise UnsupportedFeatureError(
            structure, offset, "needs a dictionary: unpack it with zstd -d -D DICTIONARY"
        )
    if is_single:
        window = int.from_bytes(data[size + dictionary_size : end], "little")
        if content_field == 1:
            window += 256
    else:
        exponent, mantissa = data[5] >> 3, data[5] & 7
        base = 1 << (10 + exponent)
        window = base + base // 8 * mantissa
        if window > WINDOW_MAX:
            raise UnsupportedFeatureError(
                structure,
                offset,
                f"a window of {window >> 20} MiB, beyond {WINDOW_MAX >> 20} MiB: pack it anew, "
                "`zstd -d --long=31 --stdout FILE | zstd -o NEW`",
            )
    return FrameHeader(end, min(window, WINDOW_MAX), bool(descriptor & 0x04))


def parse_block_header(data: bytes | memoryview, offset: int) -> BlockHeader:
    """Parse the three bytes of a block header.

    Raises:
        CorruptImageError: its kind is reserved, or it is larger than a block can be.
    """
    word = int.from_bytes(data[:BLOCK_HEADER_SIZE], "little")
    kind, size = (word >> 1) & 3, word >> 3
    if kind > _COMPRESSED or size > BLOCK_MAX:
        raise CorruptImageError("zstd.block", offset, f"kind {kind}, {size} bytes: there is none")
    return BlockHeader(bool(word & 1), kind, 1 if kind == _RLE else size)


def may_begin_here(kind: int, content: bytes | memoryview) -> bool:
    """Tell whether a block needs no entropy tables of blocks before it.

    It may still need them for the offsets that repeat, and so may the blocks after it.

    Args:
        kind: the block's kind.
        content: what follows its header.
    """
    if kind != _COMPRESSED:
        return True
    if len(content) < 5 or content[0] & 3 == _TREELESS:  # noqa: PLR2004 - the longest header
        return False
    literals, size_format = content[0] & 3, (content[0] >> 2) & 3
    if literals < _COMPRESSED:
        header = (1, 2, 1, 3)[size_format]
        regenerated = int.from_bytes(content[:header], "little") >> (3 if header == 1 else 4)
        at = header + (1 if literals == _RLE else regenerated)
    else:
        header, bits = ((3, 10), (3, 10), (4, 14), (5, 18))[size_format]
        at = header + (
            (int.from_bytes(content[:header], "little") >> (4 + bits)) & ((1 << bits) - 1)
        )
    if at >= len(content):
        return False
    count = content[at]
    if count == 0:
        return True
    at += 1 if count < 128 else (2 if count < 255 else 3)  # noqa: PLR2004 - lengths of the field
    if at >= len(content):
        return False
    modes = content[at]
    return _REPEAT not in {modes >> 6, (modes >> 4) & 3, (modes >> 2) & 3}


def made_up_header(window_size: int) -> bytes:
    """Return a frame header for blocks that are taken out of another frame.

    Its window is the next power of two; it announces no checksum, since that is of the whole frame.
    """
    exponent = max(0, (window_size - 1).bit_length() - 10)
    return MAGIC + bytes([0, exponent << 3])


def failure(structure: str, offset: int, error: Exception) -> Exception:
    """Return what zstd's error is: damage, or too little memory for a window, which is none."""
    if "not enough memory" in str(error):
        return MemoryError(f"zstd: {error}")
    return CorruptImageError(structure, offset, str(error))
