"""Who may read the files of a catalog: its owner alone.

A catalog holds plain bytes of images: literal sectors, and the windows of seek points. So whoever
may read it reads parts of every image in it. SQLite gives ``-wal``, ``-shm`` and ``-journal`` the
mode of the main file when it makes them; those that are there already are looked at here.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = 0o600
"""Of every file of a catalog."""

DIRECTORY_MODE = 0o700
"""Of the default directory of catalogs, where imgcat makes it."""

_BESIDE = ("-wal", "-shm", "-journal", ".lock")
_FOR_OTHERS = 0o077


def create_empty(path: str) -> None:
    """Make an empty file that SQLite makes a database of; leaves one that is there already.

    Raises:
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, MODE))


def is_ours(path: str) -> bool:
    """Tell whether the catalog at `path` belongs to this user.

    Raises:
        OSError: it cannot be looked at.
    """
    return os.stat(path).st_uid == os.geteuid()


def has_planted_journal(path: str) -> bool:
    """Tell whether a journal beside the catalog at `path` is another's than the catalog's or ours.

    To be asked before SQLite looks: as root, it gives the journal to whom the database belongs.

    Raises:
        OSError: they cannot be looked at.
    """
    base = os.path.realpath(path)
    try:
        owner = os.lstat(f"{base}-journal").st_uid
    except FileNotFoundError:
        return False
    return owner not in {os.geteuid(), os.stat(base).st_uid}


def tighten(path: str) -> list[str]:
    """Take the files of the catalog at `path` from everybody but their owner, if that is us.

    Copies that an upgrade has left beside it are among them. Only modes are changed; what belongs
    to somebody else, or is no plain file, is left as it is.

    Returns:
        What was done, or could not be, in words for the user: a sentence for each file.
    """
    said: list[str] = []
    for name in _files_of(path):
        said.extend(_tighten_one(name))
    return said


def _files_of(path: str) -> Iterator[str]:
    # SQLite names the files beside a database after the file that a link leads to.
    for base in dict.fromkeys((path, os.path.realpath(path))):
        yield base
        for suffix in _BESIDE:
            yield base + suffix
        directory, name = os.path.split(base)
        with contextlib.suppress(OSError):
            beside = sorted(os.listdir(directory or "."))
            copies = [each for each in beside if each.startswith(f"{name}.before-")]
            yield from (os.path.join(directory, each) for each in copies)


def _tighten_one(name: str) -> Iterator[str]:
    try:
        # Of a path alone: closing a descriptor that reads would drop SQLite's locks.
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        # Most of them are not there; opening the database tells what is wrong with it.
        return
    try:
        status = os.fstat(fd)
        mode = stat.S_IMODE(status.st_mode)
        # Of a file with another name, that one may be somebody else's trap.
        is_ours = (
            stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        )
        if not is_ours or not mode & _FOR_OTHERS:
            return
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode & ~_FOR_OTHERS)
        except OSError as error:
            yield f"{name}: others may read it, and that cannot be changed: {error.strerror}"
        else:
            yield (
                f"{name}: had mode {mode:04o}, and now has {mode & ~_FOR_OTHERS:04o}: it holds "
                "bytes of the images"
            )
    finally:
        os.close(fd)
