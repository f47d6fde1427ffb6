"""Compressed pieces that are decoded whole, one by one, and kept for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .decoded_source import Page

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ..index.cache import IndexCache
    from ..sources.byte_source import ByteSource


class DecodedPieces:
    """Decodes pieces of a source, each of which is one cluster. For any number of threads.

    Args:
        source: the stored bytes.
        decode: returns the plain bytes of a piece, from its bytes and its place.
        weight: bytes of memory that this takes.
        pages: where plain clusters are kept.
        turn: entered while something is decoded, with the memory that it takes.
        key: what tells the clusters from others in the cache.
    """

    def __init__(
        self,
        source: ByteSource,
        decode: Callable[[bytes, int], bytes],
        weight: int,
        pages: IndexCache,
        turn: Callable[[int], AbstractContextManager[None]],
        key: int,
    ) -> None:
        self._source = source
        self._decode = decode
        self._weight = weight
        self._pages = pages
        self._turn = turn
        self._key = key

    def plain(self, offset: int, length: int) -> bytes:
        """Return the plain bytes of the piece of `length` bytes at `offset`. It may block.

        Raises:
            FormatError: it cannot be decoded.
            OSError: the operating system could not read.
        """
        found = self.plain_nowait(offset)
        if found is None:
            stored = self._source.read_at(offset, length)
            with self._turn(self._weight):
                found = self._decode(stored, offset)
            self._pages.put((self._key, offset), Page(found))
        return found

    def plain_nowait(self, offset: int) -> bytes | None:
        """Return the same if it is kept, else None."""
        page: Page | None = self._pages.get((self._key, offset))
        return None if page is None else page.data
