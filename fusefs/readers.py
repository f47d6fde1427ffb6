"""Opening catalogued images for reading, and making sure that they are what was scanned.

Everything here may block, but for `WatchedReader.read_into_nowait`; the mount calls it from worker
threads.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from ..catalog.errors import ImageChangedError
from ..catalog.freshness import Freshness, compare
from ..formats import probe
from ..formats.errors import FormatError
from ..formats.index.rank import ChunkCache, RankIndex
from ..formats.source import FileSource, NotAFileError

if TYPE_CHECKING:
    from ..catalog.records import OpenSpec
    from ..catalog.store import Catalog
    from ..formats.reader import ImageReader


class WatchedReader:
    """A reader that gives no bytes of a file that was changed while it is open.

    Each read is followed by an `fstat`. Where the file's time or size is another than before, its
    fingerprint decides once whether it is still the image that was scanned.

    Args:
        reader: reads from `source`.
        source: the image's file.
        spec: what the catalog knows of it.
    """

    def __init__(self, reader: ImageReader, source: FileSource, spec: OpenSpec) -> None:
        self._reader = reader
        self._source = source
        self._spec = spec
        self._seen = _state(source.stat)
        self._lock = threading.Lock()
        self.size = reader.size
        self.was_touched = self._seen != (spec.volumes[0].mtime_ns, spec.volumes[0].size_bytes)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Fill `view` from guest byte `offset` on, unless that needs waiting, or a closer look."""
        return (
            self._reader.read_into_nowait(view, offset)
            and _state(self._source.current_stat()) == self._seen
        )

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on.

        Raises:
            ImageChangedError: the file is not the one that was scanned any more.
            FormatError: the stored bytes cannot give them.
            OSError: the operating system could not read.
        """
        self._reader.read_into(view, offset)
        status = self._source.current_stat()
        if _state(status) == self._seen:
            return
        with self._lock:
            if status.st_size != self._source.stat.st_size or not _has_fingerprint(
                self._spec, self._source
            ):
                raise ImageChangedError(f"{self._source.path}: was changed while it was open")
            self._seen = _state(status)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class ReaderFactory:
    """Opens readers over one catalog; unpacked index chunks are shared by all of them.

    Args:
        catalog: where the images are.
        cache: holds the unpacked chunks of every image.

    Attributes:
        own_device: the device number of the mount that these readers serve; a file in there is not
            opened, for that would be a request to oneself.
    """

    def __init__(self, catalog: Catalog, cache: ChunkCache | None = None) -> None:
        self._catalog = catalog
        self.cache = cache or ChunkCache()
        self.own_device: int | None = None

    def open(self, image_id: int, index_id: int | None = None) -> WatchedReader:
        """Open an image. One SQL statement; reads nothing of a file that is as it was.

        Args:
            image_id: the image.
            index_id: the index that the caller believes it has; None for whichever.

        Raises:
            ImageNotFoundError: it was removed from the catalog.
            ImageChangedError: its file is gone, or is not the one that was scanned.
            OSError: the file cannot be opened.
        """
        spec = self._catalog.open_spec(image_id)
        if index_id not in {None, spec.index_id}:
            raise ImageChangedError(f"{spec.name}: was scanned anew: open it again")
        source = self._open_source(spec)
        try:
            index = None
            if spec.index_kind == "rank":
                index = RankIndex(
                    spec.total_blocks,
                    lambda number: self._catalog.load_chunk(spec.index_id, number),
                    self.cache,
                    spec.index_id,
                )
            reader = probe.format_named(spec.format).open_reader(source, spec.layout, index)
            return WatchedReader(reader, source, spec)
        except BaseException:
            source.close()
            raise

    def _open_source(self, spec: OpenSpec) -> FileSource:
        path = spec.volumes[0].path
        try:
            if self.own_device is not None and os.stat(path).st_dev == self.own_device:
                raise ImageChangedError(f"{path}: lies inside of this mount itself")
            source = FileSource(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotAFileError) as error:
            raise ImageChangedError(f"{path}: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ImageChangedError(f"{path}: {error.strerror}") from error
            raise
        if not _is_the_scanned_file(spec, source):
            source.close()
            raise ImageChangedError(
                f"{path}: is not the file that was scanned: "
                f"`imgcat rescan {spec.name}` mends the entry"
            )
        return source


def _is_the_scanned_file(spec: OpenSpec, source: FileSource) -> bool:
    state = compare(spec.volumes[0], source.stat, source.size)
    if state is not Freshness.TOUCHED:
        return state is Freshness.FRESH
    return _has_fingerprint(spec, source)


def _has_fingerprint(spec: OpenSpec, source: FileSource) -> bool:
    try:
        return probe.format_named(spec.format).fingerprint(source) == spec.fingerprint
    except FormatError:
        return False


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size
