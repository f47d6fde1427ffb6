"""The index that `rapidgzip` exports, taken apart as it is written.

Source: the format of indexed_gzip, version 1. A header, one record for each point, then the windows
of those that have one. Only one window is held at a time, for a large file has very many.
"""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

from ...errors import CorruptImageError
from .. import window_use as window
from ..seek_points import SeekPoint

_HEADER = struct.Struct("<5sBBQQIII")
_POINT = struct.Struct("<QQBB")
_MAGIC = b"GZIDX"


class _Point(NamedTuple):
    stored_offset: int
    plain_offset: int
    bits: int
    has_window: int


class IndexReader(io.RawIOBase):
    """A file that only takes what is written to it.

    Args:
        spacing: plain bytes between two points at the least.
    """

    def __init__(self, spacing: int) -> None:
        super().__init__()
        self._written = 0
        self._spacing = spacing
        self._rest = bytearray()
        self._plain_size = self._window_size = 0
        self._count = -1
        self._read: list[_Point] = []
        self._windows: dict[int, bytes | memoryview] = {}
        self._next_window = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._written

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Take the next bytes of the index."""
        self._written += len(data)
        self._rest += data
        if self._count < 0 and len(self._rest) >= _HEADER.size:
            magic, version, _flags, _stored, plain, _spacing, size, count = _HEADER.unpack_from(
                self._rest
            )
            if magic != _MAGIC or version != 1:
                raise CorruptImageError("gzip.index", 0, f"{magic!r}, version {version}")
            self._plain_size, self._window_size, self._count = plain, size, count
            del self._rest[: _HEADER.size]
        whole = min(self._count - len(self._read), len(self._rest) // _POINT.size)
        if self._count >= 0 and whole > 0:
            records = self._rest[: whole * _POINT.size]
            self._read += [_Point(*fields) for fields in _POINT.iter_unpack(records)]
            del self._rest[: len(records)]
        if len(self._read) == self._count:
            self._take_windows()
        return len(data)

    def points(self) -> list[SeekPoint]:
        """Return the points, when all was written."""
        found = [SeekPoint(0, 0)]
        for point in self._read:
            is_near = point.plain_offset - found[-1].plain_offset < max(1, self._spacing)
            # There is one at the end too.
            if is_near or not 0 < point.plain_offset < self._plain_size:
                continue
            packed = self._windows.get(point.plain_offset, b"")
            # The bits are the high ones of the byte before.
            found.append(
                SeekPoint(
                    point.plain_offset,
                    point.stored_offset - bool(point.bits),
                    _INSIDE | (8 - point.bits) % 8,
                    self._window_size if packed else 0,
                    packed,
                )
            )
        return found

    def _take_windows(self) -> None:
        while len(self._rest) >= self._window_size:
            while self._next_window < self._count and not self._read[self._next_window].has_window:
                self._next_window += 1
            if self._next_window == self._count:
                return
            # What is not referred to is zero already.
            plain = bytes(self._rest[: self._window_size])
            del self._rest[: self._window_size]
            self._windows[self._read[self._next_window].plain_offset] = window.pack(plain, None)
            self._next_window += 1


_INSIDE = 8
