"""Where windows are kept until a scan ends: in memory while they are few, else in files.

The windows of a large image take more memory than a machine may have. In a file that is mapped,
they take what the system can spare.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading

_IN_MEMORY = 64 << 20
_SEGMENT = 32 << 20


class Spool:
    """Keeps bytes. For any number of threads.

    The files are in the directory for temporary ones (``TMPDIR``), have no name, and are gone when
    nothing of what is in them is used any more.

    Args:
        in_memory: bytes that are kept in memory before there is a file.
        segment: bytes in a file.
    """

    def __init__(self, in_memory: int = _IN_MEMORY, segment: int = _SEGMENT) -> None:
        self._in_memory = in_memory
        self._segment_size = segment
        self._segment = memoryview(b"")
        self._lock = threading.Lock()

    def keep(self, data: bytes) -> bytes | memoryview:
        """Return the same bytes, to be held as long as they are needed.

        Raises:
            OSError: there is no room for them.
        """
        with self._lock:
            if len(data) <= self._in_memory:
                self._in_memory -= len(data)
                return data
            if len(data) > len(self._segment):
                self._segment = _new_segment(max(len(data), self._segment_size))
            kept, self._segment = self._segment[: len(data)], self._segment[len(data) :]
            kept[:] = data
            return kept.toreadonly()


def _new_segment(size: int) -> memoryview:
    with tempfile.TemporaryFile() as file:
        # A page of a mapping for which there is no room would be a signal, not an error.
        os.posix_fallocate(file.fileno(), 0, size)
        return memoryview(mmap.mmap(file.fileno(), size))
