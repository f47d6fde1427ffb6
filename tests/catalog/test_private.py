"""A catalog holds bytes of images: its files are for its owner alone."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.database import pins, private, schema
from imgcat.catalog.store import Catalog
from support.attack_images import solid
from support.program import Program
from support.shortcuts import catalogue
from support.small_disk import SmallDisk
from support.strangers import NOBODY, open_directory, read_as

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A directory that every user can reach, made under the usual umask."""
    umask = os.umask(0o022)
    try:
        with open_directory() as directory:
            yield directory
    finally:
        os.umask(umask)


def modes(directory: Path) -> dict[str, int]:
    """Return the permission bits of the files in a directory, by name."""
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()}


def test_every_file_of_a_new_catalog_is_private(open_home: Path) -> None:
    path = open_home / "catalog.db"
    (open_home / "a.img").write_bytes(solid(b"A", 8))
    (open_home / "a.img").chmod(0o600)
    with Catalog.open(str(path), create=True) as catalog:
        with catalog.database.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
            journals = modes(open_home)
        with pins.pinned(str(path)) as pinned:
            assert pinned
        schema.backup(catalog.database, str(open_home / "backup.db"))
        found = modes(open_home)
    assert {name: mode for name, mode in (found | journals).items() if mode != 0o600} == {}
    assert {"catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.lock"} <= {*found}


def test_others_cannot_read_a_private_image_from_the_catalog(open_home: Path) -> None:
    with Program(open_home / "home") as program:
        saved = SmallDisk(open_home / "laptop")
        for each in saved.directory.iterdir():
            each.chmod(0o600)
        program.run("add", saved.directory)
        # Its sectors before the first partition are literal bytes in the catalog.
        files = list(program.home.glob("catalog.db*"))
        assert any(saved.hidden[:64] in each.read_bytes() for each in files)
        assert [each for each in files if read_as(each) is not None] == []


def test_a_catalog_from_before_is_tightened_by_its_owner(open_home: Path) -> None:
    with Program(open_home / "home") as program:
        (open_home / "a.img").write_bytes(solid(b"A", 8))
        catalogue(program, open_home / "a.img")
        copy = program.home / "catalog.db.before-0004"
        copy.write_bytes(program.catalog.read_bytes())
        holding = Catalog.open(str(program.catalog))
        with holding.database.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
        names = [each.name for each in program.home.glob("catalog.db*")]
        for name in names:
            (program.home / name).chmod(0o644)
        said = program.run("ls").stderr
        assert {modes(program.home)[name] for name in names} == {0o600}
        assert sorted(said.splitlines()) == sorted(
            f"imgcat: {program.home}/{name}: had mode 0644, and now has 0600: it holds bytes of "
            "the images"
            for name in names
        )
        assert program.run("ls").stderr == ""
        holding.close()


def test_what_belongs_to_others_keeps_its_mode(open_home: Path) -> None:
    path = open_home / "catalog.db"
    Catalog.open(str(path), create=True).close()
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o644)
    (open_home / "catalog.db.lock").symlink_to("/etc/passwd")
    before = os.stat("/etc/passwd").st_mode
    assert private.tighten(str(path)) == []
    assert modes(open_home)["catalog.db"] == 0o644
    assert os.stat("/etc/passwd").st_mode == before
    with pins.pinned(str(path)) as pinned:
        assert not pinned


def test_only_the_default_directory_is_made_private(open_home: Path) -> None:
    with Program(open_home / "home") as program:
        environment = {
            key: value for key, value in program.environment.items() if key != "IMGCAT_DB"
        }
        (open_home / "a.img").write_bytes(solid(b"A", 8))
        program.run("add", open_home / "a.img", env=environment)
        default = program.home / ".local" / "share" / "imgcat"
        assert stat.S_IMODE(default.stat().st_mode) == 0o700
        assert stat.S_IMODE(default.parent.stat().st_mode) == 0o755
        other = program.home / "elsewhere"
        program.run("--db", other / "catalog.db", "add", open_home / "a.img")
        assert stat.S_IMODE(other.stat().st_mode) == 0o755
        default.chmod(0o755)
        program.run("ls", env=environment)
        assert stat.S_IMODE(default.stat().st_mode) == 0o755


def test_the_lock_that_root_makes_belongs_to_the_owner_of_the_catalog(open_home: Path) -> None:
    path = open_home / "catalog.db"
    Catalog.open(str(path), create=True).close()
    os.chown(path, NOBODY, NOBODY)
    with pins.pinned(str(path)) as pinned:
        assert pinned
    assert (open_home / "catalog.db.lock").stat().st_uid == NOBODY
