"""A catalog that somebody else could have written is not served by root, nor to others."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest
from support.attack_images import BLOCK, solid
from support.program import Program, wait_until
from support.shortcuts import catalogue
from support.strangers import NOBODY, open_directory, put_acl, read_as

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.fuse

GUEST = b"A" * (8 * BLOCK)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach."""
    with open_directory() as directory:
        yield directory


@pytest.fixture
def program(place: Path) -> Iterator[Program]:
    """The program, with one image in a catalog that is in a directory of its own."""
    with Program(place / "home") as found:
        (place / "a.img").write_bytes(solid(b"A", 8))
        catalogue(found, place / "a.img")
        (place / "kept").mkdir()
        shutil.move(found.catalog, place / "kept" / "catalog.db")
        found.catalog = place / "kept" / "catalog.db"
        found.environment["IMGCAT_DB"] = str(found.catalog)
        yield found


def refused(program: Program, mount: Path, *options: object) -> str:
    mount.mkdir(exist_ok=True)
    return program.run("mount-all", mount, *options, code=8).stderr


def test_a_catalog_of_somebody_else(program: Program, place: Path) -> None:
    os.chown(program.catalog, NOBODY, NOBODY)
    said = refused(program, place / "mount")
    assert said == (
        f"imgcat: {program.catalog}: belongs to nobody (uid {NOBODY}), who could have it name any "
        "file: take it over with chown, use another catalog with --db, or, if you trust whoever "
        "could have written it, use --trust-catalog\n"
    )
    assert refused(program, place / "mount", "--allow-other=off") == said
    mount = program.mount_all(place / "mount", "--trust-catalog")
    assert (mount / "a").read_bytes() == GUEST


def test_who_called_sudo_is_trusted(program: Program, place: Path) -> None:
    os.chown(program.catalog, NOBODY, NOBODY)
    program.environment["SUDO_UID"] = str(NOBODY - 1)
    assert "--trust-catalog" in refused(program, place / "mount")
    program.environment["SUDO_UID"] = str(NOBODY)
    mount = program.mount_all(place / "mount")
    assert (mount / "a").read_bytes() == GUEST


def test_a_catalog_that_everybody_may_write(program: Program, place: Path) -> None:
    program.catalog.chmod(0o666)
    said = refused(program, place / "mount")
    assert said.startswith(f"imgcat: {program.catalog}: can be written by everybody")
    assert program.catalog.stat().st_mode & 0o777 == 0o666
    assert "--trust-catalog" in refused(program, place / "mount")


def test_a_catalog_that_a_group_may_write(program: Program, place: Path) -> None:
    program.catalog.chmod(0o660)
    os.chown(program.catalog, 0, NOBODY)
    said = refused(program, place / "mount")
    assert f"{program.catalog}: can be written by the group {NOBODY}" in said
    # The group of who called sudo is that user's own.
    program.environment["SUDO_GID"] = str(NOBODY)
    mount = program.mount_all(place / "mount")
    assert (mount / "a").read_bytes() == GUEST


@pytest.mark.parametrize("what", ["open", "of somebody else", "sticky", "further up", "wal"])
def test_directories_and_what_lies_beside_it(program: Program, place: Path, what: str) -> None:
    directory = program.catalog.parent
    culprit = directory
    if what == "of somebody else":
        os.chown(directory, NOBODY, NOBODY)
    elif what == "wal":
        culprit = directory / "catalog.db-wal"
        culprit.touch()
        os.chown(culprit, NOBODY, NOBODY)
    elif what == "further up":
        culprit = place
        place.chmod(0o777)
    else:
        directory.chmod(0o777 if what == "open" else 0o1777)
    if what == "sticky":
        mount = program.mount_all(place / "mount")
        assert (mount / "a").read_bytes() == GUEST
    else:
        assert f"{program.catalog}: {culprit} " in refused(program, place / "mount")


def test_a_link_that_somebody_else_may_turn(program: Program, place: Path) -> None:
    theirs = place / "theirs"
    theirs.mkdir()
    (theirs / "catalog.db").symlink_to(program.catalog)
    os.chown(theirs, NOBODY, NOBODY)
    program.environment["IMGCAT_DB"] = str(theirs / "catalog.db")
    assert f"{theirs} belongs to nobody" in refused(program, place / "mount")


def test_a_row_that_names_a_secret_opens_it_to_nobody(program: Program, place: Path) -> None:
    """As somebody might write it who gets root to serve a catalog all the same."""
    secret = place / "secret"
    shutil.copy2(place / "a.img", secret)
    secret.chmod(0o600)
    status = secret.stat()
    with sqlite3.connect(program.catalog) as connection:
        connection.execute(
            "UPDATE volumes SET path = ?, mode = 292, inode = ?", (str(secret), status.st_ino)
        )
    connection.close()
    os.chown(program.catalog, NOBODY, NOBODY)
    mount = program.mount_all(place / "mount", "--trust-catalog", "--allow-other=on")
    assert (mount / "a").read_bytes() == GUEST
    assert read_as(mount / "a") is None


def test_an_acl_that_lets_somebody_write(program: Program, place: Path) -> None:
    program.catalog.chmod(0o660)
    put_acl(program.catalog, NOBODY, 0o6)
    assert "whom its ACL names" in refused(program, place / "mount")
    os.removexattr(program.catalog, "system.posix_acl_access")
    program.catalog.chmod(0o600)
    mount = program.mount_all(place / "mount")
    assert (mount / "a").read_bytes() == GUEST


def test_a_directory_that_a_group_may_write(program: Program, place: Path) -> None:
    directory = program.catalog.parent
    os.chown(directory, 0, NOBODY)
    directory.chmod(0o2775)
    assert f"{program.catalog}: {directory} can be written by the group" in refused(
        program, place / "mount"
    )


def test_a_catalog_that_comes_later_is_trusted_no_more(program: Program, place: Path) -> None:
    mount = program.mount_all(place / "mount", "--allow-other=on")
    evil = place / "evil.db"
    shutil.copyfile(program.catalog, evil)
    with contextlib.closing(sqlite3.connect(evil)) as connection, connection:
        connection.execute("UPDATE identity SET key = 17")
        connection.execute("UPDATE images SET name = 'evil'")
    os.chown(evil, NOBODY, NOBODY)
    evil.replace(program.catalog)
    time.sleep(2)
    assert [path.name for path in mount.iterdir()] == ["a"]
    os.chown(program.catalog, 0, 0)
    wait_until(lambda: [path.name for path in mount.iterdir()] == ["evil"], "it is trusted", 20)


def test_a_lock_file_that_somebody_put_there_stays_as_it_is(program: Program, place: Path) -> None:
    secret = place / "secret"
    secret.write_bytes(b"top secret")
    secret.chmod(0o600)
    theirs = place / "theirs"
    theirs.mkdir()
    catalog = theirs / "c.db"
    shutil.copyfile(program.catalog, catalog)
    lock = theirs / "c.db.lock"
    lock.hardlink_to(secret)
    wal = theirs / "c.db-shm"
    for path in (theirs, catalog):
        os.chown(path, NOBODY, NOBODY)
    for command in (["read", "a", "--offset", "0", "--length", "1"], ["verify", "a"]):
        program.run("--db", catalog, *command)
    status = secret.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o600)
    assert wal.parent.stat().st_uid == NOBODY
