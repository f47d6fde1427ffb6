"""What readers of file systems have died of, as rows: the newest of each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..names import legible
from ..records import WorkerFailureRow

if TYPE_CHECKING:
    import sqlite3

MOST_KEPT = 20
"""Rows of an image."""

# Of an image that was scanned anew meanwhile, or is another's by now, nothing is written.
_INSERT = """
    INSERT INTO worker_failures (image_id, index_id, failed_at, fs_type, question, ending)
    SELECT images.id, indexes.id, ?, ?, ?, ?
    FROM images JOIN indexes ON indexes.id = images.index_id
    WHERE images.id = ? AND content_key = ?
"""
_TRIM = """
    DELETE FROM worker_failures WHERE image_id = ?1 AND id NOT IN
        (SELECT id FROM worker_failures WHERE image_id = ?1 ORDER BY id DESC LIMIT ?2)
"""
_ROWS = """
    SELECT failed_at, worker_failures.fs_type, question, ending
    FROM worker_failures JOIN images ON images.id = image_id
    WHERE image_id = ? AND worker_failures.index_id = images.index_id
    ORDER BY worker_failures.id DESC
"""
_HAS_ANY = """
    WITH RECURSIVE below(id) AS
        (SELECT ?1 UNION SELECT images.id FROM images JOIN below ON parent_id = below.id)
    SELECT 1 FROM worker_failures WHERE image_id IN (SELECT id FROM below) LIMIT 1
"""
_DELETE = """
    WITH RECURSIVE below(id) AS
        (SELECT ?1 UNION SELECT images.id FROM images JOIN below ON parent_id = below.id)
    DELETE FROM worker_failures WHERE image_id IN (SELECT id FROM below)
"""


def insert(
    driver: sqlite3.Connection, image_id: int, content_key: int, failure: WorkerFailureRow
) -> None:
    """Write that a reader failed over this content of an image; the oldest row may go for it."""
    values = (
        failure.failed_at, legible(failure.fs_type), legible(failure.question),
        legible(failure.ending),
    )  # fmt: skip
    driver.execute(_INSERT, (*values, image_id, content_key))
    driver.execute(_TRIM, (image_id, MOST_KEPT))


def rows(connection: sqlite3.Connection, image_id: int) -> list[WorkerFailureRow]:
    """Return what readers of an image failed over since it was scanned, the newest first."""
    return [WorkerFailureRow(*row) for row in connection.execute(_ROWS, (image_id,))]


def has_any(connection: sqlite3.Connection, image_id: int) -> bool:
    """Tell whether `delete` has something to do."""
    return connection.execute(_HAS_ANY, (image_id,)).fetchone() is not None


def delete(driver: sqlite3.Connection, image_id: int) -> None:
    """Forget those of an image, and of its partitions and snapshots."""
    driver.execute(_DELETE, (image_id,))
