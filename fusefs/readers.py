"""Opening catalogued images for reading, after making sure that they are what was scanned.

Everything here may block; the mount calls it from worker threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..catalog.errors import ImageChangedError
from ..catalog.freshness import Freshness, compare
from ..formats import probe
from ..formats.errors import FormatError
from ..formats.index.rank import ChunkCache, RankIndex
from ..formats.source import FileSource

if TYPE_CHECKING:
    from ..catalog.records import OpenSpec
    from ..catalog.store import Catalog
    from ..formats.reader import ImageReader


class ReaderFactory:
    """Opens readers over one catalog; unpacked index chunks are shared by all of them.

    Args:
        catalog: where the images are.
        cache: holds the unpacked chunks of every image.
    """

    def __init__(self, catalog: Catalog, cache: ChunkCache | None = None) -> None:
        self._catalog = catalog
        self.cache = cache or ChunkCache()

    def open(self, image_id: int, index_id: int | None = None) -> ImageReader:
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
            return probe.format_named(spec.format).open_reader(source, spec.layout, index)
        except BaseException:
            source.close()
            raise

    def _open_source(self, spec: OpenSpec) -> FileSource:
        volume = spec.volumes[0]
        try:
            source = FileSource(volume.path)
        except (FileNotFoundError, NotADirectoryError):
            raise ImageChangedError(f"{volume.path}: is not there any more") from None
        if not _is_the_scanned_file(spec, source):
            source.close()
            raise ImageChangedError(
                f"{volume.path}: is not the file that was scanned: "
                f"`imgcat rescan {spec.name}` mends the entry"
            )
        return source


def _is_the_scanned_file(spec: OpenSpec, source: FileSource) -> bool:
    state = compare(spec.volumes[0], source.stat, source.size)
    if state is not Freshness.TOUCHED:
        return state is Freshness.FRESH
    try:
        return probe.format_named(spec.format).fingerprint(source) == spec.fingerprint
    except FormatError:
        return False
