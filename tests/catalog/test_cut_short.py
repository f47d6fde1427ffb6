"""A catalog whose writer was killed in the midst of a transaction, where there is no log."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.errors import CatalogError
from imgcat.catalog.store import Catalog
from support.attack_images import solid
from support.confined import MODES_HOLD, run_confined
from support.shortcuts import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program


@pytest.fixture
def half_written(program: Program, tmp_path: Path) -> Path:
    """A catalog of one image ``a``, and half of a transaction that gives it another name.

    Its journal, from which that is undone, lies beside it, as a kill leaves both.
    """
    (tmp_path / "a.img").write_bytes(solid(b"A", 8))
    catalogue(program, tmp_path / "a.img")
    cut = tmp_path / "cut"
    cut.mkdir()
    with contextlib.closing(sqlite3.connect(program.catalog, isolation_level=None)) as writer:
        assert writer.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        # Changed pages are written at once, and not when it is committed.
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("CREATE TABLE filler AS SELECT randomblob(100000) AS data")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE images SET name = 'half'")
        writer.execute("UPDATE filler SET data = randomblob(100000)")
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{program.catalog}{suffix}", cut / f"catalog.db{suffix}")
        writer.execute("ROLLBACK")
    # Without its journal it is what was half written, else this would test nothing.
    shutil.copyfile(cut / "catalog.db", tmp_path / "alone.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "alone.db")) as alone:
        assert alone.execute("SELECT name FROM images").fetchall() == [("half",)]
    for each in cut.iterdir():
        each.chmod(0o600)
    return cut / "catalog.db"


def test_who_only_reads_has_it_undone_first(half_written: Path) -> None:
    with Catalog.open(str(half_written), write=False) as catalog:
        assert [row.name for row, _volumes in catalog.list_images()] == ["a"]
        asking = catalog.database.asking()
        with pytest.raises(CatalogError, match="is read-only"), asking as connection:
            connection.execute("UPDATE images SET name = 'b'")
    assert os.listdir(half_written.parent) == ["catalog.db"]


def test_of_several_that_read_at_once_none_reads_it(half_written: Path, program: Program) -> None:
    asking = [program.start("--db", half_written, "ls", "--json") for _ in range(4)]
    for process in asking:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")
        assert [row["name"] for row in json.loads(output)] == ["a"]


def test_who_follows_it_goes_on(half_written: Path, tmp_path: Path) -> None:
    """One look fails, and the next one has it undone: nobody else need come."""
    path = tmp_path / "followed.db"
    shutil.copyfile(half_written, path)
    shutil.copyfile(f"{half_written}-journal", f"{path}-journal")
    with Catalog.open(str(path), write=False) as catalog:
        follower = catalog.follow()
        seen = follower.version()
        # As if its writer were killed in the same place once more, now that it is open.
        path.write_bytes(half_written.read_bytes())
        shutil.copyfile(f"{half_written}-journal", f"{path}-journal")
        with pytest.raises(CatalogError, match="its writer was killed"):
            follower.version()
        assert follower.version() >= seen
        assert [row.name for row, _volumes in catalog.list_images()] == ["a"]
        follower.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("suffix", "words", "command"),
    [
        ("", ": its writer was killed: its owner", ("ls",)),
        ("-journal", "-journal: belongs to somebody else", ("ls",)),
        ("-journal", "-journal: belongs to somebody else", ("rename", "a", "b")),
    ],
)
def test_what_is_somebody_else_s_is_not_undone(
    half_written: Path, program: Program, suffix: str, words: str, command: tuple[str, ...]
) -> None:
    """A journal may name a file to delete: root must not do that for who has put it there."""
    before = {each: each.read_bytes() for each in half_written.parent.iterdir()}
    os.chown(f"{half_written}{suffix}", 65534, 65534)
    said = program.run("--db", half_written, *command, code=6)
    assert said.stdout == ""
    assert f"imgcat: {half_written}{words}" in said.stderr
    assert {each: each.read_bytes() for each in half_written.parent.iterdir()} == before


def test_who_may_not_write_is_told_and_reads_nothing(half_written: Path, program: Program) -> None:
    before = {each: each.read_bytes() for each in half_written.parent.iterdir()}
    for each in before:
        each.chmod(0o400)
    half_written.parent.chmod(0o500)
    for arguments in (("ls",), ("show", "half"), ("sql", "SELECT name FROM images")):
        said = run_confined(program, MODES_HOLD, "--db", half_written, *arguments, code=6)
        assert said.stdout == ""
        assert f"imgcat: {half_written}: its writer was killed: " in said.stderr
    half_written.parent.chmod(0o700)
    assert {each: each.read_bytes() for each in half_written.parent.iterdir()} == before
