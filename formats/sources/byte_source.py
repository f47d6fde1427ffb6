"""Byte sources: the stored bytes of an image as one flat, random-access sequence.

Reads are positional and exact; there is no cursor. Every source is safe to use from several
threads at once, except that nobody may read while `close` runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .place import Place


@runtime_checkable
class ByteSource(Protocol):
    """The stored bytes of one image."""

    @property
    def size(self) -> int:
        """Number of stored bytes when the source was opened."""

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers`, one after the other, with the bytes from `offset` on.

        Raises:
            TruncatedImageError: the stored bytes end before the buffers are full.
            OSError: the operating system could not read.
        """

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Do as `readv`, but only if that needs no waiting for a device.

        Returns False where it would have to wait, or cannot tell; the buffers may then hold
        anything.
        """

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the `length` bytes at `offset`.

        Raises:
            TruncatedImageError: the stored bytes end before ``offset + length``. Nothing is
                allocated in that case, whatever `length` is.
            OSError: the operating system could not read.
        """

    def place(self, offset: int) -> Place:
        """Tell where the byte at `offset` is stored."""

    def close(self) -> None:
        """Give back what the source holds open. Closing twice is harmless."""
