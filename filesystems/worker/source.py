"""The volume as the worker sees it: guest bytes that its parent reads for it."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Protocol

from ..errors import DamagedError
from .wire import READ, Kind, receive, send

if TYPE_CHECKING:
    import socket

PAGE = 64 << 10
"""Bytes that are asked for at once. No structure that a file system aligns crosses their ends."""

_MOST_PAGES = 512
_AHEAD = 4
"""Pages that are asked for together where the one before them is known: each question waits for the
parent, and tables are read from their beginning on."""


class VolumeSource(Protocol):
    """What a file system is read from: a volume as it lies there, or with its journal replayed."""

    size: int

    def page(self, number: int) -> memoryview:
        """Return page `number`; see `Source.page`."""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; see `Source.read`."""


class Source:
    """Guest bytes of a volume, kept while they are few.

    Args:
        connection: to the parent.
        size: bytes of the volume.
    """

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection = connection
        self.size = size
        self._pages: collections.OrderedDict[int, memoryview] = collections.OrderedDict()

    def page(self, number: int) -> memoryview:
        """Return page `number`, shorter at the end of the volume, empty behind it.

        Raises:
            DamagedError: the image cannot give these bytes.
        """
        known = self._pages.get(number)
        if known is not None:
            self._pages.move_to_end(number)
            return known
        if number - 1 in self._pages and self._read_ahead(number):
            return self._pages[number]
        start = number * PAGE
        length = max(0, min(PAGE, self.size - start))
        return self._keep(number, self._ask(start, length) if length else memoryview(b""))

    def _read_ahead(self, number: int) -> bool:
        """Read a page and those behind it up to one that is known; tell whether that went well."""
        stop = number + 1
        while stop < number + _AHEAD and stop not in self._pages:
            stop += 1
        start, length = number * PAGE, (stop - number) * PAGE
        if length == PAGE or start + length > self.size:
            return False
        try:
            data = self._ask(start, length)
        except DamagedError:
            # What is missing may be behind the page.
            return False
        for each in reversed(range(number, stop)):
            at = (each - number) * PAGE
            # A copy: what is kept of one page is not to keep the others.
            self._keep(each, memoryview(bytes(data[at : at + PAGE])))
        return True

    def _keep(self, number: int, data: memoryview) -> memoryview:
        self._pages[number] = data
        if len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return data

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes ``[offset, offset + length)``, all of which must be inside of the volume.

        Raises:
            DamagedError: they are not, or the image cannot give them.
        """
        stop = offset + length
        if not 0 <= offset <= stop <= self.size:
            raise DamagedError(
                "volume", offset, f"bytes [{offset}, {stop}) are not inside of its {self.size}"
            )
        if length > PAGE << 2:
            return bytes(self._ask(offset, length))
        first, last = offset // PAGE, (stop - 1) // PAGE
        at = offset - first * PAGE
        try:
            if first == last:
                return bytes(self.page(first)[at : at + length])
            data = b"".join(self.page(number) for number in range(first, last + 1))
        except DamagedError:
            # What is missing of a page may be none of these bytes.
            return bytes(self._ask(offset, length)) if length else b""
        return data[at : at + length]

    def up_to(self, offset: int, length: int) -> bytes:
        """Return bytes from `offset` on, fewer at the end of the volume. Raises as `read`."""
        return self.read(offset, min(length, self.size - offset)) if offset < self.size else b""

    def _ask(self, offset: int, length: int) -> memoryview:
        send(self._connection, Kind.READ, READ.pack(offset, length))
        kind, data = receive(self._connection)
        if kind is Kind.UNREADABLE:
            raise DamagedError("volume", offset, bytes(data).decode())
        if kind is not Kind.BYTES or len(data) != length:
            raise EOFError("the parent does not answer")
        return data
