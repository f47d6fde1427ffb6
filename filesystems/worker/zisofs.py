"""Files that zisofs compresses: blocks of zlib behind a table of where each ends.

Source: fs/isofs/compress.c of Linux.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import TYPE_CHECKING

from ..errors import DamagedError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rock_ridge import Zisofs

    Stored = Callable[[int, int], bytes]

_MAGIC = bytes.fromhex("37e45396c9dbd607")
_HEADER = 16
_SHIFTS = range(15, 18)


def check(how: Zisofs, what: str) -> None:
    """Check that a file is compressed in the way that is read.

    Raises:
        RefusedError: it is not.
    """
    if how.algorithm != b"pz":
        raise RefusedError(what, 0, f"it is compressed by zisofs {how.algorithm!r}, which is new")
    if how.header < _HEADER or how.shift not in _SHIFTS:
        raise RefusedError(
            what, 0, f"its header of {how.header} bytes and blocks of 2^{how.shift} are not zisofs'"
        )


def read(how: Zisofs, what: str, stored: Stored, offset: int, length: int) -> bytes:
    """Return bytes of a file, fewer at its end.

    Args:
        how: how it is compressed.
        what: what errors call it.
        stored: returns what is stored of it, by offset and length.
        offset: the first byte.
        length: how many.

    Raises:
        DamagedError: what is stored is not what it says.
    """
    check(how, what)
    head = stored(0, _HEADER)
    size, header, shift = struct.unpack_from("<IBB", head, 8)
    if head[:8] != _MAGIC or (size, header * 4, shift) != (how.size, how.header, how.shift):
        raise DamagedError(what, 0, "its header is not that of its ZF")
    stop = min(offset + length, how.size)
    if offset >= stop:
        return b""
    block = 1 << shift
    first, behind = offset >> shift, -(-stop >> shift)
    table = struct.unpack(
        f"<{behind - first + 1}I", stored(how.header + 4 * first, 4 * (behind - first + 1))
    )
    pieces = []
    for number, (start, end) in enumerate(itertools.pairwise(table), first):
        want = min(block, how.size - number * block)
        if not start <= end <= start + 2 * block:
            raise DamagedError(what, start, f"block {number} of it lies nowhere")
        pieces.append(_block(stored(start, end - start), want, what, start) if end > start else
                      bytes(want))  # fmt: skip
    return b"".join(pieces)[offset - first * block :][: stop - offset]


def _block(data: bytes, want: int, what: str, start: int) -> bytes:
    decoder = zlib.decompressobj()
    try:
        found = decoder.decompress(data, want)
    except zlib.error as error:
        raise DamagedError(what, start, f"a block of it is none: {error}") from None
    if len(found) != want:
        raise DamagedError(what, start, f"a block of it has {len(found)} bytes of {want}")
    return found
