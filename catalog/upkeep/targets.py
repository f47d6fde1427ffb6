"""What may be written over: nothing that the catalog has images in, nor the catalog itself."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ...formats.files.new_file import TargetError

if TYPE_CHECKING:
    from ..store import Catalog

_OF_CATALOG = ("", "-wal", "-shm", "-journal", ".lock")
_COPIES = ".before-"


def check_no_image(catalog: Catalog, target: str | int) -> None:
    """Refuse a path or an open file that is a file of a catalogued image, or of the catalog.

    Files are told by the inode that they had when they were scanned, and by their paths. What is
    there takes one statement; what is not there yet is refused if SQLite would take it for its own.

    Args:
        catalog: whose images are meant.
        target: a path, which need not exist, or a descriptor.

    Raises:
        TargetError: it is one; the message names the image, or the catalog.
        OSError: the target cannot be looked at.
    """
    what = "standard output" if isinstance(target, int) else target
    if isinstance(target, str) and _is_beside(catalog.path, target):
        raise TargetError(f"{what}: belongs to the catalog {catalog.path}")
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return
    for suffix in _OF_CATALOG:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(catalog.path + suffix), status):
                raise TargetError(f"{what}: belongs to the catalog {catalog.path}")
    # The kernel tells where an open file lies.
    where = target if isinstance(target, str) else f"/proc/self/fd/{target}"
    paths = os.path.abspath(where), os.path.realpath(where)
    for path, name in catalog.files_like(status.st_ino, paths):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), status):
                raise TargetError(f"{what}: is a file of the image {name}")


def _is_beside(catalog: str, target: str) -> bool:
    """Tell whether a path is one that the catalog's files have, whether it is there or not."""
    directory, name = os.path.split(os.path.abspath(target))
    own = os.path.basename(catalog)
    if not name.startswith(own):
        return False
    behind = name[len(own) :]
    if behind not in _OF_CATALOG and not behind.startswith(_COPIES):
        return False
    return os.path.realpath(directory) == os.path.dirname(os.path.realpath(catalog))
