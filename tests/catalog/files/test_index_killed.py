"""Killing `imgcat index` at any moment, and several at once: whole generations or none."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from support.program import Program, wait_until
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

FILES = 6000


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A home with four backups of one file system in its catalog, and what is in each."""
    place = tmp_path_factory.mktemp("shelf")
    content = place / "content"
    for number in range(FILES):
        path = content / f"d{number % 90}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    images = []
    for number in range(4):
        for each in range(number * 200, number * 200 + 400):
            (content / f"d{each % 90}" / f"file {each}").write_text(f"{number}\n")
        image = place / f"b{number}.img"
        image.touch()
        os.truncate(image, 40 * MIB)
        quiet(
            "mke2fs", "-q", "-F", "-t", "ext4", "-N", "20000", "-d", content,
            "-U", "49bf333b-ee05-4add-b55b-68ed7bd9f5ab", image,
        )  # fmt: skip
        images.append(image)
    with Program(place / "home") as program:
        program.run("add", *images)
        program.run("index", "b0")
    return place, {f"b{number}" for number in range(4)}


@pytest.fixture
def program(shelf: tuple[Path, set[str]], tmp_path: Path) -> Program:
    shutil.copytree(shelf[0] / "home", tmp_path / "home")
    return Program(tmp_path / "home")


def _indexed(program: Program) -> dict[str, int]:
    """Return how many files each backup that is indexed has: by its row, and one by one."""
    with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = dict(connection.execute("SELECT backup, count(*) FROM files GROUP BY 1"))
        told = dict(
            connection.execute(
                "SELECT name, file_count FROM file_generations JOIN images ON images.id = image_id"
            )
        )
    assert counts == told
    return counts


def _workers(pid: int) -> list[str]:
    found = subprocess.run(
        ["pgrep", "-f", "-P", str(pid), "imgcat.filesystems"], capture_output=True, check=False
    )
    return found.stdout.decode().split()


def _wait_until_it_reads(process: subprocess.Popen[bytes]) -> None:
    """Wait until files are read, or the command is through with that."""
    wait_until(
        lambda: process.poll() is not None or _workers(process.pid) != [], "it reads files", 60
    )


@pytest.mark.parametrize("moments", [6, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_at_any_moment(program: Program, tmp_path: Path, moments: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = set()
    began = time.monotonic()
    program.run("index", "--all", "--force")
    whole = time.monotonic() - began
    everything = _indexed(program)
    assert len(set(everything.values())) == 1
    with program:
        for _ in range(moments):
            words = ["index", "--all", "--force"]
            process = program.start(*words, env={**program.environment, "TMPDIR": str(scratch)})
            time.sleep(generator.uniform(0.1, 1.1) * whole)
            workers = _workers(process.pid)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            found = _indexed(program)
            seen.add(len(found))
            assert found.items() <= everything.items()
            assert program.run("db", "check").stdout == "ok\n"
            assert os.listdir(scratch) == []
            for worker in workers:
                wait_until(lambda pid=worker: not _runs(pid), "the reader has ended", 30)
        program.run("index", "--all")
        assert _indexed(program) == everything
        names = program.run("sql", "SELECT count(*) AS n FROM file_names", "--csv").stdout
        assert int(names.split()[1]) == FILES + 90 + 1


def _runs(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as opened:
            return opened.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_several_at_once_beside_a_mount(
    program: Program, shelf: tuple[Path, set[str]], tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    with program:
        program.mount_all(mount)
        running = [program.start("index", "--all") for _ in range(3)]
        told = [process.communicate(timeout=120) for process in running]
        assert [process.returncode for process in running] == [0, 0, 0], told
        assert all(not errors for _out, errors in told), told
        lines = [line for out, _errors in told for line in out.decode().splitlines()]
        done = sorted(line.split()[1].rstrip(":") for line in lines if line.startswith("indexed"))
        # Each by one of them; b0 was before.
        assert done == ["b1", "b2", "b3"]
        assert _indexed(program).keys() == shelf[1]
        assert program.run("db", "check").stdout == "ok\n"
        assert (mount / "b1").stat().st_size == 40 * MIB
        program.run("unmount", mount)


def test_an_image_that_is_removed_meanwhile(program: Program) -> None:
    with program:
        process = program.start("index", "b1")
        _wait_until_it_reads(process)
        program.run("rm", "-y", "b1")
        _out, errors = process.communicate(timeout=60)
        assert process.returncode in {0, 3}, errors
        assert b"Traceback" not in errors
        assert "b1" not in _indexed(program)
        assert program.run("db", "check").stdout == "ok\n"


def test_an_interrupt_leaves_nothing(program: Program) -> None:
    with program:
        before = _indexed(program)
        process = program.start("index", "b1", "b2", "b3")
        _wait_until_it_reads(process)
        process.send_signal(signal.SIGINT)
        _out, errors = process.communicate(timeout=60)
        assert process.returncode in {0, 130}
        assert b"Traceback" not in errors
        assert before.items() <= _indexed(program).items()
        assert program.run("db", "check").stdout == "ok\n"
