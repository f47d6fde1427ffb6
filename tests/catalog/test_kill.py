"""Killing `imgcat add` at any moment, and several that write at once: whole images or none."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest
import zstandard
from imgcat.catalog.database.check import check
from imgcat.catalog.opening.open import open_watched
from imgcat.catalog.store import Catalog
from imgcat.formats.sources.pages import PAGE_SIZE
from support.attack_images import BLOCK, patchy
from support.program import wait_until
from support.shortcuts import catalogue, statuses

if TYPE_CHECKING:
    from pathlib import Path

    from support.partclone_writer import Written
    from support.program import Program

COUNT = 40


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Written]:
    """Forty images, each with other contents."""
    directory = tmp_path_factory.mktemp("shelf")
    images = {directory / f"i{number:02d}.img": patchy(number, 128) for number in range(COUNT)}
    for path, written in images.items():
        path.write_bytes(written.image)
    return images


def check_catalog(program: Program, shelf: dict[Path, Written]) -> int:
    """Check that the catalog is sound and each image in it can be read; return how many it has."""
    if not program.catalog.exists():
        return 0
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == (0,):
        # Killed before the first transaction ended: an empty database is what `add` begins with.
        return 0
    with Catalog.open(str(program.catalog), write=False) as catalog:
        assert check(catalog.database) == []
        listed = catalog.list_images()
        for row, volumes in listed:
            assert [volume.path for volume in volumes] == [row.path]
            (written,) = (each for path, each in shelf.items() if str(path) == row.path)
            reader = open_watched(catalog, row.id)
            data = bytearray(len(written.guest))
            reader.read_into(memoryview(data), 0)
            reader.close()
            assert data == written.guest
        return len(listed)


@pytest.mark.parametrize("moments", [5, pytest.param(40, marks=pytest.mark.soak)])
def test_killed_at_any_moment(program: Program, shelf: dict[Path, Written], moments: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    counts: list[int] = []
    # On a busy machine `add` may be done before it is killed: then there are more tries.
    for number in range(8 * moments):
        if number % 4 == 0:
            for each in program.home.glob("catalog.db*"):
                each.unlink()
        elif program.catalog.exists():
            # Half are forgotten, so that additions and updates are both cut short.
            with Catalog.open(str(program.catalog)) as catalog:
                catalog.remove([row.id for row, _volumes in catalog.list_images()][::2])
        process = program.start("add", "--force", *shelf)
        assert process.stdout is not None
        # Starting takes most of the time: the moments are counted in lines, and a little more.
        for _ in range(generator.randrange(COUNT)):
            process.stdout.readline()
        time.sleep(generator.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts.append(check_catalog(program, shelf))
        if len(counts) >= moments and len(set(counts)) >= 3:
            break
    assert len(set(counts)) >= 3, f"all were killed at the same point: {counts}"
    assert program.run("add", *shelf).stderr == ""
    assert check_catalog(program, shelf) == COUNT
    assert program.run("db", "check").stdout == "ok\n"


@pytest.mark.parametrize("after", [0, 1, 5, 20])
def test_killed_right_after_a_line_the_image_of_that_line_is_there(
    program: Program, shelf: dict[Path, Written], after: int
) -> None:
    process = program.start("add", "-j", "1", *shelf)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(after + 1)]
    process.send_signal(signal.SIGKILL)
    # Not `communicate`, which would lose what is buffered here already.
    said += process.stdout.read().splitlines()
    process.communicate()
    assert said[0].startswith(b"added     i00: ")
    # What a line says is committed; at most one more is, whose line was not written yet.
    assert len(said) <= check_catalog(program, shelf) <= len(said) + 1


def test_interrupted_it_says_nothing_wrong(program: Program, shelf: dict[Path, Written]) -> None:
    process = program.start("add", "-j", "1", *shelf)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert b"Traceback" not in said
    assert process.returncode in {0, 130}
    check_catalog(program, shelf)


def test_two_that_add_the_same_at_once(program: Program, shelf: dict[Path, Written]) -> None:
    # On a catalog that neither finds, so that both try to make it.
    for _round in range(3):
        adding = [program.start("add", *paths) for paths in (shelf, reversed(list(shelf)))]
        said = [process.communicate(timeout=120) for process in adding]
        assert [process.returncode for process in adding] == [0, 0], said
        assert [errors for _output, errors in said] == [b"", b""]
        assert check_catalog(program, shelf) == COUNT
        assert sum(output.count(b"added  ") for output, _errors in said) == COUNT
        assert set(statuses(program)) == {path.stem for path in shelf}
        for each in program.home.glob("catalog.db*"):
            each.unlink()


def test_one_adds_while_another_removes(program: Program, shelf: dict[Path, Written]) -> None:
    program.run("add", *shelf)
    adding = program.start("add", "--force", *shelf)
    removing = [program.start("rm", "i*") for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in (adding, *removing)]
    for process, errors in zip((adding, *removing), said, strict=True):
        # Who finds nothing to remove says so; nobody trips over what another has removed.
        assert b"Traceback" not in errors
        assert process.returncode == 0 or (process is not adding and process.returncode == 3), said
    check_catalog(program, shelf)
    program.run("add", *shelf)
    assert check_catalog(program, shelf) == COUNT


@pytest.mark.fuse
def test_an_add_and_its_death_while_a_daemon_runs(
    program: Program, shelf: dict[Path, Written], tmp_path: Path
) -> None:
    first, *others = shelf
    catalogue(program, first)
    mount = program.mount_all(tmp_path / "mount")
    with (mount / first.stem).open("rb", buffering=0) as opened:
        process = program.start("add", "-j", "1", *others)
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there = check_catalog(program, shelf)
        assert 4 <= there <= COUNT
        wait_until(lambda: len(os.listdir(mount)) == there, "what is there is shown", 30)
        program.run("add", *shelf)
        wait_until(lambda: len(os.listdir(mount)) == COUNT, "all are shown", 30)
        for path, written in shelf.items():
            assert (mount / path.stem).read_bytes() == written.guest
        assert opened.read() == shelf[first].guest
        assert os.pread(opened.fileno(), BLOCK, 0) == shelf[first].guest[:BLOCK]


def test_a_migration_cut_short_is_made_anew(program: Program, shelf: dict[Path, Written]) -> None:
    path = next(iter(shelf))
    for seconds in (0, 0.03, 0.08, 0.15):
        process = program.start("add", path)
        wait_until(program.catalog.exists, "the catalog is being made", 20)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        program.run("add", path)
        assert check_catalog(program, shelf) == 1
        for each in program.home.glob("catalog.db*"):
            each.unlink()


def test_interrupted_it_does_not_scan_to_the_end(program: Program, tmp_path: Path) -> None:
    """Half a terabyte of zeros in 16 MB: to its end, that would take minutes."""
    path = tmp_path / "endless.img.zst"
    head = patchy(1, 128).image[:PAGE_SIZE]
    zeros = (PAGE_SIZE << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    raw = (len(head) << 3).to_bytes(3, "little") + head
    # A frame with a window of 1 MiB: a raw block, then blocks of one byte that is repeated.
    path.write_bytes(zstandard.FRAME_HEADER + bytes([0, 10 << 3]) + raw + zeros * 4_200_000)
    process = program.start("add", path)
    files = f"/proc/{process.pid}/fd"

    def is_scanning() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return any(os.readlink(f"{files}/{each}") == str(path) for each in os.listdir(files))
        return False

    wait_until(is_scanning, "the image is open", 30)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert b"Traceback" not in said
    assert process.returncode == 130
    assert check_catalog(program, {}) == 0
