"""Where windows are kept until a scan ends: in memory while they are few, else in files.

The windows of a large image take more memory than a machine may have. In a file that is mapped,
they take what the system can spare.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading

from .. import temporary

_IN_MEMORY = 16 << 20
_SEGMENT = 16 << 20


class Spool:
    """Keeps bytes. For any number of threads.

    The files are in the directory for temporary ones (``TMPDIR``), have no name, and are gone when
    nothing of what is in them is used any more.

    Args:
        in_memory: bytes that are kept in memory before there is a file, with what Python adds.
        segment: bytes in a file.
    """

    def __init__(self, in_memory: int = _IN_MEMORY, segment: int = _SEGMENT) -> None:
        self._in_memory = in_memory
        self._segment_size = segment
        self._segment = self._whole = memoryview(b"")
        self._lock = threading.Lock()

    def keep(self, data: bytes) -> bytes | memoryview:
        """Return a copy of the bytes, to be held as long as they are needed.

        A copy, for what a compressor returns holds as much memory as the result might have needed.

        Raises:
            OSError: there is no room for them.
        """
        with self._lock:
            if sys.getsizeof(data) <= self._in_memory:
                copy = bytes(memoryview(data))
                self._in_memory -= sys.getsizeof(copy)
                return copy
            if len(data) > len(self._segment):
                self._release()
                self._segment = self._whole = _new_segment(max(len(data), self._segment_size))
            kept, self._segment = self._segment[: len(data)], self._segment[len(data) :]
            kept[:] = data
            return kept.toreadonly()

    def _release(self) -> None:
        """Let the system hold what is in the segment: it is read back when it is looked at."""
        if self._whole:
            mapping = self._whole.obj
            assert isinstance(mapping, mmap.mmap)
            mapping.madvise(mmap.MADV_DONTNEED)


def _new_segment(size: int) -> memoryview:
    with temporary.unnamed_file() as file:
        # A page of a mapping for which there is no room would be a signal, not an error.
        os.posix_fallocate(file.fileno(), 0, size)
        return memoryview(mmap.mmap(file.fileno(), size))
