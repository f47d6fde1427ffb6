"""Where the bytes of a file lie, as the kernel tells it of a file system that is mounted: FIEMAP.

Source: linux/fiemap.h, linux/fs.h; what flags mean, Documentation/filesystems/fiemap.rst.
"""

from __future__ import annotations

import fcntl
import struct
from typing import TYPE_CHECKING

from .errors import RefusedError
from .worker.wire import ZEROS

if TYPE_CHECKING:
    from .worker.driver import Run

_FIEMAP = 0xC020660B
_GET_ATTRIBUTES = 0x801C581F
_REALTIME = 0x1

_HEAD = struct.Struct("<QQIIII")
_EXTENT = struct.Struct("<QQQQQIIII")
_AT_ONCE = 512
"""Extents that are asked for at once."""

_MOST_EXTENTS = 1 << 23

_SYNC = 0x1
_WHOLE = (1 << 64) - 1

_LAST, _UNKNOWN, _DELALLOC, _ENCODED = 0x1, 0x2, 0x4, 0x8
_ENCRYPTED, _NOT_ALIGNED, _INLINE, _TAIL, _UNWRITTEN = 0x80, 0x100, 0x200, 0x400, 0x800


class UnsettledError(RefusedError):
    """Some bytes of a file have no place yet: it is being written."""


def map_file(fd: int, size: int, *, sync: bool) -> list[Run] | None:
    """Return the runs of a file: where its bytes lie in the device of its file system.

    Args:
        fd: the file.
        size: its bytes.
        sync: have it written out before; else bytes that have no place yet are said to be zeros.

    Returns:
        Runs that cover all of it, of unwritten ones `ZEROS`; None where its bytes lie in its inode.

    Raises:
        UnsettledError: it is being written.
        RefusedError: what lies there is not what it holds: it is encrypted, or encoded.
        OSError: the file system does not tell.
    """
    runs: list[Run] = []
    behind = 0
    for logical, physical, length, flags in _extents(fd, size, sync=sync):
        if flags & (_ENCRYPTED | _ENCODED):
            what = "encrypted" if flags & _ENCRYPTED else "encoded"
            raise RefusedError("file", 0, f"it is {what}: its bytes lie nowhere as they are")
        if flags & (_INLINE | _TAIL | _NOT_ALIGNED):
            return None
        if flags & (_DELALLOC | _UNKNOWN):
            if sync:
                raise UnsettledError("file", 0, "it is being written")
            continue
        start, stop = max(logical, behind), min(logical + length, size)
        if stop <= start:
            continue
        if start > behind:
            runs.append((behind, start - behind, ZEROS))
        place = ZEROS if flags & _UNWRITTEN else physical + start - logical
        runs.append((start, stop - start, place))
        behind = stop
    if behind < size:
        runs.append((behind, size - behind, ZEROS))
    return runs


def is_realtime(fd: int) -> bool:
    """Tell whether a file of XFS lies on another device than the file system.

    Raises:
        OSError: the file system does not tell.
    """
    (flags,) = struct.unpack_from("<I", fcntl.ioctl(fd, _GET_ATTRIBUTES, bytes(28)))
    return bool(flags & _REALTIME)


def _extents(fd: int, size: int, *, sync: bool) -> list[tuple[int, int, int, int]]:
    found: list[tuple[int, int, int, int]] = []
    start = 0
    while start < size:
        asked = bytearray(_HEAD.size + _AT_ONCE * _EXTENT.size)
        _HEAD.pack_into(asked, 0, start, _WHOLE - start, _SYNC if sync else 0, 0, _AT_ONCE, 0)
        fcntl.ioctl(fd, _FIEMAP, asked)
        count = _HEAD.unpack_from(asked)[3]
        flags = _LAST
        for number in range(count):
            told = _EXTENT.unpack_from(asked, _HEAD.size + number * _EXTENT.size)
            logical, physical, length, flags = *told[:3], told[5]
            found.append((logical, physical, length, flags))
            start = logical + length
        if flags & _LAST or not count:
            break
        if len(found) > _MOST_EXTENTS:
            raise RefusedError("file", 0, f"it has more than {_MOST_EXTENTS} extents")
        # What follows was written out by the first question.
        sync = False
    return found
