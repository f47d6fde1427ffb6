"""What may be written over: nothing that the catalog has images in."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ...formats.files.new_file import TargetError

if TYPE_CHECKING:
    from ..store import Catalog


def check_no_image(catalog: Catalog, target: str | int) -> None:
    """Refuse a path or an open file that is a file of a catalogued image. One statement.

    Files are told by the inode that they had when they were scanned, and by their paths.

    Args:
        catalog: whose images are meant.
        target: a path, which need not exist, or a descriptor.

    Raises:
        TargetError: it is one; the message names the image.
        OSError: the target cannot be looked at.
    """
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return
    # The kernel tells where an open file lies.
    where = target if isinstance(target, str) else f"/proc/self/fd/{target}"
    paths = os.path.abspath(where), os.path.realpath(where)
    for path, name in catalog.files_like(status.st_ino, paths):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), status):
                what = "standard output" if isinstance(target, int) else target
                raise TargetError(f"{what}: is a file of the image {name}")
