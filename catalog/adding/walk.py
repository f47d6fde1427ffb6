"""Walking through directories for images. What the catalog knows is not looked into."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ...formats.errors import FormatError
from ...formats.files import detect, split_names
from ..opening.freshness import Freshness, compare, volume_from_stat

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from ..records import Volume
    from ..store import Catalog


class KnownFiles:
    """The files of the catalog's images as they were, to tell by `stat` which of them a file is.

    Args:
        images: the files of each image.
    """

    def __init__(self, images: Sequence[Sequence[Volume]]) -> None:
        self._by_path = {
            volume.path: (volume, ordinal == 0)
            for volumes in images
            for ordinal, volume in enumerate(volumes)
        }
        self._firsts: dict[tuple[int, int], list[Volume]] = {}
        for volumes in images:
            for volume in volumes[:1]:
                key = volume.size_bytes, volume.mtime_ns
                self._firsts.setdefault(key, []).append(volume)

    @classmethod
    def of(cls, catalog: Catalog) -> KnownFiles:
        """Return those of a catalog.

        Raises:
            CatalogError: it could not be read.
        """
        return cls([volumes for _row, volumes in catalog.list_images() if volumes])

    def is_first(self, path: str, status: os.stat_result) -> bool | None:
        """Tell whether a file is the first one of an image; None where that is not known.

        It is known of files that are as they were, and of those that are as large and as old as a
        first file that is gone: that was moved, as far as can be told without a look at it.
        """
        known = self._by_path.get(os.path.abspath(path))
        if known is not None:
            volume, is_first = known
            return is_first if compare(volume, status) is Freshness.FRESH else None
        now = volume_from_stat(path, status)
        alike = self._firsts.get((now.size_bytes, now.mtime_ns), ())
        return True if any(not os.path.lexists(each.path) for each in alike) else None


def find_images(
    directory: str,
    *,
    known: KnownFiles | None = None,
    apart: Collection[str] = (),
    failed: Callable[[OSError], None] = lambda _error: None,
    passed_over: Callable[[str, str], None] = lambda _path, _why: None,
) -> Iterator[str]:
    """Yield the files below `directory` that begin like an image, in order of path.

    Links to directories are not followed, and what is gone when it is looked at is passed over.

    Args:
        directory: where to look.
        known: what need not be looked into.
        apart: directories that are not looked into.
        failed: told of each file or directory that cannot be read, which is then passed over.
        passed_over: told of each other file that is not taken for an image, and why.
    """
    known = known or KnownFiles(())
    for parent, directories, files in os.walk(directory, onerror=failed):
        if parent in apart:
            directories.clear()
            continue
        directories[:] = sorted(
            name
            for name in directories
            if os.path.normpath(os.path.join(parent, name)) not in apart
        )
        for name in sorted(files):
            path = os.path.join(parent, name)
            try:
                why = _why_not(path, known)
            except FileNotFoundError:
                continue
            except OSError as error:
                failed(error)
                continue
            if why is None:
                yield path
            elif why:
                passed_over(path, why)


def _why_not(path: str, known: KnownFiles) -> str | None:
    """Return why a file is not one to be added, None if it is; nothing of a later part of one.

    Raises:
        OSError: it cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    is_first = known.is_first(path, status)
    if is_first is not None:
        return None if is_first else ""
    if not status.st_size:
        return "empty"
    try:
        first = detect.first_file(path)
        if first != path:
            return ""
        why = detect.why_no_image(path)
    except FormatError as error:
        return error.detail
    lost = split_names.lost_first(path)
    return why and (f"a part of a split image of which {lost} is lost" if lost else why)
