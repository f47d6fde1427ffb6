"""The directory for what running programs keep: records of mounts, sockets of servers."""

from __future__ import annotations

import os
import tempfile

from ..errors import CatalogError
from .private import DIRECTORY_MODE


class NotOursError(CatalogError):
    """The directory belongs to somebody else."""


def runtime_directory() -> str:
    """Return the directory, made for this user alone if need be.

    Raises:
        NotOursError: it belongs to somebody else.
        OSError: it cannot be made.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base:
        path = os.path.join(base, "imgcat")
    elif os.geteuid() == 0:
        path = "/run/imgcat"
    else:
        path = os.path.join(tempfile.gettempdir(), f"imgcat-{os.geteuid()}")
    os.makedirs(path, mode=DIRECTORY_MODE, exist_ok=True)
    if os.lstat(path).st_uid != os.geteuid():
        raise NotOursError(f"{path}: belongs to somebody else: set XDG_RUNTIME_DIR")
    return path
