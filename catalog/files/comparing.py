"""What is new in a file system beside what the catalog has of it: found without a lock.

What is found is laid aside in a temporary database and, of what there is most, in a file; so it
takes no more memory of a large file system than of a small one. `storing` writes it, in one
transaction.
"""

from __future__ import annotations

import marshal
import os
import stat
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from ...filesystems.worker.wire import NO_TIME
from ...formats import temporary
from ..database.aside import database_aside, naming_room
from ..database.file_names import hash_of, id_of, kept_names
from .records import ROOT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from ...filesystems.walking import WalkedDirectory
    from ..database.file_names import Name

_TYPE = 0o170000

_MOST_NAMES = 1 << 18
"""Names whose ids are kept at hand."""

_AT_ONCE = 20_000
"""Rows that are laid aside together."""

_ASIDE = """
    CREATE TABLE names (id INTEGER PRIMARY KEY, hash INTEGER, name);
    CREATE TABLE known_names (id INTEGER PRIMARY KEY, hash INTEGER);
    CREATE TABLE directories (number INTEGER PRIMARY KEY, parent INTEGER, name_id INTEGER,
                              known INTEGER);
    CREATE TABLE ended (directory_id INTEGER, name_id INTEGER);
"""
_BY_HASH = "CREATE INDEX IF NOT EXISTS by_hash ON names (hash)"

_CURRENT = """
    SELECT name, mode, size_bytes, mtime_ns
    FROM file_versions JOIN file_names ON file_names.id = name_id
    WHERE lineage_id = ? AND directory_id = ? AND last_generation IS NULL
"""
_CHILDREN = """
    SELECT name, file_directories.id
    FROM file_directories JOIN file_names ON file_names.id = name_id WHERE parent_id = ?
"""
_BELOW = """
    WITH RECURSIVE below(id) AS (
        VALUES (?2)
        UNION
        SELECT file_directories.id FROM below JOIN file_directories ON parent_id = below.id
    )
    SELECT directory_id, name_id FROM below JOIN file_versions
    ON lineage_id = ?1 AND directory_id = below.id AND last_generation IS NULL
"""

_NEWEST = "SELECT max(number), id FROM file_generations WHERE lineage_id = ?"


NewRow = tuple[int, int, int, int | None, int, int]
"""A new version in a directory: name, mode, size, time, inode and flags."""


class Base(NamedTuple):
    """What a file system was compared with.

    Attributes:
        lineage_id: the row of the file system; None where there is none yet.
        generation_id: the row of its newest generation.
        number: the number of that; 0 where there is none.
        transactions: of the catalog, that were written before.
        has_names: whether any file is known.
    """

    lineage_id: int | None
    generation_id: int | None
    number: int
    transactions: int
    has_names: bool


def base_of(connection: sqlite3.Connection, lineage_id: int | None) -> Base:
    """Return what there is of a file system, None where it is a new one. A few statements."""
    (transactions,) = connection.execute("SELECT transactions FROM identity").fetchone()
    (has_names,) = connection.execute("SELECT EXISTS (SELECT 1 FROM file_names)").fetchone()
    number = generation_id = None
    if lineage_id is not None:
        number, generation_id = connection.execute(_NEWEST, (lineage_id,)).fetchone()
    return Base(lineage_id, generation_id, number or 0, transactions, bool(has_names))


