"""When a backup was taken: told by its file system, by Clonezilla, or by its file's time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ..database.moment import utc
from .records import TakenFrom

if TYPE_CHECKING:
    import sqlite3

_SAVED_AT = """
    SELECT saved_at FROM image_directories JOIN directory_images ON directory_id = id
    WHERE image_id = ? AND saved_at IS NOT NULL
"""
_WRITTEN_AT = "SELECT written_at FROM file_systems WHERE image_id = ?"
_CHANGED_AT = """
    WITH RECURSIVE above(id) AS (
        VALUES (?1) UNION
        SELECT parent_id FROM above JOIN images ON images.id = above.id WHERE parent_id IS NOT NULL
    )
    SELECT max(mtime_ns) FROM above JOIN volumes ON volumes.image_id = above.id
"""

_LOG_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S")
"""How Clonezilla's log tells the time, but for the zone, which stands behind it."""

_UTC = ("UTC", "GMT", "Z")


def taken_at(connection: sqlite3.Connection, image_id: int) -> tuple[str, TakenFrom]:
    """Return when an image was taken, UTC in ISO 8601, and what tells that. A few statements."""
    row = connection.execute(_WRITTEN_AT, (image_id,)).fetchone()
    if row is not None and row[0]:
        return str(row[0]), TakenFrom.FILE_SYSTEM
    row = connection.execute(_SAVED_AT, (image_id,)).fetchone()
    saved = None if row is None else _of_log(str(row[0]))
    if saved is not None:
        return saved, TakenFrom.CLONEZILLA
    (changed,) = connection.execute(_CHANGED_AT, (image_id,)).fetchone()
    return utc((changed or 0) / 1_000_000_000), TakenFrom.FILE


def _of_log(words: str) -> str | None:
    """Return a time out of Clonezilla's log; None where its zone, or its form, is not known."""
    text, _space, zone = words.strip().rpartition(" ")
    if zone not in _UTC:
        return None
    for form in _LOG_FORMS:
        try:
            found = dt.datetime.strptime(text, form)  # noqa: DTZ007 - the zone is looked at above
        except ValueError:
            continue
        return utc(found.replace(tzinfo=dt.UTC).timestamp())
    return None


def parse_moment(text: str) -> str:
    """Return a time that a user gives, UTC in ISO 8601; without a zone it is of the clock here.

    Raises:
        ValueError: it is none.
    """
    found = dt.datetime.fromisoformat(text)
    return utc(found.timestamp())
