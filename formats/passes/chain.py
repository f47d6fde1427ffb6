"""An image and what it is a difference to, one below the other, each opened by a scan of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import registry
from ..errors import CorruptImageError
from ..files.detect import open_files
from ..files.parents import MOST_PARENTS, find_parent
from .scan import scan_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..files.image_files import StoredFiles
    from ..files.parents import FoundParent
    from ..reader import ImageReader, Scan


class Chain:
    """Opens images with all that they are differences to.

    Args:
        allowed: directories into which names of backing files may lead.
        by_id: tells where a VHD with a UUID lies; None if that is not known.

    Attributes:
        files: device and inode of each file of the parents that were opened.
    """

    def __init__(
        self,
        allowed: Sequence[str] = (),
        by_id: Callable[[str], str | None] = lambda _id: None,
    ) -> None:
        self.allowed = tuple(allowed)
        self._by_id = by_id
        self.files: frozenset[tuple[int, int]] = frozenset()

    def parent_of(self, path: str, scan: Scan) -> FoundParent | None:
        """Return the file that an image is a difference to, None where it is whole.

        Raises:
            As `find_parent`.
        """
        if scan.info.parent is None:
            return None
        return find_parent(path, scan.info.parent, allowed=self.allowed, by_id=self._by_id)

    def open_reader(
        self,
        path: str,
        stored: StoredFiles,
        scan: Scan,
        parent: FoundParent | None,
        above: tuple[tuple[int, int], ...] = (),
    ) -> ImageReader:
        """Return a reader over an image that was scanned, and over its parents, scanned now.

        Args:
            path: the image's file.
            stored: its files, which the caller closes.
            scan: what was found.
            parent: what `parent_of` has said of it.
            above: what tells the files of those that it is below of.

        Raises:
            MissingParentError: a parent is not there.
            CorruptImageError: it is a difference to itself, or too many lie below each other.
            FormatError: a parent cannot be read.
            OSError: the operating system could not read.
        """
        below = None if parent is None else self._open(parent, (*above, identity(path)))
        index = scan.stored_index()
        return registry.open_reader(scan.info.format, stored.source, scan.info.layout, index, below)

    def _open(self, found: FoundParent, above: tuple[tuple[int, int], ...]) -> ImageReader:
        check_chain(found.path, above)
        stored = open_files(found.path, is_raw=found.is_raw, allowed=self.allowed)
        self.files |= stored.identities
        try:
            scan = scan_files(stored, is_raw=found.is_raw)
            # Whoever closes it closes the files, for it reads from those alone.
            parent = self.parent_of(found.path, scan)
            return self.open_reader(found.path, stored, scan, parent, above)
        except BaseException:
            stored.close()
            raise


def check_chain(path: str, above: Sequence[tuple[int, int]]) -> None:
    """Check that a file is none of those that are differences to it, and that they end.

    Args:
        path: the file.
        above: what tells the files above it from others.

    Raises:
        CorruptImageError: it is, or they do not.
        OSError: it cannot be looked at.
    """
    if identity(path) in above:
        raise CorruptImageError("chain", 0, f"{path}: is a difference to itself")
    if len(above) > MOST_PARENTS:
        raise CorruptImageError(
            "chain", 0, f"{path}: more than {MOST_PARENTS} images lie below each other"
        )


def identity(path: str) -> tuple[int, int]:
    """Return what tells a file from others.

    Raises:
        OSError: it cannot be looked at.
    """
    status = os.stat(path)
    return status.st_dev, status.st_ino
