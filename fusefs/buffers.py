"""The buffers that what is read goes into, on its way to the kernel."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .open_readers import Reader

MOST = 1 << 20
"""The kernel asks for at most this many bytes at a time (FUSE_MAX_MAX_PAGES of 4 KiB)."""

_MOST_VIEWS = 64

_MOST_SPARE = 16
"""Buffers that are kept for reads that wait."""


class Buffers:
    """The buffers of one mount. In the event loop only, but for `read`.

    Attributes:
        scratch: one buffer for every read that needs no waiting. pyfuse3 hands it to the kernel as
            soon as the handler returns, before any other task runs, so it is free again by then.
        views: its first bytes, by how many.
    """

    def __init__(self) -> None:
        self.scratch = _new_buffer()
        self.views: dict[int, memoryview] = {}
        # Others of the same kind, of which each read that waits takes one for itself.
        self._spare: list[memoryview] = []

    def view(self, size: int) -> memoryview:
        """Return the first bytes of the shared buffer; the kernel asks for few sizes."""
        if len(self.views) >= _MOST_VIEWS:
            self.views.clear()
        view = self.views[size] = self.scratch[:size]
        return view

    def read(self, reader: Reader, off: int, size: int) -> memoryview:
        """Read into a buffer of its own and return that. In a thread: those that wait have none."""
        if size > MOST:
            buffer = memoryview(bytearray(size))
        else:
            try:
                buffer = self._spare.pop()
            except IndexError:
                buffer = _new_buffer()
        # It is lost after an exception.
        reader.read_into(buffer[:size], off)
        return buffer

    def give_back(self, buffer: memoryview) -> None:
        """Keep a buffer that `read` has returned, for the next read."""
        if len(buffer) == MOST and len(self._spare) < _MOST_SPARE:
            self._spare.append(buffer)


def _new_buffer() -> memoryview:
    """Return a buffer that begins at a page; private, so that forked processes share none.

    So that the kernel looks up no page more than it must.
    """
    return memoryview(mmap.mmap(-1, MOST, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
