"""A stream that one thread decodes while another looks at it: a scan in the same pass.

The one who looks gets pieces in order, as from `pieces.Pieces`, and may read the beginning of the
stream again; the size of the whole is known only at its end.
"""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING, Self

from ..errors import TruncatedImageError
from .forward import ENDLESS
from .place import Place
from .prefetch import OVERLAP, PIECE_SIZE, Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_WAITING = 4 * PIECE_SIZE
_HEAD_SIZE = 1 << 20


class LiveStream:
    """The plain bytes of a stream as they come. See `ByteSource` for the reading side.

    Args:
        digest: what tells the stored stream from others; see `fingerprint.digest_of`.
    """

    def __init__(self, digest: bytes = b"") -> None:
        self._digest = digest
        self._head = bytearray()
        self._waiting: collections.deque[bytes] = collections.deque()
        self._waiting_size = 0
        self._done = 0
        self._is_ended = False
        self._is_left = False
        self._changed = threading.Condition()

    # -- the thread that decodes --------------------------------------------

    def take(self, piece: bytes) -> None:
        """Hand over the next bytes; waits while the other thread is behind."""
        with self._changed:
            if len(self._head) < _HEAD_SIZE:
                self._head += piece[: _HEAD_SIZE - len(self._head)]
            self._done += len(piece)
            while self._waiting_size > _MOST_WAITING and not self._is_left:
                self._changed.wait()
            if not self._is_left:
                self._waiting.append(piece)
                self._waiting_size += len(piece)
            self._changed.notify_all()

    def end(self) -> None:
        """Tell that nothing more comes."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    # -- the thread that looks ----------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of the stream, `ENDLESS` while they are not known."""
        return self._done if self._is_ended else ENDLESS

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes of the first MiB. See `ByteSource`."""
        stop = offset + length
        with self._changed:
            while len(self._head) < stop and not self._is_ended and stop <= _HEAD_SIZE:
                self._changed.wait()
            if len(self._head) < stop:
                raise TruncatedImageError("stream", len(self._head), "the stream ends here")
            return bytes(self._head[offset:stop])

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from the first MiB. See `ByteSource`."""
        for buffer in buffers:
            buffer[:] = self.read_at(offset, len(buffer))
            offset += len(buffer)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:  # noqa: ARG002
        """Return False: one cannot tell what is there already."""
        return False

    def stored_digest(self) -> bytes:
        """Return what tells the stored stream from others."""
        return self._digest

    def drain(self) -> int:
        """Look at nothing more, wait for the end, and return the bytes of the whole stream."""
        self.leave()
        with self._changed:
            while not self._is_ended:
                self._changed.wait()
            return self._done

    def leave(self) -> None:
        """Look at nothing more: the other thread goes on alone."""
        with self._changed:
            self._is_left = True
            self._waiting.clear()
            self._waiting_size = 0
            self._changed.notify_all()

    def place(self, offset: int) -> Place:  # noqa: ARG002
        """Tell of no file: the stream comes from somewhere."""
        return Place()

    def close(self) -> None:
        """Leave."""
        self.leave()

    def next_bytes(self) -> bytes:
        """Return the next bytes as they come; nothing at the end."""
        with self._changed:
            while not self._waiting and not self._is_ended:
                self._changed.wait()
            if not self._waiting:
                return b""
            piece = self._waiting.popleft()
            self._waiting_size -= len(piece)
            self._changed.notify_all()
            return piece


class LiveFile:
    """What comes out of a live stream as a file that can be read once."""

    def __init__(self, live: LiveStream) -> None:
        self._live = live
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        if not self._rest:
            self._rest = memoryview(self._live.next_bytes())
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)


class LivePieces:
    """The pieces of a live stream from an offset on, as `pieces.Pieces` gives those of a source."""

    def __init__(self, live: LiveStream, start: int) -> None:
        self._live = live
        self._start = start
        self._rest = bytearray()
        self._at = 0
        self._ended = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave the stream."""
        self._live.leave()

    def take(self) -> Piece | None:
        """Return the next piece, None at the end."""
        self._fill(self._start - self._at)
        if self._at < self._start:
            skipped = min(len(self._rest), self._start - self._at)
            del self._rest[:skipped]
            self._at += skipped
            if self._at < self._start:
                return None
        self._fill(PIECE_SIZE + OVERLAP)
        if not self._rest:
            return None
        filled = min(len(self._rest), PIECE_SIZE + OVERLAP)
        length = min(filled, PIECE_SIZE)
        piece = Piece(self._at, length, filled, self._rest[:filled])
        del self._rest[:length]
        self._at += length
        self._start = self._at
        return piece

    def _fill(self, size: int) -> None:
        while len(self._rest) < size and not self._ended:
            more = self._live.next_bytes()
            self._ended = not more
            self._rest += more
