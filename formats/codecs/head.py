"""The first plain bytes of a compressed stream, without a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import registry
from .decoders import LiveDecoder
from .seek_points import SeekPoint

if TYPE_CHECKING:
    from ..sources.byte_source import ByteSource


def plain_head(source: ByteSource, codec: str, size: int) -> bytes:
    """Return the first `size` plain bytes of a stream, fewer where it is shorter.

    Raises:
        FormatError: they cannot be decoded.
        OSError: the operating system could not read.
    """
    start = SeekPoint(0, 0)
    pieces = registry.named(codec).decode(source, start)
    return LiveDecoder(source, start, pieces, 0).read(size)
