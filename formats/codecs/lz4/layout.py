"""The LZ4 frame format, and the legacy one, as far as they must be walked.

Source: the LZ4 frame format description, version 1.6.4.
"""

from __future__ import annotations

from typing import NamedTuple

import xxhash

from ...errors import ChecksumError, CorruptImageError, UnsupportedFeatureError

MAGIC = b"\x04\x22\x4d\x18"
LEGACY_MAGIC = b"\x02\x21\x4c\x18"
LONGEST_HEADER = 19
WINDOW_SIZE = 64 << 10
LEGACY_BLOCK_MAX = 8 << 20
_UNCOMPRESSED = 1 << 31
_STRUCTURE = "lz4.frame_header"


class FrameHeader(NamedTuple):
    """A frame's header. `flags` is what a reader needs to decode its blocks; see `block_max`."""

    size: int
    flags: int

    @property
    def is_legacy(self) -> bool:
        """Whether it is a frame of the old format."""
        return self.flags == 0

    @property
    def is_linked(self) -> bool:
        """Whether blocks refer to the 64 KiB of plain data before them."""
        return not self.is_legacy and not self.flags & 0x20

    @property
    def has_block_checksums(self) -> bool:
        """Whether four bytes of checksum follow each block."""
        return bool(self.flags & 0x10)

    @property
    def has_content_checksum(self) -> bool:
        """Whether four bytes of checksum follow the last block."""
        return bool(self.flags & 0x04)

    @property
    def block_max(self) -> int:
        """Most plain bytes in a block."""
        return LEGACY_BLOCK_MAX if self.is_legacy else 1 << (8 + 2 * ((self.flags >> 12) & 7))


LEGACY = FrameHeader(4, 0)


def parse_frame_header(data: bytes | memoryview, offset: int) -> FrameHeader:
    """Parse a frame header, magic included.

    Args:
        data: at least the header, or all there is up to `LONGEST_HEADER` bytes.
        offset: where it lies in the stream.

    Raises:
        CorruptImageError: it is too short, or a field cannot be.
        ChecksumError: its checksum is another.
        UnsupportedFeatureError: it needs a dictionary.
    """
    if data[:4] == LEGACY_MAGIC:
        return LEGACY
    if len(data) < 7:  # noqa: PLR2004 - magic, two bytes, checksum
        raise CorruptImageError(_STRUCTURE, offset, "the stream is cut off in it")
    flags, descriptor = data[4], data[5]
    if flags >> 6 != 1 or flags & 0x02 or descriptor & 0x8F or descriptor >> 4 < 4:  # noqa: PLR2004
        raise CorruptImageError(
            _STRUCTURE, offset + 4, f"flags 0x{flags:02x} 0x{descriptor:02x} cannot be"
        )
    if flags & 0x01:
        raise UnsupportedFeatureError(
            _STRUCTURE, offset, "needs a dictionary: unpack it with lz4 -d -D DICTIONARY"
        )
    size = 4 + 2 + (8 if flags & 0x08 else 0) + 1
    if len(data) < size:
        raise CorruptImageError(_STRUCTURE, offset, "the stream is cut off in it")
    expected = data[size - 1]
    actual = xxhash.xxh32_intdigest(bytes(data[4 : size - 1])) >> 8 & 0xFF
    if expected != actual:
        raise ChecksumError(_STRUCTURE, offset, group=0, expected=expected, actual=actual)
    return FrameHeader(size, descriptor << 8 | flags)


def parse_block_size(
    data: bytes | memoryview, header: FrameHeader, offset: int
) -> tuple[int, bool]:
    """Return a block's stored size, and whether it is compressed; size 0 ends the frame.

    Raises:
        CorruptImageError: it is larger than a block of this frame can be.
    """
    word = int.from_bytes(data[:4], "little")
    if header.is_legacy:
        # Of data that cannot be compressed, a block is larger than what is in it.
        size, compressed = word, True
        largest = LEGACY_BLOCK_MAX + LEGACY_BLOCK_MAX // 255 + 16
    else:
        size, compressed = word & (_UNCOMPRESSED - 1), not word & _UNCOMPRESSED
        largest = header.block_max
    if size > largest:
        raise CorruptImageError("lz4.block", offset, f"{size} bytes, beyond {largest}")
    return size, compressed
