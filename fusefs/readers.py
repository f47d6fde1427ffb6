"""Opening catalogued images for reading, and making sure that they are what was scanned.

Everything here may block, but for `WatchedReader.read_into_nowait`; the mount calls it from worker
threads.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..catalog.errors import ImageChangedError
from ..catalog.opening import open_image
from ..formats.index.cache import IndexCache

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..catalog.opening import OpenImage
    from ..catalog.store import Catalog
    from ..formats.source import FileSource

    _State = tuple[tuple[int, int], ...]


class WatchedReader:
    """A reader that gives no bytes of a file that was changed while it is open.

    Each read is followed by an `fstat`. Where a file's time or size is another than before, the
    fingerprint decides once whether they are still the image that was scanned.

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
        self.size = image.reader.size
        self.was_touched = self._seen != tuple(
            (volume.mtime_ns, volume.size_bytes) for volume in image.spec.volumes
        )

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Fill `view` from guest byte `offset` on, unless that needs waiting, or a closer look."""
        return self._reader.read_into_nowait(view, offset) and _state(self._files) == self._seen

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on.

        Raises:
            ImageChangedError: the file is not the one that was scanned any more.
            FormatError: the stored bytes cannot give them.
            OSError: the operating system could not read.
        """
        self._reader.read_into(view, offset)
        state = _state(self._files)
        if state == self._seen:
            return
        with self._lock:
            sizes = tuple(size for _mtime, size in state)
            if sizes != self._sizes or not self._image.has_fingerprint():
                raise ImageChangedError(f"{self._files[0].path}: was changed while it was open")
            self._seen = state

    def close(self) -> None:
        """Close the files."""
        self._image.close()


class ReaderFactory:
    """Opens readers over one catalog; loaded pieces of indexes are shared by all of them.

    Args:
        catalog: where the images are.
        cache: holds the loaded pieces of every image's index.

    Attributes:
        own_device: the device number of the mount that these readers serve; a file in there is not
            opened, for that would be a request to oneself.
    """

    def __init__(self, catalog: Catalog, cache: IndexCache | None = None) -> None:
        self._catalog = catalog
        self.cache = IndexCache() if cache is None else cache
        self.own_device: int | None = None

    def open(self, image_id: int, index_id: int | None = None) -> WatchedReader:
        """Open an image. One SQL statement; reads nothing of files that are as they were.

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
                cache=self.cache,
                own_device=self.own_device,
            )
        )


def _state(files: Iterable[FileSource]) -> _State:
    found = []
    for file in files:
        status = file.current_stat()
        found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)
