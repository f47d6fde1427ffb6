"""What every question about files needs: the backups there are, versions, and their paths."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ...filesystems.listing import local_time
from ...filesystems.worker.wire import WALL_CLOCK
from ..database.file_names import id_of, kept_name, raw_name
from ..names import file_name
from ..records import READABLE, READY
from .records import ROOT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..store import Catalog

_BACKUPS = """
    SELECT file_generations.id, lineage_id, number, image_id, coalesce(name, snapshot_name),
           taken_at, taken_from, file_count, problem_count, caveat, snapshots.source
    FROM file_generations LEFT JOIN images ON images.id = image_id
    LEFT JOIN snapshots ON snapshots.generation_id = file_generations.id
"""
_IN_ORDER = f"{_BACKUPS} ORDER BY taken_at, number"
_OF_IMAGE = f"{_BACKUPS} WHERE image_id = ?"
_ABOVE = """
    SELECT parent_id, name FROM file_directories
    LEFT JOIN file_names ON file_names.id = name_id WHERE file_directories.id = ?
"""
_CHILD = "SELECT id FROM file_directories WHERE parent_id = ? AND name_id = ?"

COLUMNS = """lineage_id, directory_id, name_id, first_generation, last_generation, mode,
    size_bytes, mtime_ns, inode, flags"""
"""The columns of `file_versions` that a `Row` has."""

_MOST_PATHS = 1 << 16


class Backup(NamedTuple):
    """A generation: an image that is indexed, or a snapshot.

    Attributes:
        generation_id: its row.
        lineage_id: the row of its file system.
        number: among the generations of that, in the order in which they were indexed.
        image_id: the image; None of a snapshot.
        name: of the image, or the snapshot.
        taken_at: UTC, in ISO 8601.
        taken_from: what tells that.
        files: names in it.
        problems: things that could not be read of it.
        caveat: what is to be said with its files; None where there is nothing.
        source: of a snapshot, where the files lie; None of an image.
    """

    generation_id: int
    lineage_id: int
    number: int
    image_id: int | None
    name: str
    taken_at: str
    taken_from: str
    files: int
    problems: int
    caveat: str | None
    source: str | None

    @property
    def when(self) -> tuple[str, int]:
        """What backups of a file system are in order of."""
        return self.taken_at, self.number


class Row(NamedTuple):
    """A row of `file_versions`; see docs/sql.md."""

    lineage_id: int
    directory_id: int
    name_id: int
    first: int
    last: int | None
    mode: int
    size: int
    mtime_ns: int | None
    inode: int
    flags: int

    def stands_in(self, number: int) -> bool:
        """Tell whether it stands in a generation of its file system."""
        return self.first <= number and (self.last is None or number <= self.last)

    @property
    def place(self) -> tuple[int, int]:
        """Directory and name: the same of every version of a file."""
        return self.directory_id, self.name_id

    @property
    def what(self) -> tuple[int, int, int | None]:
        """What makes a version: type and mode, size and time."""
        return self.mode, self.size, self.mtime_ns

    @property
    def modified(self) -> int | None:
        """Nanoseconds since 1970 at which it was written; None where that is not known."""
        return local_time(self.mtime_ns) if self.flags & WALL_CLOCK else self.mtime_ns


class Version(NamedTuple):
    """A version of a file, and the backups that it stands in.

    Attributes:
        path: from the root of its file system on.
        row: what it is; of several rows that say the same, the newest.
        backups: oldest first, one at the least.
    """

    path: bytes
    row: Row
    backups: tuple[Backup, ...]

    @property
    def newest(self) -> Backup:
        """The newest backup that has it."""
        return self.backups[-1]


class Backups:
    """All backups, by file system. One statement.

    Args:
        connection: reads the catalog.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.all = [_backup(row) for row in connection.execute(_IN_ORDER)]
        self.by_lineage: dict[int, list[Backup]] = {}
        for each in self.all:
            self.by_lineage.setdefault(each.lineage_id, []).append(each)
        self._by_image = {each.image_id: each for each in self.all if each.image_id is not None}

    def of_image(self, image_id: int) -> Backup | None:
        """Return the backup that an image is, None where its files are not indexed."""
        return self._by_image.get(image_id)

    def having(self, row: Row) -> list[Backup]:
        """Return the backups that a row stands in, oldest first."""
        return [each for each in self.by_lineage[row.lineage_id] if row.stands_in(each.number)]

    def newest(self, lineage_id: int) -> Backup:
        """Return the newest backup of a file system, of those that could be read as a whole.

        What is not in one that could not is not known to be gone. Where none could, it is the
        newest of all.
        """
        found = self.by_lineage[lineage_id]
        return next((each for each in reversed(found) if not each.problems), found[-1])

    def versions(self, path: bytes, rows: Iterable[Row]) -> list[Version]:
        """Return the versions that rows of one file in one file system are, newest first.

        Rows that say the same are one: where backups were indexed in another order than they were
        taken, a version may have several.
        """
        found: dict[tuple[int, int, int | None], tuple[Row, list[Backup]]] = {}
        for row in sorted(rows, key=lambda each: each.first):
            _before, having = found.get(row.what, (None, []))
            found[row.what] = (row, having + self.having(row))
        versions = [
            Version(path, row, tuple(sorted(having, key=lambda each: each.when)))
            for row, having in found.values()
            if having
        ]
        return sorted(versions, key=lambda each: each.newest.when, reverse=True)


