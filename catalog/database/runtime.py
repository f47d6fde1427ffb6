"""The directory for what running programs keep: records of mounts, sockets of servers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

from ...formats import temporary
from ..errors import CatalogError
from .private import DIRECTORY_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator

_YOUNG_SECONDS = 60.0
"""A directory as young as that may be one that is being made."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
        path = os.path.join(temporary.directory(), f"imgcat-{os.geteuid()}")
    os.makedirs(path, mode=DIRECTORY_MODE, exist_ok=True)
    if os.lstat(path).st_uid != os.geteuid():
        raise NotOursError(f"{path}: belongs to somebody else: set XDG_RUNTIME_DIR")
    return path


def new_directory(parent: str, prefix: str) -> str:
    """Make a directory that only this user can look into; those that were left behind go.

    It is to be held by `held`, soon, by the process that uses it.

    Args:
        parent: where.
        prefix: what its name begins with, and those of others of its kind.

    Raises:
        OSError: it cannot be made.
    """
    _remove_left(parent, prefix)
    return tempfile.mkdtemp(prefix=prefix, dir=parent)


@contextlib.contextmanager
def temporary_directory() -> Iterator[str]:
    """Give a directory that goes with the block; what killed programs have left goes before.

    Raises:
        OSError: it cannot be made.
    """
    directory = new_directory(temporary.directory(), "imgcat-once-")
    with held(directory):
        yield directory


@contextlib.contextmanager
def held(directory: str) -> Iterator[None]:
    """Hold a directory for the time of the block; then it is removed, with what is in it.

    However this process ends, the next `new_directory` of its kind removes what it has left.

    Raises:
        OSError: it is not there any more.
    """
    fd = os.open(directory, _DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        remove(directory)
        os.close(fd)


def remove(directory: str) -> None:
    """Remove a directory of `new_directory`; harmless where it is gone already."""
    shutil.rmtree(directory, ignore_errors=True)


def _remove_left(parent: str, prefix: str) -> None:
    """Remove the directories of programs that were killed: nobody holds them any more.

    One that was made just now may not be held yet.
    """
    for each in os.scandir(parent):
        if not each.name.startswith(prefix) or not each.is_dir(follow_symlinks=False):
            continue
        try:
            status = each.stat(follow_symlinks=False)
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _YOUNG_SECONDS:
                continue
            fd = os.open(each.path, _DIRECTORY)
        except OSError:
            # Gone meanwhile, or not ours.
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # It is used.
            continue
        else:
            shutil.rmtree(each.path, ignore_errors=True)
        finally:
            os.close(fd)
