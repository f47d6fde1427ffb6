"""What tells a catalog from others: a random key of its own, and where its file lies.

A file that was moved away and made again is told by its inode; one that was overwritten in place,
by that key.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import urllib.parse
from typing import NamedTuple

_SETTLED_NS = 50_000_000
"""A file that was written more recently than that may just be being overwritten."""

_HALF_WRITTEN_NS = 2_000_000_000
"""A file without a key that was written more recently may be half of what its log had for it:
whoever writes the rest waits for the disk, or a turn.
"""

_MOST_WAITS = 400
"""Of `_SETTLED_NS` each: who adds many images while others ask may write for seconds on end."""


class Identity(NamedTuple):
    """What tells a catalog from others: where its file lies, and its key.

    `key` is None of one that has none, being of an older schema, or cannot be told just now.
    """

    device: int
    inode: int
    key: int | None


def key_of(connection: sqlite3.Connection) -> int | None:
    """Return the key of an open catalog, None where it has none."""
    try:
        row = connection.execute("SELECT key FROM identity").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return None if row is None else int(row[0])


def uri_of(path: str, mode: str) -> str:
    """Return SQLite's URI for a path, which need not be UTF-8."""
    return f"file:{urllib.parse.quote(os.fsencode(os.path.abspath(path)))}?mode={mode}"


class Original:
    """Tells whether the file at a path still is a catalog that was opened. For any thread.

    The file is read only after it was written: past the write-ahead log, and past what open
    connections have cached, so that a file that was overwritten in place tells its own key.

    Args:
        path: the file.
        identity: what it was.
    """

    def __init__(self, path: str, identity: Identity) -> None:
        self._path = path
        self.identity = identity
        self._seen: tuple[int, int] | None = None
        self._is_stored = False

    def is_there(self) -> bool:
        """Tell whether it is there unchanged. Waits a moment for one who writes it.

        Raises:
            OSError: there is no such file, or it cannot be looked at.
        """
        for _ in range(_MOST_WAITS):
            status = os.stat(self._path)
            if (status.st_dev, status.st_ino) != (self.identity.device, self.identity.inode):
                return False
            state = status.st_mtime_ns, status.st_size
            if state == self._seen:
                return True
            age = time.time_ns() - status.st_mtime_ns
            if 0 <= age < _SETTLED_NS:
                time.sleep((_SETTLED_NS - age) / 1e9)
                continue
            key = self._stored_key()
            if key is None and not self._is_stored:
                # It was made just now, and is in the write-ahead log only.
                return True
            self._is_stored = True
            after = os.stat(self._path)
            if (after.st_mtime_ns, after.st_size) != state:
                continue
            if key is None and 0 <= age < _HALF_WRITTEN_NS:
                time.sleep(_SETTLED_NS / 1e9)
                continue
            if key != self.identity.key:
                # Not remembered: the next one who asks must be told so too.
                return False
            self._seen = state
            return True
        return False

    def _stored_key(self) -> int | None:
        uri = uri_of(self._path, "ro&immutable=1")
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as alone:
                # While somebody reads, a log is written back in part: of pages that have changed
                # since, nothing is, and for as long as that a file may be shorter than its first
                # page says. SQLite takes it for malformed, but not where it is to be repaired.
                alone.execute("PRAGMA writable_schema = ON")
                return key_of(alone)
        except sqlite3.Error:
            # Whatever it is, it is no catalog of ours.
            return None
