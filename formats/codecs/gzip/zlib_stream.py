"""Inflating with the system's zlib, which stops between two blocks where it is asked to.

Python's own binding cannot: it hides where blocks begin, and what the window holds there. Memory is
one window and one buffer, however long the stream is and whatever comes out of it.

Source: zlib.h of version 1.2.9 and later: inflate with `Z_BLOCK`, inflateGetDictionary.
"""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, NamedTuple

from ...errors import CorruptImageError, FormatError, TruncatedImageError, UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..cursor import Feed

WINDOW_SIZE = 32 << 10

_PIECE = 1 << 20
_OK, _STREAM_END, _BUF_ERROR = 0, 1, -5
_MEM_ERROR = -4
_NO_FLUSH, _BLOCK = 0, 5
_RAW = -15
_UNUSED_BITS, _IN_LAST_BLOCK, _AT_BLOCK = 7, 64, 128
"""What `data_type` says after each call."""


class _Stream(ctypes.Structure):
    _fields_ = (
        ("next_in", ctypes.c_void_p), ("avail_in", ctypes.c_uint), ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p), ("avail_out", ctypes.c_uint), ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p), ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p), ("zfree", ctypes.c_void_p), ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int), ("adler", ctypes.c_ulong), ("reserved", ctypes.c_ulong),
    )  # fmt: skip


class Boundary(NamedTuple):
    """A place between two blocks.

    Attributes:
        plain_offset: plain bytes of the stream before it.
        stored_offset: the byte that the next block begins in.
        skipped: low bits of that byte that belong to what comes before.
        window: up to 32 KiB of plain bytes before it.
    """

    plain_offset: int
    stored_offset: int
    skipped: int
    window: bytes


@functools.cache
def _library() -> ctypes.CDLL:
    """Return zlib, of the system or as Python has it inside.

    Raises:
        UnsupportedFeatureError: there is none.
    """
    for name in ("libz.so.1", None):
        try:
            library = ctypes.CDLL(name)
            library.zlibVersion.restype = ctypes.c_char_p
            for function in (library.inflate, library.inflateEnd, library.inflateInit2_):
                function.restype = ctypes.c_int
            library.inflateGetDictionary.restype = ctypes.c_int
        except (OSError, AttributeError):
            continue
        return library
    raise UnsupportedFeatureError(
        "gzip.stream", 0, "the library zlib (libz.so.1) is missing: install zlib1g, or zlib"
    )


class Inflater:
    """Decodes one deflate stream from where a feed stands, and leaves the feed behind its end.

    Iterating gives the plain pieces.

    Args:
        feed: at the first byte of the stream.
        due: plain bytes of the stream from which on a place between two blocks is wanted.
        spacing: plain bytes between two such places at the least.

    Attributes:
        boundaries: the places that were found; whoever takes the pieces takes them away.

    Raises, while it is iterated over:
        CorruptImageError: the stream cannot be decoded.
        TruncatedImageError: it is cut off.
        MemoryError: there is none left.
        OSError: the operating system could not read.
    """

    def __init__(self, feed: Feed, due: int, spacing: int) -> None:
        self.boundaries: list[Boundary] = []
        self._feed = feed
        self._due = due
        self._spacing = spacing
        self._zlib = _library()
        self._stream = _Stream()
        self._input = b""
        self._out = ctypes.create_string_buffer(_PIECE)
        self._filled = 0
        self._plain = 0

    def __iter__(self) -> Iterator[bytes]:
        stream, reference = self._stream, ctypes.byref(self._stream)
        size = ctypes.c_int(ctypes.sizeof(stream))
        if self._zlib.inflateInit2_(reference, _RAW, self._zlib.zlibVersion(), size) != _OK:
            raise MemoryError("zlib has no memory for a decoder")
        try:
            yield from self._pieces()
            self._feed.back(stream.avail_in)
        finally:
            self._zlib.inflateEnd(reference)

    def _pieces(self) -> Iterator[bytes]:
        try:
            while self._step() != _STREAM_END:
                if self._filled == _PIECE:
                    yield self._take()
        except FormatError:
            # What came before is there, as far as it goes.
            if self._filled:
                yield self._take()
            raise
        if self._filled:
            yield self._take()

    def _step(self) -> int:
        """Decode until the input ends, or the buffer is full, or a wanted place is reached."""
        stream = self._stream
        if not stream.avail_in:
            self._refill()
        room = _PIECE - self._filled
        missing = self._due - self._plain
        flush = _BLOCK if missing <= 0 else _NO_FLUSH
        stream.avail_out = asked = room if missing <= 0 else min(room, missing)
        stream.next_out = ctypes.addressof(self._out) + self._filled
        had = stream.avail_in
        result: int = self._zlib.inflate(ctypes.byref(stream), flush)
        came = asked - stream.avail_out
        self._filled += came
        self._plain += came
        if result == _BUF_ERROR and not stream.avail_in and not had:
            raise TruncatedImageError("gzip.stream", self._feed.offset, "it is cut off here")
        is_between = stream.data_type & _AT_BLOCK and not stream.data_type & _IN_LAST_BLOCK
        self._check(result)
        if flush == _BLOCK and result == _OK and is_between and self._plain:
            self._note()
        return result

    def _refill(self) -> None:
        # Kept as long as zlib points into it.
        self._input = bytes(self._feed.take_some())
        self._stream.next_in = ctypes.cast(ctypes.c_char_p(self._input), ctypes.c_void_p)
        self._stream.avail_in = len(self._input)

    def _check(self, result: int) -> None:
        if result in {_OK, _STREAM_END, _BUF_ERROR}:
            return
        if result == _MEM_ERROR:
            raise MemoryError("zlib has no memory for a window")
        why = (self._stream.msg or b"a dictionary is asked for").decode("ascii", "replace")
        raise CorruptImageError("gzip.deflate", self._feed.offset - self._stream.avail_in, why)

    def _note(self) -> None:
        stream = self._stream
        window = ctypes.create_string_buffer(WINDOW_SIZE)
        length = ctypes.c_uint(WINDOW_SIZE)
        self._zlib.inflateGetDictionary(ctypes.byref(stream), window, ctypes.byref(length))
        unused = stream.data_type & _UNUSED_BITS
        offset = self._feed.offset - stream.avail_in
        # The bits that are left are the high ones of the byte before.
        self.boundaries.append(
            Boundary(
                self._plain, offset - bool(unused), (8 - unused) % 8, window.raw[: length.value]
            )
        )
        self._due = self._plain + self._spacing

    def _take(self) -> bytes:
        piece = ctypes.string_at(self._out, self._filled)
        self._filled = 0
        return piece


def version() -> str:
    """Return the version of the library.

    Raises:
        UnsupportedFeatureError: there is none.
    """
    text: bytes = _library().zlibVersion()
    return text.decode("ascii", "replace")
