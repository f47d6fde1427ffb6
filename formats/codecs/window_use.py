"""Which bytes of a window are referred to: the rest of it need not be kept.

A decoder only copies bytes of its window. Decoding with windows in which each byte says where it
lies tells, for every byte that comes out, which place of the window it came from. One window can
say 8 bits of that, so two are decoded with, and places are so large that 16 bits number them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from ..errors import CorruptImageError
from .window_spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .seek_points import SeekPoint

_LEVEL = 3
_PLACES = 1 << 16

_spool = Spool()


def referred(
    decode: Callable[[bytes], bytes], window_size: int, plain: bytes
) -> npt.NDArray[np.bool_] | None:
    """Return which bytes of the window `plain` depends on, and some more; None if one cannot tell.

    A byte that looks like no copy by chance is missed, once in 65,536: what is kept must be tried.

    Args:
        decode: decodes with the window that it is given, to as many bytes as `plain` has.
        window_size: bytes in the window.
        plain: what comes out with the real window, as far as that can be referred to.
    """
    real = np.frombuffer(plain, np.uint8)
    low, high = (np.frombuffer(decode(_marks(window_size, plane)), np.uint8) for plane in range(2))
    if len(low) != len(real) or len(high) != len(real):
        return None
    copied = np.flatnonzero((low != real) | (high != real))
    places = low[copied].astype(np.uint16) | (high[copied].astype(np.uint16) << np.uint16(8))
    needed = np.zeros(_PLACES, np.bool_)
    needed[places] = True
    # Where both say the same as the real byte, a copy looks like a literal.
    needed[np.arange(256) * 0x0101] = True
    return np.repeat(needed, _place_size(window_size))[:window_size]


def _place_size(window_size: int) -> int:
    return -(-window_size // _PLACES)


@functools.lru_cache(maxsize=4)
def _marks(window_size: int, plane: int) -> bytes:
    """Return a window in which each byte is 8 bits of its place's number."""
    numbers = np.arange(-(-window_size // _place_size(window_size)), dtype=np.uint32)
    marks = ((numbers >> np.uint32(8 * plane)) & np.uint32(0xFF)).astype(np.uint8)
    return np.repeat(marks, _place_size(window_size))[:window_size].tobytes()


def pack(window: bytes, needed: npt.NDArray[np.bool_] | None) -> bytes | memoryview:
    """Return the stored form of a window: a zstd frame, zeros where nothing is needed.

    Raises:
        OSError: there is no room to keep it until the scan ends.
    """
    if needed is not None:
        window = (np.frombuffer(window, np.uint8) * needed).tobytes()
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    return _spool.keep(compressor.compress(window))


def unpack(stored: bytes | memoryview, window_size: int) -> bytes:
    """Return a window from its stored form.

    Raises:
        zstandard.ZstdError: it is damaged.
    """
    return zstandard.ZstdDecompressor().decompress(stored, max_output_size=window_size)


def unpacked(point: SeekPoint) -> bytes:
    """Return a point's window; nothing where it has none.

    Raises:
        CorruptImageError: it is damaged in the catalog.
    """
    if not point.window:
        return b""
    try:
        return unpack(point.window, point.window_size)
    except zstandard.ZstdError as error:
        raise CorruptImageError(
            "index.window", point.plain_offset, f"{error}: add the image again with --force"
        ) from error
