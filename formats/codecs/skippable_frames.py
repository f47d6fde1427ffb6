"""Frames that zstd and lz4 pass over alike: a magic, a size, and bytes that are somebody else's.

Sources: RFC 8878, section 3.1.2; the LZ4 frame format description, "Skippable Frames".
"""

from __future__ import annotations

MAGICS = frozenset(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))
HEADER_SIZE = 8


def content_size(header: bytes | memoryview) -> int:
    """Return the bytes that follow the header of such a frame."""
    return int.from_bytes(header[4:HEADER_SIZE], "little")
