"""One pass over a compressed stream: its seek points, its page hashes, and a look at every byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import FormatError, UnsupportedFeatureError
from ..sources.pages import PAGE_SIZE, page_hash
from .seek_points import ScanMarks, StreamIndex

if TYPE_CHECKING:
    from ..progress import Progress
    from ..sources.byte_source import ByteSource
    from .registry import Codec


class Taker(Protocol):
    """Who looks at the plain bytes in passing."""

    def take(self, piece: bytes) -> None:
        """Look at the next plain bytes."""


def scan_stream(
    stored: ByteSource,
    codec: Codec,
    *,
    spacing: int | None = None,
    progress: Progress | None = None,
    taker: Taker | None = None,
) -> StreamIndex:
    """Decode a stream once from its beginning to its end.

    What was decoded before damage is kept; the index then tells the damage, and up to which byte
    the stream's own checksums vouch for what came out.

    Args:
        stored: the compressed stream.
        codec: its codec.
        spacing: plain bytes between two seek points at the least; the codec's own if None.
        progress: told the stored bytes that are done.
        taker: is shown every plain byte, in order.

    Raises:
        UnsupportedFeatureError: it needs something that is not decoded.
        FormatError: not even its beginning can be decoded.
        OSError: the operating system could not read.
    """
    marks = ScanMarks()
    hasher = PageHasher()
    damage = None
    pieces = codec.scan(stored, marks, spacing=spacing, progress=progress)
    try:
        for piece in pieces:
            hasher.take(piece)
            if taker is not None:
                taker.take(piece)
    except UnsupportedFeatureError:
        raise
    except FormatError as error:
        if not marks.points or not hasher.size:
            raise
        damage = f"the {codec.NAME} stream is damaged: {error}"
        if marks.trusted_size < hasher.size:
            damage += (
                f"; nothing vouches for its plain bytes [{marks.trusted_size}, {hasher.size}), "
                "which are not given"
            )
    return StreamIndex(
        codec.NAME,
        codec.LIBRARY,
        hasher.size,
        stored.size,
        tuple(marks.points),
        hasher.finish(),
        hasher.size if damage is None else marks.trusted_size,
        damage,
    )


class PageHasher:
    """Hashes a stream page by page.

    Attributes:
        size: the bytes that were taken.
    """

    def __init__(self) -> None:
        self.size = 0
        self._hashes = bytearray()
        self._rest = b""

    def take(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size += len(piece)
        view = memoryview(piece)
        if self._rest:
            missing = PAGE_SIZE - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) < PAGE_SIZE:
                return
            self._hashes += page_hash(self._rest)
            self._rest = b""
        whole = len(view) - len(view) % PAGE_SIZE
        for start in range(0, whole, PAGE_SIZE):
            self._hashes += page_hash(view[start : start + PAGE_SIZE])
        self._rest = bytes(view[whole:])

    def finish(self) -> bytes:
        """Return the hashes of all pages."""
        if self._rest:
            self._hashes += page_hash(self._rest)
            self._rest = b""
        return bytes(self._hashes)
