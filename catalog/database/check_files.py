"""Checking what the catalog has of files: that rows lead to rows, and versions do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import file_names

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

_MOST_TOLD = 5
"""Faults of a kind that are told one by one."""

_SAMPLES = 500
"""Names that are looked up by their trigrams."""

_FAULTS = {
    "a directory has no name, or lies in none": """
        SELECT id FROM file_directories AS here
        WHERE id <> 1 AND NOT (
            coalesce(parent_id < id, 0)
            AND EXISTS (SELECT 1 FROM file_directories WHERE id = here.parent_id)
            AND EXISTS (SELECT 1 FROM file_names WHERE id = here.name_id)
        )
    """,
    "the root directory is not there": """
        SELECT 1 WHERE NOT EXISTS (
            SELECT 1 FROM file_directories
            WHERE id = 1 AND parent_id IS NULL AND name_id IS NULL
        )
    """,
    "a version of a file has no name": """
        SELECT name_id FROM (SELECT DISTINCT name_id FROM file_versions) AS used
        WHERE NOT EXISTS (SELECT 1 FROM file_names WHERE id = used.name_id)
    """,
    "a version of a file lies in no directory": """
        SELECT directory_id FROM (SELECT DISTINCT directory_id FROM file_versions) AS used
        WHERE NOT EXISTS (SELECT 1 FROM file_directories WHERE id = used.directory_id)
    """,
    "a file has two versions at once": """
        SELECT lineage_id || '/' || directory_id || '/' || name_id FROM (
            SELECT lineage_id, directory_id, name_id, first_generation,
                   lag(coalesce(last_generation, 1 << 40)) OVER place AS before
            FROM file_versions
            WINDOW place AS (PARTITION BY lineage_id, directory_id, name_id
                             ORDER BY first_generation)
        ) WHERE before >= first_generation
    """,
    "a version of a file ends before it begins": """
        SELECT lineage_id || '/' || directory_id || '/' || name_id FROM file_versions
        WHERE last_generation < first_generation
    """,
    "a version of a file stands in no backup": """
        SELECT lineage_id || '/' || directory_id || '/' || name_id FROM file_versions AS here
        WHERE NOT EXISTS (
            SELECT 1 FROM file_generations
            WHERE lineage_id = here.lineage_id AND number >= first_generation
                AND (last_generation IS NULL OR number <= last_generation)
        )
    """,
    "a hash is of a file that its backup has not": """
        SELECT generation_id || '/' || directory_id || '/' || name_id FROM file_hashes AS here
        WHERE NOT EXISTS (
            SELECT 1 FROM file_generations JOIN file_versions USING (lineage_id)
            WHERE file_generations.id = generation_id AND directory_id = here.directory_id
                AND name_id = here.name_id AND first_generation <= number
                AND (last_generation IS NULL OR last_generation >= number)
        )
    """,
    "a file system has no backup": """
        SELECT id FROM file_lineages AS here
        WHERE NOT EXISTS (SELECT 1 FROM file_generations WHERE lineage_id = here.id)
    """,
    "a name is there twice": """
        SELECT min(id) FROM file_names GROUP BY hash, name HAVING count(*) > 1
    """,
}
"""What may not be, and a query for the rows that are so."""

_ALL_NAMES = "SELECT id, hash, name FROM file_names"
_SAMPLE = """
    SELECT id, name FROM file_names
    WHERE id % (SELECT max(id) / ? + 1 FROM file_names) = 0 AND typeof(name) = 'text'
"""
_BY_TRIGRAM = """
    SELECT 1 FROM file_name_trigrams WHERE file_name_trigrams MATCH ? AND rowid = ?
"""
_TRIGRAM = 3


def check_files(connection: sqlite3.Connection) -> list[str]:
    """Return what is wrong with what the catalog has of files, in words. Reads all of it."""
    problems = []
    for what, query in _FAULTS.items():
        found = [row[0] for row in connection.execute(query)]
        if found:
            problems.append(_told(what, found))
    hashes = [
        name_id
        for name_id, hashed, name in connection.execute(_ALL_NAMES)
        if file_names.hash_of(name) != hashed
    ]
    if hashes:
        problems.append(_told("the hash of a name is another's", hashes))
    lost = list(_not_found(connection))
    if lost:
        problems.append(_told("a name is not found by its trigrams", lost))
    return problems


def _told(what: str, found: Sequence[object]) -> str:
    some = ", ".join(map(str, found[:_MOST_TOLD]))
    more = f" and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
    return f"files: {what} ({some}{more}): `imgcat index --force` the backups"


def _not_found(connection: sqlite3.Connection) -> Iterator[int]:
    """Yield names, out of some, that a search for a part of them would not find."""
    for name_id, name in connection.execute(_SAMPLE, (_SAMPLES,)).fetchall():
        piece = name[:_TRIGRAM]
        if len(piece) == _TRIGRAM and piece.isascii():
            words = '"' + piece.replace('"', '""') + '"'
            if connection.execute(_BY_TRIGRAM, (words, name_id)).fetchone() is None:
                yield name_id
