"""A stream that can only be read forwards, as a byte source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import TruncatedImageError
from .place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDLESS = 1 << 62
"""What stands for the size of a stream while it is not known."""

_PIECE = 1 << 20


class Readable(Protocol):
    """What can be read to its end, as `sys.stdin.buffer` or the output of a process."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes, none at the end."""


class ForwardSource:
    """A stream as a byte source that can only be read forwards. See `ByteSource`.

    Until `forget` is called, everything that was read is kept and can be read again.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._kept = bytearray()
        self._keeps = True
        self._position = 0

    @property
    def size(self) -> int:
        """More than any stream has: the size is not known."""
        return ENDLESS

    def head(self, length: int) -> bytes:
        """Return the first `length` bytes, fewer where the stream is shorter."""
        self._keep(length)
        return bytes(self._kept[:length])

    def forget(self, offset: int) -> None:
        """Keep nothing from `offset` on that is not read yet, and nothing before it."""
        self._keeps = False
        del self._kept[: max(0, offset - (self._position - len(self._kept)))]

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``, which was not read before, or is kept."""
        if self._keeps:
            self._keep(offset + length)
            if len(self._kept) < offset + length:
                raise self._ends(offset + length - len(self._kept))
            return bytes(self._kept[offset : offset + length])
        self._skip_to(offset)
        return self._take(length)

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`."""
        for buffer in buffers:
            buffer[:] = self.read_at(offset, len(buffer))
            offset += len(buffer)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:  # noqa: ARG002
        """Return False: nobody knows whether a stream has to be waited for."""
        return False

    def place(self, offset: int) -> Place:  # noqa: ARG002
        """Tell of no file: the stream comes from somewhere."""
        return Place()

    def close(self) -> None:
        """Leave the stream as it is: it belongs to the caller."""

    def _keep(self, length: int) -> None:
        while len(self._kept) < length:
            data = self._file.read(min(length - len(self._kept), _PIECE))
            if not data:
                return
            self._kept += data
            self._position += len(data)

    def _skip_to(self, offset: int) -> None:
        here = self._position - len(self._kept)
        if offset < here:
            message = f"offset {offset} of the stream has gone by: it is at {here}"
            raise ValueError(message)
        while here < offset:
            here += len(self._take(min(_PIECE, offset - here)))

    def _take(self, length: int) -> bytes:
        data = bytes(self._kept[:length])
        del self._kept[:length]
        parts = [data]
        missing = length - len(data)
        while missing:
            # In pieces: the length may be a number in a damaged file.
            data = self._file.read(min(missing, _PIECE)) or b""
            if not data:
                raise self._ends(missing)
            self._position += len(data)
            missing -= len(data)
            parts.append(data)
        return b"".join(parts)

    def _ends(self, missing: int) -> TruncatedImageError:
        return TruncatedImageError(
            "stream", self._position, f"the stream ends here, {missing} bytes short"
        )
