"""Snapshots as they stand in the catalog: which there are, their names, and where files lay."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from ...filesystems.listing import is_name
from ..database.file_names import hash_of, kept_name, raw_name
from ..database.transaction import driver_connection
from ..errors import CatalogError, ImageNotFoundError
from ..files.records import ROOT
from .records import SavedFile, SavedName, Snapshot
from .runs import HASH_SIZE, pieces_of, unpack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from ..database.file_names import Name
    from ..store import Catalog

_SNAPSHOTS = """
    SELECT file_generations.id, lineage_id, number, snapshot_name, taken_at, source, source_kind,
           size_bytes, fs_type, fs_uuid, state, has_hashes, file_count, problem_count, caveat
    FROM snapshots JOIN file_generations ON file_generations.id = generation_id
    JOIN file_lineages ON file_lineages.id = lineage_id
"""
_STANDS = """
    lineage_id = :lineage_id AND first_generation <= :number
    AND (last_generation IS NULL OR last_generation >= :number)
"""
_INODES = """
    LEFT JOIN snapshot_names ON snapshot_names.generation_id = :generation_id
        AND snapshot_names.directory_id = file_versions.directory_id
        AND snapshot_names.name_id = file_versions.name_id
"""
_COLUMNS = """
    mode, size_bytes, mtime_ns, coalesce(snapshot_names.inode, file_versions.inode),
    file_directories.id
"""
_ONE = f"""
    SELECT {_COLUMNS}
    FROM file_names JOIN file_versions ON file_versions.name_id = file_names.id
    LEFT JOIN file_directories ON parent_id = file_versions.directory_id
        AND file_directories.name_id = file_names.id
    {_INODES}
    WHERE hash = :hash AND name = :name AND file_versions.directory_id = :directory_id
        AND {_STANDS}
"""  # noqa: S608 - our own statements
_BELOW = f"""
    SELECT name, {_COLUMNS}
    FROM file_versions JOIN file_names ON file_names.id = file_versions.name_id
    LEFT JOIN file_directories ON parent_id = file_versions.directory_id
        AND file_directories.name_id = file_names.id
    {_INODES}
    WHERE file_versions.directory_id = :directory_id AND {_STANDS}
    ORDER BY CAST(name AS BLOB)
"""  # noqa: S608
_FILE = """
    SELECT size_bytes, runs, data, hashes, why FROM snapshot_files
    WHERE generation_id = ? AND inode = ?
"""
_BACKUPS = """
    SELECT images.name FROM file_generations JOIN images ON images.id = image_id
    JOIN file_versions ON file_versions.lineage_id = file_generations.lineage_id
        AND first_generation <= file_generations.number
        AND (last_generation IS NULL OR last_generation >= file_generations.number)
    WHERE file_generations.lineage_id = ? AND directory_id = ? AND mode >> 12 = 8
        AND name_id = (SELECT id FROM file_names WHERE hash = ? AND name = ?)
    ORDER BY file_generations.taken_at DESC LIMIT 3
