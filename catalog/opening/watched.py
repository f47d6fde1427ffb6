"""Reading an open image only as long as its files are the ones that were scanned.

Everything here may block, but for `WatchedReader.read_into_nowait`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
from typing import TYPE_CHECKING

from ...formats.errors import FormatError
from ...formats.index.rank_chunk import ChunkMissingError
from ...formats.reader import stored_ranges
from ...formats.sources.file import state_of
from ...formats.sources.file_pool import ChunkSource
from ...formats.sources.locality import is_local
from ..errors import CatalogError, ImageChangedError
from .freshness import Freshness, freshness, identities_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...formats.extent import Extent
    from ...formats.sources.file import FileSource
    from .open import OpenImage

    _State = tuple[tuple[int, int], ...]

_FEW_FILES = 4

_MOST_CHANGES = 8
"""Times that a read is begun anew because a file was touched meanwhile."""

_LOOK_EVERY = 0.1
"""Seconds: looking at hundreds of chunks after every read would cost more than the read."""


class WatchedReader:
    """A reader that gives no bytes of a file that was changed while it is open.

    Each read is followed by an `fstat`; of an image in many files, one in a while is. Where a
    file's time or size is another than before, the fingerprint decides once whether they are
    still the image that was scanned.

    Args:
        image: the open image.
    """

    def __init__(self, image: OpenImage) -> None:
        self._image = image
        self._reader = image.reader
        self._files = image.stored.files
        self._sizes = tuple(file.stat.st_size for file in self._files)
        self._seen = tuple(state_of(file.stat) for file in self._files)
        # Where looking at a file may ask another machine, or a process, all reads may wait.
        may_wait = not image.is_composed and not all(is_local(file.path) for file in self._files)
        self._read_into_nowait = _never if may_wait else image.reader.read_into_nowait
        # Most images are one file: looking at it is part of every small read.
        self._stat_of_one = self._files[0].current_stat if len(self._files) == 1 else None
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._has_doubt = False
        for file in self._files:
            if isinstance(file, ChunkSource):
                file.on_change = self._doubt
        self.files = image.identities
        self.name = image.spec.name
        self.size = image.reader.size
        self.was_touched = image.was_touched

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Fill `view` from guest byte `offset` on, unless that needs waiting, or a closer look."""
        seen = self._seen
        if not self._read_into_nowait(view, offset):
            return False
        if self._stat_of_one is None:
            if len(self._files) <= _FEW_FILES:
                return self._is_as(seen)
            # Of many, only some are open: whoever may wait looks at them, every now and then.
            is_recent = time.monotonic() - self._looked_at < _LOOK_EVERY
            return is_recent and not self._has_doubt and self._seen is seen
        status = self._stat_of_one()
        mtime_ns, size = seen[0]
        return status.st_mtime_ns == mtime_ns and status.st_size == size

    def load_index(self) -> None:
        """Load the index of the first bytes: who opens an image mostly reads those. It may block.

        What cannot be loaded is told to who reads it. Of an image that is made of others nothing
        is, for that would open them.
        """
        if self._image.is_composed or not self.size:
            return
        with contextlib.suppress(CatalogError, ChunkMissingError, FormatError, OSError):
            next(iter(self._reader.extents(0, 1)))

    def is_current(self) -> bool:
        """Tell whether its paths lead to the files that were scanned, as they were, to be read.

        What it has open may be another file by now, or one that was written, or one that may not
        be opened any more. It may block.
        """
        volumes = self._image.spec.volumes
        if freshness(volumes) is not Freshness.FRESH:
            return False
        if self._image.is_composed and identities_of(volumes) != self.files:
            # A part has come, or gone, or is another file now.
            return False
        parent = self._image.parent
        return (parent is None or parent.is_current()) and all(
            os.access(volume.path, os.R_OK, effective_ids=True) for volume in volumes
        )

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on.

        Raises:
            ImageChangedError: the file is not the one that was scanned any more.
            FormatError: the stored bytes cannot give them.
            OSError: the operating system could not read.
        """
        for _ in range(_MOST_CHANGES):
            # What is seen after the read is compared with what was seen before it: another thread
            # may take a change as it is meanwhile.
            seen = self._seen
            self._reader.read_into(view, offset)
            if self._is_as(seen):
                return
            # What was read may be of before or after, or some of both.
            self._accept_change()
        raise ImageChangedError(f"{self._files[0].path}: is being written while it is read")

    def _accept_change(self) -> None:
        """Take the files as they are now, if they still are the image.

        Raises:
            ImageChangedError: they are not.
        """
        with self._lock:
            state = _state(self._files)
            if state == self._seen:
                return
            sizes = tuple(size for _mtime, size in state)
            if sizes != self._sizes or not self._image.survives_touch():
                raise ImageChangedError(
                    f"{self._files[0].path}: was changed while it was open: "
                    f"`imgcat rescan {shlex.quote(self._image.spec.name)}` mends the entry"
                )
            self._seen = state

    def _doubt(self) -> None:
        """Take note that a chunk that was read is not as it was when it was first opened."""
        self._has_doubt = True

    def _is_as(self, seen: _State) -> bool:
        """Tell whether no file has changed since it was seen like that."""
        files = self._files
        now = time.monotonic()
        is_recent = now - self._looked_at < _LOOK_EVERY and self._seen is seen
        if len(files) > _FEW_FILES and is_recent and not self._has_doubt:
            return True
        is_same = _state(files) == seen
        if is_same:
            self._looked_at = now
        return is_same

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield what guest bytes ``[start, stop)`` are made of; see `ImageReader.extents`."""
        return self._reader.extents(start, stop)

    def stored_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield what is stored of guest bytes ``[start, stop)``; see `reader.stored_ranges`."""
        return stored_ranges(self._reader, start, stop)

    def close(self) -> None:
        """Close the files."""
        self._image.close()


def _state(files: Iterable[FileSource | ChunkSource]) -> _State:
    return tuple(state_of(file.current_stat()) for file in files)


def _never(_view: memoryview, _offset: int) -> bool:
    return False
