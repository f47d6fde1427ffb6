"""Compressed clusters of QCOW2: one piece each, which must decode to a whole cluster."""

from __future__ import annotations

import contextlib
import io
import threading

import zstandard
from isal import isal_zlib

from ..errors import CorruptImageError
from . import layout

_LARGEST_WINDOW = 1 << layout.LARGEST_CLUSTER_BITS
WEIGHT = 4 * _LARGEST_WINDOW
"""Bytes that decoding one takes at the most: what goes in, what comes out, and a window."""


def decode(stored: bytes, offset: int, compression: int, cluster_size: int) -> bytes:
    """Return the plain bytes of a cluster; what follows its piece is passed over.

    Args:
        stored: the piece, and up to a sector of what follows it.
        offset: where it lies, for the error.
        compression: `layout.DEFLATE` or `layout.ZSTD`.
        cluster_size: bytes that must come out.

    Raises:
        CorruptImageError: it is damaged, or too short.
    """
    try:
        if compression == layout.ZSTD:
            plain = _unzstd(stored, cluster_size)
        else:
            plain = isal_zlib.decompressobj(wbits=-15).decompress(stored, cluster_size)
    except (isal_zlib.IsalError, zstandard.ZstdError) as error:  # type: ignore[misc]
        raise CorruptImageError("qcow2.cluster", offset, str(error)) from error
    if len(plain) != cluster_size:
        raise CorruptImageError(
            "qcow2.cluster", offset, f"decodes to {len(plain)} bytes of {cluster_size}"
        )
    return plain


_of_thread = threading.local()


def _unzstd(stored: bytes, size: int) -> bytes:
    """Return the first `size` plain bytes of one or several frames.

    QEMU writes one frame of that size, which is decoded at once: four times as fast.
    """
    decompressor: zstandard.ZstdDecompressor | None = getattr(_of_thread, "decompressor", None)
    if decompressor is None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        _of_thread.decompressor = decompressor
    if zstandard.frame_content_size(stored) <= size:
        with contextlib.suppress(zstandard.ZstdError):
            plain = decompressor.decompress(stored, max_output_size=size)
            if len(plain) == size:
                return plain
    return _unzstd_in_pieces(stored, size)


def _unzstd_in_pieces(stored: bytes, size: int) -> bytes:
    """Do the same of any frames, however large they say that they are."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    with decompressor.stream_reader(io.BytesIO(stored), read_across_frames=True) as reader:
        parts = []
        while size and (part := reader.read(size)):
            parts.append(part)
            size -= len(part)
    return b"".join(parts)
