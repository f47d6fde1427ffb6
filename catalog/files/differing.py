"""What is different between two backups."""

from __future__ import annotations

import enum
import stat
from typing import TYPE_CHECKING, NamedTuple

from .asking import COLUMNS, Paths, Row, is_directory

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from .asking import Backup

_IN = "first_generation <= {0} AND (last_generation IS NULL OR last_generation >= {0})"
_OF_ONE_SIDE = f"""
    SELECT {COLUMNS} FROM file_versions
    WHERE lineage_id = ?1 AND ({_IN.format("?2")}) <> ({_IN.format("?3")})
    ORDER BY directory_id, name_id
"""  # noqa: S608 - our own words
_OF_ONE = f"""
    SELECT {COLUMNS} FROM file_versions WHERE lineage_id = ?1 AND {_IN.format("?2")}
    ORDER BY directory_id, name_id
"""  # noqa: S608 - our own words
_BELOW = """
    WITH RECURSIVE below(id) AS (
        VALUES (?) UNION
        SELECT file_directories.id FROM below JOIN file_directories ON parent_id = below.id
    )
    SELECT id FROM below
"""
_IFMT = 0o170000


class Change(enum.StrEnum):
    """What became of a file between two backups."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


class Difference(NamedTuple):
    """A file that is not the same in two backups.

    Attributes:
        change: what became of it.
        path: in the second backup; of what was removed, in the first.
        old_path: in the first backup; None of what was added.
        old: what it was; None of what was added.
        new: what it is; None of what was removed.
    """

    change: Change
    path: bytes
    old_path: bytes | None
    old: Row | None
    new: Row | None


def differences(
    connection: sqlite3.Connection, old: Backup, new: Backup, path: bytes = b"/"
) -> list[Difference]:
    """Return what is different between two backups, by path.

    A file is changed where its type, mode, size or time is another; what a directory has in it is
    no change of the directory. One is moved where a file of the same number, type, size and time is
    gone from elsewhere, in backups of the same file system.

    Args:
        connection: reads the catalog, in one transaction.
        old: the first.
        new: the second.
        path: what is looked at is this, or below it.

    Raises:
        FileNotFoundError: neither backup ever had anything at `path`.
    """
    paths = Paths(connection)
    below = _Below(connection, paths, path)
    removed: list[Row] = []
    added: list[Row] = []
    found: list[Difference] = []
    for before, after in _pairs(connection, old, new):
        row = before or after
        assert row is not None
        if not below.has(row):
            continue
        if before is None:
            added.append(row)
        elif after is None:
            removed.append(row)
        elif _is_change(before, after):
            way = paths.of_row(row)
            found.append(Difference(Change.CHANGED, way, way, before, after))
    if old.lineage_id == new.lineage_id:
        found += _moved(paths, removed, added)
    found += (
        Difference(Change.REMOVED, way := paths.of_row(row), way, row, None) for row in removed
    )
    found += (Difference(Change.ADDED, paths.of_row(row), None, None, row) for row in added)
    return sorted(found, key=lambda each: (each.path.split(b"/"), each.change))


class _Below:
    """Tells what is at a path, or below it."""

    def __init__(self, connection: sqlite3.Connection, paths: Paths, path: bytes) -> None:
        self._directories: frozenset[int] | None = None
        self._place: tuple[int, int] | None = None
        if not path.strip(b"/"):
            return
        self._place = paths.place(path)
        directory_id = paths.directory(path)
        if self._place is None:
            raise FileNotFoundError(2, "no backup has, or had, such a file", path)
        found = () if directory_id is None else connection.execute(_BELOW, (directory_id,))
        self._directories = frozenset(row[0] for row in found)

    def has(self, row: Row) -> bool:
        return (
            self._directories is None
            or row.directory_id in self._directories
            or row.place == self._place
        )


def _pairs(
    connection: sqlite3.Connection, old: Backup, new: Backup
) -> Iterator[tuple[Row | None, Row | None]]:
    """Yield what differs: a file in the first, or None, and in the second, or None."""
    if old.lineage_id == new.lineage_id:
        yield from _pairs_of_one(connection, old, new)
        return
    left = map(Row._make, connection.execute(_OF_ONE, (old.lineage_id, old.number)))
    right = map(Row._make, connection.execute(_OF_ONE, (new.lineage_id, new.number)))
    before, after = next(left, None), next(right, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before.place < after.place):
            yield before, None
            before = next(left, None)
        elif before is None or after.place < before.place:
            yield None, after
            after = next(right, None)
        else:
            if before.what != after.what:
                yield before, after
            before, after = next(left, None), next(right, None)


def _pairs_of_one(
    connection: sqlite3.Connection, old: Backup, new: Backup
) -> Iterator[tuple[Row | None, Row | None]]:
    """Do as `_pairs`, for two generations of one file system: only what differs is read."""
    values = (old.lineage_id, old.number, new.number)
    kept: Row | None = None
    for row in map(Row._make, connection.execute(_OF_ONE_SIDE, values)):
        if kept is not None and kept.place == row.place:
            one, other = (kept, row) if kept.stands_in(old.number) else (row, kept)
            # A version that came again stands in two rows.
            if one.what != other.what:
                yield one, other
            kept = None
            continue
        if kept is not None:
            yield _alone(kept, old)
        kept = row
    if kept is not None:
        yield _alone(kept, old)


def _alone(row: Row, old: Backup) -> tuple[Row | None, Row | None]:
    return (row, None) if row.stands_in(old.number) else (None, row)


def _is_change(before: Row, after: Row) -> bool:
    return not (is_directory(before) and is_directory(after)) or before.mode != after.mode


def _moved(paths: Paths, removed: list[Row], added: list[Row]) -> list[Difference]:
    """Take what was moved out of what was removed and what was added, and return it."""
    gone: dict[tuple[int, ...], list[Row]] = {}
    for row in removed:
        gone.setdefault(_identity(row), []).append(row)
    found = []
    left = []
    for row in added:
        before = gone.get(_identity(row))
        if before:
            old = before.pop(0)
            found.append(Difference(Change.MOVED, paths.of_row(row), paths.of_row(old), old, row))
        else:
            left.append(row)
    moved = {id(each.old) for each in found}
    removed[:] = [row for row in removed if id(row) not in moved]
    added[:] = left
    return found


def _identity(row: Row) -> tuple[int, ...]:
    """Return what a file keeps when it is moved."""
    kind = row.mode & _IFMT
    if stat.S_ISDIR(row.mode):
        # What is in it may have changed too.
        return row.inode, kind
    return row.inode, kind, row.size, row.mtime_ns or 0
