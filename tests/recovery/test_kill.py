"""snapshot, killed at any moment: nothing of it is in the catalog, and no file is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from support.unmounting import wait_until_free
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

TABLES = (
    "snapshots", "snapshot_names", "snapshot_files", "file_generations", "file_lineages",
    "file_versions", "file_names", "file_directories",
)  # fmt: skip


def make(place: Path) -> Path:
    """Make an ext4 with a thousand files, without mounting it."""
    content = place / "content"
    for number in range(1000):
        path = content / f"d{number // 50}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d " % number * 3000)
    raw = place / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(64 * MIB)
    quiet("mkfs.ext4", "-q", "-F", "-d", content, raw)
    return raw


def counts(program: Program) -> dict[str, int]:
    return {table: program.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in TABLES}


def kill_often(program: Program, place: Path, times: int) -> None:
    raw = make(place)
    scratch = place / "scratch"
    scratch.mkdir()
    program.environment |= {"TMPDIR": str(scratch), "SQLITE_TMPDIR": str(scratch)}
    program.run("snapshot", raw, "--name", "first", "--hash")
    before = counts(program)
    # The first one makes the catalog, and takes longer.
    begun = time.monotonic()
    program.run("snapshot", raw, "--name", "timed", "--hash")
    seconds = time.monotonic() - begun
    program.run("snapshot", "--forget", "timed")
    assert counts(program) == before
    whole = dict(before)
    moments = random.Random(7)
    killed = done = 0
    for number in range(times):
        process = program.start(
            "snapshot", raw, "--name", f"s{number}", "--hash", stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moments.uniform(0.1 * seconds, 1.1 * seconds))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        # Its worker ends with it.
        wait_until_free(raw)
        assert os.listdir(scratch) == []
        names = {each["name"] for each in program.json("snapshot")}
        if f"s{number}" in names:
            # It was all there, or it is not there at all.
            done += 1
            whole["snapshots"] += 1
            whole["file_generations"] += 1
            for table in ("snapshot_names", "snapshot_files"):
                whole[table] += before[table]
        assert counts(program) == whole
    assert killed
    program.run("db", "check")
    program.run("recover", "-r", "first", "--from", raw, "-o", place / "out")
    beside = {name for name in os.listdir(program.home) if name.startswith("catalog.db")}
    assert beside <= {"catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.lock"}
    print(f"killed {killed} times, done {done} times")


def test_a_snapshot_that_is_killed_leaves_nothing(program: Program, tmp_path: Path) -> None:
    kill_often(program, tmp_path, 6)


@pytest.mark.soak
def test_a_snapshot_that_is_killed_often(program: Program, tmp_path: Path) -> None:
    kill_often(program, tmp_path, 100)
