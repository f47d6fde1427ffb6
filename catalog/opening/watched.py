"""Opening catalogued images for reading, and making sure that they are what was scanned.

Everything here may block, but for `WatchedReader.read_into_nowait`; the mount calls it from worker
threads.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ..errors import ImageChangedError
from .open import Shared, open_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...formats.extent import Extent
    from ...formats.sources.file import FileSource
    from ...formats.sources.file_pool import ChunkSource
    from ..store import Catalog
    from .open import OpenImage

    _State = tuple[tuple[int, int], ...]

_FEW_FILES = 4
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
        self._seen = tuple((file.stat.st_mtime_ns, file.stat.st_size) for file in self._files)
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self.size = image.reader.size
        self.was_touched = self._seen != tuple(
            (volume.mtime_ns, volume.size_bytes) for volume in image.spec.volumes
        )

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Fill `view` from guest byte `offset` on, unless that needs waiting, or a closer look."""
        return self._reader.read_into_nowait(view, offset) and self._is_as_before()

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on.

        Raises:
            ImageChangedError: the file is not the one that was scanned any more.
            FormatError: the stored bytes cannot give them.
            OSError: the operating system could not read.
        """
        self._reader.read_into(view, offset)
        if self._is_as_before():
            return
        state = _state(self._files)
        with self._lock:
            sizes = tuple(size for _mtime, size in state)
            if sizes != self._sizes or not self._image.has_fingerprint():
                raise ImageChangedError(f"{self._files[0].path}: was changed while it was open")
            self._seen = state

    def _is_as_before(self) -> bool:
        """Tell whether no file has changed since one has looked last."""
        now = time.monotonic()
        if len(self._files) > _FEW_FILES and now - self._looked_at < _LOOK_EVERY:
            return True
        self._looked_at = now
        return _state(self._files) == self._seen

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield what guest bytes ``[start, stop)`` are made of; see `ImageReader.extents`."""
        return self._reader.extents(start, stop)

    def close(self) -> None:
        """Close the files."""
        self._image.close()


class ReaderFactory:
    """Opens readers over one catalog; loaded pieces of indexes are shared by all of them.

    Args:
        catalog: where the images are.
        shared: what the open images share.
    """

    def __init__(self, catalog: Catalog, shared: Shared | None = None) -> None:
        self._catalog = catalog
        self.shared = Shared() if shared is None else shared

    def open(self, image_id: int, index_id: int | None = None) -> WatchedReader:
        """Open an image; reads nothing of files that are as they were.

        Args:
            image_id: the image.
            index_id: the index that the caller believes it has; None for whichever.

        Raises:
            As `open_image`.
        """
        return WatchedReader(
            open_image(
                self._catalog,
                image_id,
                index_id=index_id,
                shared=self.shared,
                open_partition=self.open,
            )
        )


def _state(files: Iterable[FileSource | ChunkSource]) -> _State:
    found = []
    for file in files:
        status = file.current_stat()
        found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)