"""


_MOST_NAMED = 5
"""Snapshots that a message names where there is none of the name that is wanted."""


def snapshots(catalog: Catalog) -> list[Snapshot]:
    """Return all snapshots, the oldest first. One statement."""
    with catalog.database.asking() as connection:
        return [_snapshot(row) for row in connection.execute(f"{_SNAPSHOTS} ORDER BY taken_at, 1")]


def find_snapshot(catalog: Catalog, name: str) -> Snapshot:
    """Return the snapshot of a name.

    Raises:
        ImageNotFoundError: there is none.
        CatalogError: the catalog cannot be read.
    """
    with catalog.database.asking() as connection:
        row = _row_of(connection, name)
    if row is None:
        raise ImageNotFoundError(f"{name}: no snapshot is called so; {_which(snapshots(catalog))}")
    return _snapshot(row)


def _which(known: list[Snapshot]) -> str:
    """Return which snapshots there are, the newest of them by their names."""
    if not known:
        return "`imgcat snapshot SOURCE` takes one"
    names = ", ".join(each.name for each in known[-_MOST_NAMED:])
    left = len(known) - _MOST_NAMED
    return f"there are {names}" + (
        f" and {left} more: `imgcat snapshot` lists all" if left > 0 else ""
    )


def forget(catalog: Catalog, name: str) -> None:
    """Delete a snapshot.

    Raises:
        ImageNotFoundError: there is none.
        CatalogError: the catalog cannot be written.
    """
    found = find_snapshot(catalog, name)
    with catalog.database.writing() as connection:
        driver_connection(connection).execute(
            "DELETE FROM file_generations WHERE id = ?", (found.generation_id,)
        )
    catalog.purge()


class Saved:
    """The names and files of a snapshot. For one thread.

    Args:
        connection: reads the catalog.
        snapshot: which.
    """

    def __init__(self, connection: sqlite3.Connection, snapshot: Snapshot) -> None:
        self._connection = connection
        self.snapshot = snapshot
        self._key: dict[str, Name | int] = {
            "lineage_id": snapshot.lineage_id,
            "number": snapshot.number,
            "generation_id": snapshot.generation_id,
        }

    def find(self, path: bytes) -> SavedName:
        """Return what was at a path.

        Raises:
            FileNotFoundError: nothing.
        """
        found = SavedName(b"", stat.S_IFDIR | 0o755, 0, None, 0, ROOT)
        for part in (each for each in path.split(b"/") if each):
            below = b"/".join(filter(None, [found.path, part]))
            row = None
            if found.directory_id is not None:
                row = self._connection.execute(
                    _ONE,
                    {**self._key, **_hashed(part), "directory_id": found.directory_id},
                ).fetchone()
            if row is None:
                raise FileNotFoundError(
                    2, f"not in the snapshot {self.snapshot.name}", b"/" + below
                )
            found = _saved_name(below, row)
        return found

    def below(self, top: SavedName) -> Iterator[SavedName]:
        """Yield all names below a directory, each directory before what is in it, in order."""
        todo = [iter(self._entries(top))]
        while todo:
            entry = next(todo[-1], None)
            if entry is None:
                todo.pop()
                continue
            yield entry
            if stat.S_ISDIR(entry.mode) and entry.directory_id is not None:
                todo.append(iter(self._entries(entry)))

    def file(self, inode: int) -> SavedFile | None:
        """Return where a file lay; None where that was not kept.

        Raises:
            CatalogError: what is kept is damaged.
        """
        row = self._connection.execute(_FILE, (self.snapshot.generation_id, inode)).fetchone()
        if row is None:
            return None
        size, packed, data, hashes, why = row
        runs = None if packed is None else unpack(packed, size)
        if runs is not None and hashes is not None:
            wanted = sum(1 for _each in pieces_of(runs)) * HASH_SIZE
            if len(hashes) != wanted:
                raise CatalogError(
                    f"file {inode} of the snapshot {self.snapshot.name} has {len(hashes)} bytes of"
                    f" hashes in place of {wanted}: take the snapshot again"
                )
        return SavedFile(size, runs, data, hashes, why)

    def backups(self, path: bytes) -> list[str]:
        """Return the newest indexed images of the same file system that have a file of a path."""
        above, _slash, part = path.rpartition(b"/")
        directory_id = self.find(above).directory_id
        name = kept_name(part)
        rows = self._connection.execute(
            _BACKUPS, (self.snapshot.lineage_id, directory_id, hash_of(name), name)
        )
        return [raw_name(row[0]).decode(errors="surrogateescape") for row in rows]

    def _entries(self, top: SavedName) -> list[SavedName]:
        found = []
        for name, *rest in self._connection.execute(
            _BELOW, {**self._key, "directory_id": top.directory_id}
        ):
            part = raw_name(name)
            if not is_name(part):
                # Nobody vouches for a catalog, and files are written by these.
                raise CatalogError(f"{part!r} is no name of a file: see `imgcat db check`")
            found.append(_saved_name(b"/".join(filter(None, [top.path, part])), rest))
        return found


def _hashed(part: bytes) -> dict[str, Name | int]:
    name = kept_name(part)
    return {"hash": hash_of(name), "name": name}


def _saved_name(path: bytes, row: Any) -> SavedName:  # noqa: ANN401 - a row
    mode, size, mtime_ns, inode, directory_id = row
    return SavedName(path, mode, size, mtime_ns, inode, directory_id)


def _row_of(connection: sqlite3.Connection, name: str) -> Any:  # noqa: ANN401 - a row
    wanted = kept_name(name.encode(errors="surrogateescape"))
    return connection.execute(f"{_SNAPSHOTS} WHERE snapshot_name = ?", (wanted,)).fetchone()


def _snapshot(row: Any) -> Snapshot:  # noqa: ANN401 - a row
    values = list(row)
    for number in (3, 5):
        values[number] = raw_name(values[number]).decode(errors="surrogateescape")
    values[11] = bool(values[11])
    return Snapshot(*values)
