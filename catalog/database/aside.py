"""What is laid aside until it is written, or asked for: in files without names, of a process."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TYPE_CHECKING

from ...formats import temporary
from .connection import primary_code

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoRoomError(OSError):
    """The temporary directory is full; the error names it."""


def database_aside(schema: str) -> sqlite3.Connection:
    """Return an empty database, in a transaction: a file that goes with the connection.

    Args:
        schema: the statements that make its tables.

    Raises:
        NoRoomError: it has no room.
    """
    with naming_room():
        # Without a name, it is in the temporary directory, and of nobody else.
        aside = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        aside.execute("PRAGMA journal_mode = OFF").fetchone()
        aside.execute("PRAGMA synchronous = OFF")
        aside.executescript(schema)
        aside.execute("BEGIN")
        return aside


@contextlib.contextmanager
def naming_room() -> Iterator[None]:
    """Let a temporary directory that is full be what is told to be full.

    For what writes a `temporary.unnamed_file`, or a `database_aside`, and nothing else.

    Raises:
        NoRoomError: it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or isinstance(error, NoRoomError):
            raise
        raise _no_room(error.errno, temporary.directory()) from error
    except sqlite3.Error as error:
        if primary_code(error) != sqlite3.SQLITE_FULL:
            raise
        raise _no_room(errno.ENOSPC, _directory_of_sqlite()) from error


def _no_room(number: int, directory: str) -> NoRoomError:
    said = f"{os.strerror(number)} for what is laid aside: TMPDIR names another directory"
    return NoRoomError(number, said, directory)


def _directory_of_sqlite() -> str:
    """Return where SQLite has its temporary files: see ``unixTempFileDir`` in its ``os_unix.c``."""
    named = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"))
    usual = "/var/tmp", "/usr/tmp", "/tmp"  # noqa: S108 - SQLite's, not ours
    return temporary.first_usable((*named, *usual)) or os.curdir