class Aside:
    """What is new, laid aside. Of one thread.

    Args:
        connection: reads the catalog, in one transaction.
        base: what there is of the file system.

    Attributes:
        base: the same.
        files: names that were walked over.
        added: versions that are new.
        ended: versions that stand no longer.
        names: names that the catalog has not; their ids here count from 1, and are negative in
            rows.
    """

    def __init__(self, connection: sqlite3.Connection, base: Base) -> None:
        self.base = base
        self.files = self.added = self.ended = self.names = 0
        self._catalog = connection
        self._aside = database_aside(_ASIDE)
        self._rows = temporary.unnamed_file()
        self._numbers, self._offsets = array("q"), array("q")
        self._ids: dict[Name, int] = {}
        self._known = array("q", [ROOT])
        self._new_names: list[tuple[int, int, Name]] = []
        self._new_directories: list[tuple[int, int, int, int]] = []
        self._ended_rows: list[tuple[int, int]] = []

    def close(self) -> None:
        """Throw it away."""
        self._aside.close()
        self._rows.close()

    def compare(self, directories: Iterable[WalkedDirectory]) -> None:
        """Take every directory of the file system; see `walking.walk`.

        Raises:
            NoRoomError: the temporary directory is full.
            What that raises.
        """
        for directory in directories:
            self._compare_one(directory)
            laid = len(self._new_names) + len(self._ended_rows) + len(self._new_directories)
            if laid >= _AT_ONCE:
                self._lay_aside()
        self._lay_aside()

    # -- what was found --------------------------------------------------------

    def new_names(self, above: int = 0) -> Iterator[tuple[int, int, Name]]:
        """Yield the names that the catalog has not: id, hash and name.

        Args:
            above: what is added to ids, which are from 1 on.
        """
        return self._aside.execute("SELECT id + ?, hash, name FROM names ORDER BY id", (above,))

    def known_names(self) -> Iterator[tuple[int, int]]:
        """Yield id and hash of the names of the catalog that new rows have."""
        return self._aside.execute("SELECT id, hash FROM known_names")

    def directories(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the directories, but for the root: number, that of its parent, name, row or 0."""
        return self._aside.execute(
            "SELECT number, parent, name_id, known FROM directories ORDER BY number"
        )

    def ended_rows(self) -> Iterator[tuple[int, int]]:
        """Yield directory and name of the versions that stand no longer."""
        return self._aside.execute("SELECT directory_id, name_id FROM ended")

    def new_rows(self, rows: Sequence[int]) -> Iterator[tuple[int, list[NewRow]]]:
        """Yield the new versions of each directory that has any, with the row of that.

        Args:
            rows: the row of each directory, by its number. What is yielded is in their order,
                for that is the order in which it is written.
        """
        numbers, offsets = self._numbers, self._offsets
        with naming_room():
            stop = self._rows.seek(0, os.SEEK_END)
        for place in sorted(range(len(numbers)), key=lambda each: rows[numbers[each]]):
            start = self._rows.seek(offsets[place])
            behind = offsets[place + 1] if place + 1 < len(offsets) else stop
            data = self._rows.read(behind - start)
            yield rows[numbers[place]], marshal.loads(data)  # noqa: S302 - written below

    def name_id(self, name: Name) -> int:
        """Return the id of a name: of one that the catalog has not, one below 0."""
        found = self._ids.get(name)
        if found is not None:
            return found
        hashed = hash_of(name)
        found = id_of(self._catalog, name) if self.base.has_names else None
        if found is not None:
            self._aside.execute("INSERT OR IGNORE INTO known_names VALUES (?, ?)", (found, hashed))
        else:
            found = self._new_name(name, hashed)
        if len(self._ids) >= _MOST_NAMES:
            self._lay_names_aside()
            self._ids.clear()
        self._ids[name] = found
        return found

    # -- helpers ---------------------------------------------------------------

    def _new_name(self, name: Name, hashed: int) -> int:
        if self.names >= _MOST_NAMES:
            # It may be one of those that are not at hand any more.
            self._lay_names_aside()
            self._aside.execute(_BY_HASH)
            row = self._aside.execute(
                "SELECT id FROM names WHERE hash = ? AND name = ?", (hashed, name)
            ).fetchone()
            if row is not None:
                return -int(row[0])
        self.names += 1
        self._new_names.append((self.names, hashed, name))
        return -self.names

    @naming_room()
    def _compare_one(self, directory: WalkedDirectory) -> None:
        number = directory.number
        known = self._known[number]
        names = kept_names(directory.names)
        self.files += len(names)
        times: list[int | None] = list(directory.times)
        if NO_TIME in times:
            times = [None if each == NO_TIME else each for each in times]
        found = list(zip(names, directory.modes, directory.sizes, times, strict=True))
        self._add_children(number, known, found)
        before = self._before(known)
        fresh = [row not in before for row in found]
        if True in fresh or len(before) != len(found):
            self._end(known, before.difference(found), found)
        if True not in fresh:
            return
        name_id = self._ids.get
        rows = [
            (name_id(name) or self.name_id(name), mode, size, time, inode, flags)
            for is_fresh, (name, mode, size, time), inode, flags in zip(
                fresh, found, directory.inodes, directory.flags, strict=True
            )
            if is_fresh
        ]
        self.added += len(rows)
        self._numbers.append(number)
        self._offsets.append(self._rows.tell())
        self._rows.write(marshal.dumps(rows))

    def _before(self, known: int) -> set[tuple[Any, ...]]:
        if not known or self.base.generation_id is None:
            return set()
        return set(self._catalog.execute(_CURRENT, (self.base.lineage_id, known)))

    def _add_children(self, number: int, known: int, found: list[tuple[Any, ...]]) -> None:
        """Number the directories in a directory."""
        inside = [row[0] for row in found if row[1] & _TYPE == stat.S_IFDIR]
        if not inside:
            return
        rows = dict(self._catalog.execute(_CHILDREN, (known,))) if known else {}
        first = len(self._known)
        self._known.extend(rows.get(name, 0) for name in inside)
        self._new_directories += (
            (first + place, number, self.name_id(name), self._known[first + place])
            for place, name in enumerate(inside)
        )

    def _end(
        self, directory_id: int, ended: set[tuple[Any, ...]], found: list[tuple[Any, ...]]
    ) -> None:
        """End versions of a directory, and what is below those that were directories."""
        if not ended:
            return
        gone = {row[0] for row in ended if row[1] & _TYPE == stat.S_IFDIR}
        gone -= {row[0] for row in found if row[1] & _TYPE == stat.S_IFDIR}
        for name, *_rest in ended:
            self._ended_rows.append((directory_id, self.name_id(name)))
        if gone:
            rows = dict(self._catalog.execute(_CHILDREN, (directory_id,)))
            for name in gone:
                if name in rows:
                    below = (self.base.lineage_id, rows[name])
                    self._ended_rows += self._catalog.execute(_BELOW, below)

    @naming_room()
    def _lay_aside(self) -> None:
        self.ended += len(self._ended_rows)
        self._lay_names_aside()
        insert = self._aside.executemany
        insert("INSERT INTO directories VALUES (?, ?, ?, ?)", self._new_directories)
        insert("INSERT INTO ended VALUES (?, ?)", self._ended_rows)
        self._new_directories, self._ended_rows = [], []

    def _lay_names_aside(self) -> None:
        self._aside.executemany("INSERT INTO names VALUES (?, ?, ?)", self._new_names)
        self._new_names = []
