"""Which name of a snapshot leads to which file: its number at that moment.

A version of a file stands for it in many generations, with the number that it had in the first of
them: a file that was restored has another number, and is the same version.
"""

from __future__ import annotations

import stat
from array import array
from typing import TYPE_CHECKING

from ..database.file_names import kept_name
from ..files.records import ROOT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from ...filesystems.walking import WalkedDirectory
    from ..database.file_names import Name

_TYPE = 0o170000

_STANDS = """
    lineage_id = ?1 AND first_generation <= ?2
    AND (last_generation IS NULL OR last_generation >= ?2)
"""
_COPY = f"""
    INSERT INTO snapshot_names (generation_id, directory_id, name_id, inode)
    SELECT ?3, directory_id, name_id, inode FROM file_versions
    WHERE {_STANDS} AND mode >> 12 = 8
"""  # noqa: S608 - our own statements
_NAMES = f"""
    SELECT name, name_id, inode FROM file_versions JOIN file_names ON file_names.id = name_id
    WHERE directory_id = ?3 AND {_STANDS}
"""  # noqa: S608
_DIRECTORY = "SELECT id FROM file_directories WHERE parent_id = ? AND name_id = ?"
_CHANGE = """
    UPDATE snapshot_names SET inode = ?
    WHERE generation_id = ? AND directory_id = ? AND name_id = ?
"""


def write_names(
    driver: sqlite3.Connection, generation_id: int, directories: Iterable[WalkedDirectory]
) -> None:
    """Write the numbers of all regular files of a snapshot, by their names.

    Args:
        driver: of the catalog, in the transaction that has written the generation.
        generation_id: its row.
        directories: what was walked over.
    """
    lineage_id, number = driver.execute(
        "SELECT lineage_id, number FROM file_generations WHERE id = ?", (generation_id,)
    ).fetchone()
    driver.execute(_COPY, (lineage_id, number, generation_id))
    if number == 1:
        # Each version is of this generation.
        return
    rows = array("q", [ROOT])
    for directory in directories:
        row = rows[directory.number]
        known: dict[Name, tuple[int, int]] = {
            name: (name_id, inode)
            for name, name_id, inode in driver.execute(_NAMES, (lineage_id, number, row))
        }
        changed = []
        for name, inode, mode in zip(
            directory.names, directory.inodes, directory.modes, strict=True
        ):
            name_id, before = known[kept_name(name)]
            if mode & _TYPE == stat.S_IFDIR:
                rows.append(driver.execute(_DIRECTORY, (row, name_id)).fetchone()[0])
            elif inode != before:
                changed.append((inode, generation_id, row, name_id))
        driver.executemany(_CHANGE, changed)