def is_best(backup: Backup, statuses: Mapping[int, str]) -> bool:
    """Tell whether no backup is better to get files from. Arguments as those of `best_of`."""
    return _worth(backup, statuses) == 0


def best_of(backups: Sequence[Backup], statuses: Mapping[int, str]) -> Backup:
    """Return the one of several backups that have a version which it is best got from.

    Images that are ready come first, then those that can be read in part. Of a snapshot, the bytes
    may be others by now, and an image whose files are away gives none. Of equals it is the last.

    Args:
        backups: one at the least, the newest last.
        statuses: of images, by id; those that it does not have are gone.
    """
    return min(reversed(backups), key=lambda each: _worth(each, statuses))


def _worth(backup: Backup, statuses: Mapping[int, str]) -> int:
    """Return 0 for what files are best got from, more for what is worse."""
    if backup.image_id is None:
        return 2
    status = statuses.get(backup.image_id)
    if status == READY:
        return 0
    return 1 if status in READABLE else 3


def _backup(row: tuple[Any, ...]) -> Backup:
    backup = Backup._make(row)
    source = None if backup.source is None else file_name(backup.source)
    return backup._replace(name=file_name(backup.name), source=source)


def backup_of(catalog: Catalog, image_id: int) -> Backup | None:
    """Return the backup that an image is, None where its files are not indexed. One statement."""
    with catalog.database.asking() as connection:
        row = connection.execute(_OF_IMAGE, (image_id,)).fetchone()
    return None if row is None else _backup(row)


class Paths:
    """Paths of directories, and directories of paths.

    Args:
        connection: reads the catalog.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[int, bytes] = {}
        self._names: dict[int, bytes] = {}

    def of_directory(self, directory_id: int) -> bytes:
        """Return the path of a directory, with a ``/`` behind it. A statement for each unknown."""
        names: list[bytes] = []
        here = directory_id
        while here != ROOT and here not in self._known:
            row = self._connection.execute(_ABOVE, (here,)).fetchone()
            if row is None or row[1] is None:
                # `db check` tells of it.
                names.append(b"?")
                break
            names.append(raw_name(row[1]))
            here = row[0]
        above = self._known.get(here, b"/")
        path = above + b"".join(name + b"/" for name in reversed(names))
        if len(self._known) >= _MOST_PATHS:
            self._known.clear()
        self._known[directory_id] = path
        return path

    def of_row(self, row: Row) -> bytes:
        """Return the path of a version."""
        name = self._names.get(row.name_id)
        if name is None:
            found = self._connection.execute(
                "SELECT name FROM file_names WHERE id = ?", (row.name_id,)
            ).fetchone()
            name = b"?" if found is None else raw_name(found[0])
            if len(self._names) >= _MOST_PATHS:
                self._names.clear()
            self._names[row.name_id] = name
        return self.of_directory(row.directory_id) + name

    def place(self, path: bytes) -> tuple[int, int] | None:
        """Return directory and name of a path, None where no backup has, or had, it."""
        *above, last = [part for part in path.split(b"/") if part] or [b""]
        directory_id = ROOT
        for part in above:
            name_id = id_of(self._connection, kept_name(part))
            row = self._connection.execute(_CHILD, (directory_id, name_id)).fetchone()
            if row is None:
                return None
            directory_id = row[0]
        name_id = id_of(self._connection, kept_name(last))
        return None if name_id is None else (directory_id, name_id)

    def directory(self, path: bytes) -> int | None:
        """Return the row of a directory by its path, None where there is none."""
        if not path.strip(b"/"):
            return ROOT
        place = self.place(path)
        row = None if place is None else self._connection.execute(_CHILD, place).fetchone()
        return None if row is None else int(row[0])


def is_directory(row: Row) -> bool:
    """Tell whether a version is a directory."""
    return stat.S_ISDIR(row.mode)


def rows_of(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> Iterable[Row]:
    """Return rows of versions, as they are read. One statement."""
    statement = f"SELECT {COLUMNS} FROM file_versions WHERE {where}"  # noqa: S608 - our own words
    make: Callable[[Any], Row] = Row._make
    return map(make, connection.execute(statement, values))
