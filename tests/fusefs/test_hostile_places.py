"""Somebody else holds the lock of a catalog, or turns a mount point at the bad moment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.database import pins
from imgcat.catalog.errors import CatalogBusyError
from support.attack_images import BLOCK, solid
from support.confined import end_by_force, mounts_at
from support.program import is_mounted, wait_until
from support.shortcuts import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.program import Program

pytestmark = pytest.mark.fuse

GUEST = b"A" * (8 * BLOCK)

_TURN = """
import os, sys
from imgcat.cli.main import run
from imgcat.fusefs import mounts

moment, mount, turned, other = sys.argv[1:]
real = getattr(mounts, moment)

def turn(*arguments):
    result = real(*arguments)
    if not os.path.islink(turned):
        os.rename(turned, turned + ".away")
        os.symlink(other, turned)
    return result

setattr(mounts, moment, turn)
sys.argv = ["imgcat", "mount-all", "-f", mount]
sys.exit(run())
"""
"""Runs the program, with somebody who turns a directory into a link right after a step of it."""


@pytest.fixture
def program(program: Program, tmp_path: Path) -> Program:
    """The program with one image in its catalog."""
    (tmp_path / "a.img").write_bytes(solid(b"A", 8))
    catalogue(program, tmp_path / "a.img")
    return program


@pytest.fixture
def locked(program: Program) -> Iterator[int]:
    """The lock file of the catalog, which somebody else has locked."""
    fd = os.open(f"{program.catalog}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


@pytest.mark.usefixtures("locked")
def test_a_lock_that_is_never_given_back_is_told_and_given_up(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "mount").mkdir()
    lock = f"{program.catalog}.lock"
    said = program.run("mount-all", tmp_path / "mount", code=7, timeout=60).stderr
    assert said == (
        f"imgcat: waiting for another process, which has locked {lock}\n"
        f"imgcat: {lock}: another process has kept it locked for 10 seconds: `fuser -v {lock}` "
        "names it\n"
    )
    assert not is_mounted(tmp_path / "mount")


def test_a_lock_that_is_given_back_lets_one_mount(
    program: Program, locked: int, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    program._mounts.append(mount)
    mounting = program.start("mount-all", mount)
    assert mounting.stderr is not None
    assert b"waiting for another process" in mounting.stderr.readline()
    fcntl.flock(locked, fcntl.LOCK_UN)
    assert mounting.wait(60) == 0
    assert (mount / "a").read_bytes() == GUEST


def test_a_lock_waits_no_longer_than_one_says(program: Program, locked: int) -> None:
    assert locked
    told: list[str] = []
    with (
        pytest.raises(CatalogBusyError, match="kept it locked for 0 seconds"),
        pins.pinned(str(program.catalog), told.append, busy_seconds=0),
    ):
        pytest.fail("locked")
    assert told == []


@pytest.mark.parametrize("moment", ["real_path", "prepare_mount_point", "check_fuse_device"])
@pytest.mark.parametrize("above", [False, True], ids=["itself", "above it"])
def test_a_mount_point_that_is_turned_into_a_link(
    program: Program, tmp_path: Path, moment: str, above: bool
) -> None:
    turned = tmp_path / "place"
    mount = turned / "mount" if above else turned
    mount.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    other = elsewhere / "mount" if above else elsewhere
    other.mkdir(parents=True)
    (other / "precious").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", _TURN, moment, mount, turned, elsewhere],
        env=program.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    away = tmp_path / "place.away" / mount.relative_to(turned)
    try:
        wait_until(
            lambda: process.poll() is not None or mounts_at(other) > 0, "it ends, or mounts", 60
        )
        assert mounts_at(other) == 0, "it has covered what it has not looked at"
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 8, said
        # Where the link is there before the path is looked up, it is what one was asked for.
        reasons = (f"imgcat: {mount}: ", f"imgcat: {other}: is not empty")
        assert said.splitlines()[-1].startswith(reasons), said
        assert mounts_at(away) == 0
        assert os.listdir(other) == ["precious"]
    finally:
        for each in (other, away):
            end_by_force(each)
        process.kill()
        process.communicate()
