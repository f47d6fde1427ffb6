"""Names and directories that no version of a file has any more: what is left of removed backups.

A trigger notes the name and the directory of each version that is deleted; see the schema. They are
looked through when there is time for it: whoever indexes looks ids of names up before it writes,
and notices where one is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import file_names

if TYPE_CHECKING:
    import sqlite3

_ROOT = 1

_NOTED = """
    SELECT directory_id FROM file_leftovers
    UNION
    SELECT id FROM file_leftovers JOIN file_directories
    ON parent_id = directory_id AND file_directories.name_id = file_leftovers.name_id
"""
_DIRECTORY_IS_USED = """
    SELECT EXISTS (SELECT 1 FROM file_directories WHERE parent_id = ?1)
        OR EXISTS (SELECT 1 FROM file_lineages CROSS JOIN file_versions
                   WHERE lineage_id = file_lineages.id AND directory_id = ?1)
"""
"""CROSS: in that order, a look-up for each file system; else all versions are read."""

_NAME_IS_USED = "SELECT EXISTS (SELECT 1 FROM file_versions WHERE name_id = ?)"
_OF_DIRECTORY = "SELECT parent_id, name_id FROM file_directories WHERE id = ?"


def has_leftovers(connection: sqlite3.Connection) -> bool:
    """Tell whether there is anything to look through. One statement."""
    (found,) = connection.execute("SELECT EXISTS (SELECT 1 FROM file_leftovers)").fetchone()
    return bool(found)


def delete_leftovers(connection: sqlite3.Connection) -> None:
    """Delete names and directories that nothing has any more, of those that were noted.

    Args:
        connection: in a transaction that writes.
    """
    names = {row[0] for row in connection.execute("SELECT DISTINCT name_id FROM file_leftovers")}
    todo = [row[0] for row in connection.execute(_NOTED)]
    while todo:
        directory_id = todo.pop()
        row = connection.execute(_OF_DIRECTORY, (directory_id,)).fetchone()
        if directory_id == _ROOT or row is None:
            continue
        (is_used,) = connection.execute(_DIRECTORY_IS_USED, (directory_id,)).fetchone()
        if not is_used:
            connection.execute("DELETE FROM file_directories WHERE id = ?", (directory_id,))
            # What it was in may be empty now.
            todo.append(row[0])
            names.add(row[1])
    for name_id in names:
        (is_used,) = connection.execute(_NAME_IS_USED, (name_id,)).fetchone()
        if not is_used:
            file_names.delete(connection, name_id)
    connection.execute("DELETE FROM file_leftovers")
