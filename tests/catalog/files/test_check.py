"""What is wrong with the rows of files is told by `db check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.database.check import check
from imgcat.catalog.files.records import NewGeneration, TakenFrom
from imgcat.catalog.files.storing import store_generation
from imgcat.catalog.store import Catalog
from support.walked import File, walked

if TYPE_CHECKING:
    from pathlib import Path

_TREE = {b"/etc": File(0o40755), b"/etc/fstab": File(0o100644, 5), b"/etc/\xff": File(0o100644)}

_FAULTS = {
    "the hash of a name": "UPDATE file_names SET hash = hash + 1 WHERE name = 'fstab'",
    "a name is there twice": "INSERT INTO file_names (hash, name)"
    " SELECT hash, name FROM file_names WHERE name = 'fstab'",
    "a version of a file has no name": "DELETE FROM file_names WHERE name = 'fstab'",
    "a directory has no name": "UPDATE file_directories SET name_id = 99 WHERE id = 2",
    "or lies in none": "UPDATE file_directories SET parent_id = 2 WHERE id = 2",
    "a version of a file lies in no directory": "DELETE FROM file_directories WHERE id = 2",
    "the root directory is not there": "DELETE FROM file_directories WHERE id = 1",
    "a file has two versions at once": "INSERT INTO file_versions"
    " SELECT lineage_id, directory_id, name_id, 2, NULL, mode, 9, 9, inode, flags"
    " FROM file_versions",
    "ends before it begins": "UPDATE file_versions SET last_generation = 0",
    "a hash is of a file that its backup has not": "INSERT INTO file_hashes"
    " VALUES (1, 1, 99, zeroblob(32))",
    "stands in no backup": "UPDATE file_versions SET first_generation = 7",
    "a file system has no backup": "INSERT INTO file_lineages VALUES (9, 'ext', 'x', '')",
    "is not found by its trigrams": "INSERT INTO file_name_trigrams"
    " (file_name_trigrams, rowid, name)"
    " SELECT 'delete', id, name FROM file_names WHERE name = 'fstab'",
}


@pytest.mark.parametrize("what", _FAULTS)
def test_a_fault_is_told(tmp_path: Path, what: str) -> None:
    with Catalog.open(str(tmp_path / "c.db"), create=True) as catalog:
        new = NewGeneration("ext4", "u", "2026-01-01T00:00:00Z", TakenFrom.NOW, snapshot_name="s")
        store_generation(catalog, new, lambda: walked(_TREE))
        assert check(catalog.database) == []
        with catalog.database.raw() as connection:
            connection.execute(_FAULTS[what])
        told = check(catalog.database)
        assert any(what in line and "imgcat index --force" in line for line in told), told
