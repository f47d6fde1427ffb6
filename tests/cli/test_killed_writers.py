"""Killing what writes new files, at any moment: a file is whole or not there, and nothing stays."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.files.new_file import PARTIAL_SUFFIX
from support.ntfsclone_writer import Recipe, write
from support.old_catalogs import populate
from support.program import wait_until
from support.shortcuts import catalogue
from support.volumes import quiet, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.program import Program

MOMENTS = [3, pytest.param(60, marks=pytest.mark.soak)]


@pytest.fixture
def image(program: Program, tmp_path: Path) -> None:
    """An image called ``large``, in a catalog that is large itself."""
    written = write(Recipe(order=range(20_000), cluster_count=20_000, cluster_size=4096))
    (tmp_path / "large.img").write_bytes(written.image)
    catalogue(program, tmp_path / "large.img")
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection, connection:
        connection.execute("CREATE TABLE filler (data)")
        connection.executemany(
            "INSERT INTO filler VALUES (?)", [(os.urandom(1 << 16),) for _ in range(1500)]
        )


@pytest.fixture(params=["here", "tmpfs", "ntfs-3g"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of each kind; ntfs-3g has no files without a name."""
    point = tmp_path / "target"
    point.mkdir()
    if request.param == "here":
        yield point
        return
    if request.param == "tmpfs":
        quiet("mount", "-t", "tmpfs", "-o", "size=300M", "none", point)
    else:
        quiet("truncate", "-s", "300M", tmp_path / "ntfs.raw")
        quiet("mkfs.ntfs", "-F", "-Q", tmp_path / "ntfs.raw")
        quiet("ntfs-3g", tmp_path / "ntfs.raw", point)
    yield point
    quiet("umount", point)


def _is_whole_database(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.loop
@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("verb", ["export", "repack", "backup"])
def test_killed_at_any_moment(
    program: Program, target: Path, tmp_path: Path, verb: str, moments: int
) -> None:
    command = ["db", "backup"] if verb == "backup" else [verb, "large"]
    began = time.monotonic()
    program.run(*command, tmp_path / "whole")
    lasts = time.monotonic() - began
    whole = sha256(tmp_path / "whole")
    out = target / "out"
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(moments):
        process = program.start(*command, out)
        time.sleep(generator.uniform(0.1, 0.9) * lasts)
        process.kill()
        process.communicate()
        left = [name for name in os.listdir(target) if name != out.name]
        # Where each file must have a name, and SQLite's must, what is unfinished has another.
        named = verb == "backup" or "ntfs" in str(tmp_path)
        assert all(name.endswith(PARTIAL_SUFFIX) for name in left)
        assert len(left) <= named
        if out.exists():
            assert _is_whole_database(out) if verb == "backup" else sha256(out) == whole
            out.unlink()
    # The same command again: what was left is not in the way, and does not stay.
    program.run(*command, out)
    assert os.listdir(target) == [out.name]
    assert sha256(out) == whole if verb != "backup" else _is_whole_database(out)
    program.run(*command, out, code=2)


def _old_catalog(program: Program, revision: str) -> sqlite3.Connection:
    """Put a catalog of an old schema in the place of the one that may be there, and open it."""
    for each in program.home.glob("catalog.db*"):
        each.unlink()
    connection = sqlite3.connect(program.catalog, isolation_level=None)
    populate(connection, revision)
    return connection


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
def test_two_that_upgrade_one_catalog_leave_one_copy(program: Program, revision: str) -> None:
    connection = _old_catalog(program, revision)
    # Both have found it to be an old one before either can begin. Python is started for each, for
    # what the other way has imported tells nothing.
    connection.execute("BEGIN IMMEDIATE")
    upgrading = [program.start("db", "upgrade", program=["-m", "imgcat"]) for _ in range(2)]
    for process in upgrading:
        wait_until(lambda pid=process.pid: _loads_alembic(pid), "it waits for the lock", 30)
    connection.execute("COMMIT")
    connection.close()
    said = [process.communicate(timeout=60) for process in upgrading]
    assert [process.returncode for process in upgrading] == [0, 0], said
    copies = list(program.home.glob("catalog.db.before-*"))
    assert [copy.name for copy in copies] == [f"catalog.db.before-{revision}"]
    assert [b"kept as" in errors for _output, errors in said].count(True) == 1
    assert _is_whole_database(copies[0])
    with contextlib.closing(sqlite3.connect(copies[0])) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]


def _loads_alembic(pid: int) -> bool:
    """Tell whether a process has loaded what it writes with."""
    return "sqlalchemy" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("moments", MOMENTS)
def test_an_upgrade_killed_at_any_moment(program: Program, moments: int) -> None:
    generator = random.Random(moments)
    _old_catalog(program, "0001").close()
    # What it is forked from may have to start.
    program.run("--version")
    began = time.monotonic()
    program.run("db", "upgrade")
    lasts = time.monotonic() - began
    for _ in range(moments):
        _old_catalog(program, "0001").close()
        process = program.start("db", "upgrade")
        time.sleep(generator.uniform(0.1, 0.9) * lasts)
        process.kill()
        process.communicate()
        program.run("ls")
        copies = [
            path for path in program.home.glob("catalog.db.before-*")
            if not path.name.endswith(PARTIAL_SUFFIX)
        ]  # fmt: skip
        assert copies
        assert all(map(_is_whole_database, copies))
