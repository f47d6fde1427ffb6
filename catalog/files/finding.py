"""Finding files over all backups, by their names and paths."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from .asking import Backups, Paths, Version, rows_of
from .patterns import trigrams

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from ..database.file_names import Name
    from .asking import Row
    from .patterns import Pattern

_BY_TRIGRAMS = """
    SELECT file_names.id, file_names.name FROM file_name_trigrams
    JOIN file_names ON file_names.id = file_name_trigrams.rowid
    WHERE file_name_trigrams MATCH ?
"""
_ALL = "SELECT id, name FROM file_names"
_WITH = " WHERE typeof(name) = 'blob' OR instr({name}, ?) > 0"

_SECOND = 1_000_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the versions that are found are wanted.

    Attributes:
        generations: rows of the backups that they must stand in; None where any will do.
        type_bits: type as the mode has it, shifted by 12; None where any will do.
        smallest: bytes at the least.
        largest: bytes at the most.
        newer_than: nanoseconds since 1970: written behind that.
        older_than: written before that.
        deleted: only what is not in the newest backup of its file system; see `Backups.newest`.
    """

    generations: frozenset[int] | None = None
    type_bits: int | None = None
    smallest: int = 0
    largest: int | None = None
    newer_than: int | None = None
    older_than: int | None = None
    deleted: bool = False

    def takes(self, row: Row) -> bool:
        """Tell whether a version is wanted, but for the backups that it stands in."""
        if self.type_bits is not None and row.mode >> 12 != self.type_bits:
            return False
        if row.size < self.smallest or (self.largest is not None and row.size > self.largest):
            return False
        if self.newer_than is None and self.older_than is None:
            return True
        moment = row.modified
        return (
            moment is not None
            and (self.newer_than is None or moment > self.newer_than)
            and (self.older_than is None or moment < self.older_than)
        )


def find(connection: sqlite3.Connection, pattern: Pattern, wanted: Wanted) -> Iterator[Version]:
    """Yield the versions of files that match, file by file, of each the newest first.

    Args:
        connection: reads the catalog, in one transaction.
        pattern: their names or paths.
        wanted: which of them.
    """
    backups = Backups(connection)
    paths = Paths(connection)
    if not backups.all:
        return
    for name_id, name in _names(connection, pattern):
        if not pattern.matches_name(name):
            continue
        rows = rows_of(connection, "name_id = ?", (name_id,))
        by_file = itertools.groupby(rows, key=lambda row: (row.lineage_id, row.directory_id))
        for (lineage_id, _directory_id), found in by_file:
            of_file = list(found)
            if wanted.deleted:
                newest = backups.newest(lineage_id).number
                if any(row.stands_in(newest) for row in of_file):
                    continue
            left = [row for row in of_file if wanted.takes(row)]
            if not left:
                continue
            path = paths.of_row(left[0])
            if pattern.matches_path(path):
                yield from _standing(backups.versions(path, left), wanted)


def _standing(versions: list[Version], wanted: Wanted) -> Iterator[Version]:
    """Yield the versions that stand in the backups that are wanted, with those."""
    for version in versions:
        if wanted.generations is None:
            yield version
            continue
        left = tuple(each for each in version.backups if each.generation_id in wanted.generations)
        if left:
            yield version._replace(backups=left)


def _names(connection: sqlite3.Connection, pattern: Pattern) -> Iterator[tuple[int, Name]]:
    """Yield the names that may match."""
    pieces = trigrams(pattern.literals)
    if pieces:
        # A phrase would fail: the index knows which names have a trigram, and not where.
        words = " AND ".join('"' + piece.replace('"', '""') + '"' for piece in pieces)
        return connection.execute(_BY_TRIGRAMS, (words,))
    longest = max((each for each in pattern.literals if each.isascii()), key=len, default="")
    if not longest:
        return connection.execute(_ALL)
    name = "name" if pattern.has_case else "lower(name)"
    return connection.execute(_ALL + _WITH.format(name=name), (longest,))
