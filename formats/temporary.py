"""Files without a name, in the directory for temporary files.

`tempfile` finds that directory by writing a file with a name into each that may be it. Who is
killed at that moment leaves it behind; here, what may be written is asked instead.
"""

from __future__ import annotations

import errno
import os
import tempfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def directory() -> str:
    """Return the directory for temporary files: the one that ``TMPDIR`` names, or the usual one.

    Raises:
        FileNotFoundError: there is none that may be written.
    """
    names = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    usual = "/tmp", "/var/tmp", "/usr/tmp", os.curdir  # noqa: S108 - asked for, not used
    found = first_usable((*names, *usual))
    if found is None:
        raise FileNotFoundError(
            errno.ENOENT, "no directory for temporary files may be written: TMPDIR names one"
        )
    return os.path.abspath(found)


def first_usable(candidates: Iterable[str | None]) -> str | None:
    """Return the first that is a directory in which files can be made, None if there is none."""
    for each in candidates:
        if each and os.path.isdir(each) and os.access(each, os.W_OK | os.X_OK):
            return each
    return None


def unnamed_file(*, buffering: int = -1) -> IO[bytes]:
    """Return an empty file without a name, to be written and read; it goes when it is closed.

    Args:
        buffering: as that of `open`.

    Raises:
        OSError: it cannot be made.
    """
    return tempfile.TemporaryFile(buffering=buffering, dir=directory())
