"""What becomes of readers of file systems is in the catalog."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.catalog.database import failures
from imgcat.catalog.store import Catalog
from imgcat.catalog.upkeep.damage import (
    DamageRecorder,
    record_worker_failures,
    worker_failures,
)
from imgcat.filesystems.errors import WorkerError
from imgcat.filesystems.process import WorkerFailure
from support.confined import MODES_HOLD, run_confined
from support.files_inside import asked_within, volume_in
from support.program import COMMAND
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from imgcat.catalog.records import OpenSpec
    from imgcat.filesystems.volume import Volume
    from support.program import Program

SIZE = 3 * MIB


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    content = tmp_path / "content"
    content.mkdir()
    for name in ("a", "b", "c"):
        (content / name).write_bytes(name.encode() * SIZE)
    path = tmp_path / "volume.raw"
    path.touch()
    os.truncate(path, 32 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, path)
    return path


def worker_of(parent: int) -> int:
    """Return the process that reads for another one."""
    children = []
    for path in Path("/proc").glob("[0-9]*/status"):
        # Any other process may have ended since it was listed.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if f"\nPPid:\t{parent}\n" in path.read_text():
                children.append(int(path.parent.name))
    (child,) = children
    return child


def with_its_worker_killed(program: Program, image: object) -> subprocess.Popen[bytes]:
    """Have an archive written, whose reader is killed in its midst; return the process, ended."""
    process = program.start("tar", f"{image}:/")
    assert process.stdout is not None
    # It waits for this pipe in the midst of the first file, and its worker for it.
    process.stdout.read(1)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode == 5
    assert "signal 9" in errors
    return process


def test_a_worker_that_is_killed_leaves_a_row(program: Program, raw: Path) -> None:
    program.run("add", raw)
    assert program.json("show", "volume")["worker_failures"] == []
    assert "Files inside" not in program.run("show", "volume").stdout
    with_its_worker_killed(program, "volume")
    (row,) = program.json("show", "volume")["worker_failures"]
    assert row["fs_type"] == "ext4"
    assert row["question"].startswith("attributes ")
    assert row["ending"] == "it died when asked for 'attributes': signal 9"
    assert row["failed_at"].startswith("20")
    shown = program.run("show", "volume").stdout
    assert f"failed 1 time, last {row['failed_at']}: it died when asked for" in shown
    with_its_worker_killed(program, "volume")
    assert "reader of ext4" in program.run("show", "volume").stdout
    assert "failed 2 times, last" in program.run("show", "volume").stdout
    # Another look at the image forgets them, and so does forgetting the image.
    program.run("rescan", "volume")
    assert program.json("show", "volume")["worker_failures"] == []
    with_its_worker_killed(program, "volume")
    program.run("rm", "volume")
    assert program.run("sql", "SELECT count(*) FROM worker_failures").stdout.split()[-1] == "0"


def test_one_of_a_file_in_no_catalog_is_told_all_the_same(program: Program, raw: Path) -> None:
    with_its_worker_killed(program, raw)
    assert not program.catalog.exists()


def test_a_catalog_that_cannot_be_written(program: Program, raw: Path) -> None:
    program.run("add", raw)
    before = program.catalog.read_bytes()
    for each in program.home.glob("catalog.db-*"):
        each.unlink()
    program.catalog.chmod(0o400)
    program.home.chmod(0o555)
    try:
        process = subprocess.Popen(
            [*MODES_HOLD, *COMMAND, "tar", "volume:/"],
            env=program.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.read(1)
        os.kill(worker_of(process.pid), signal.SIGKILL)
        errors = process.communicate()[1].decode()
        assert process.returncode == 5
        assert "signal 9" in errors
        assert "volume: not recorded that the reader of ext4" in errors
        listed = run_confined(program, MODES_HOLD, "files", "volume:/").stdout.split()
    finally:
        program.home.chmod(0o755)
    assert listed == ["a", "b", "c", "lost+found/"]
    assert program.catalog.read_bytes() == before


def catalogued(program: Program, raw: Path) -> OpenSpec:
    program.run("add", raw)
    with Catalog.open(str(program.catalog)) as catalog:
        return catalog.open_spec(catalog.resolve("volume"))


def rows_of(program: Program, spec: OpenSpec) -> list[Any]:
    with Catalog.open(str(program.catalog)) as catalog:
        return worker_failures(catalog, spec.image_id)


def test_a_worker_that_hangs_leaves_a_row(program: Program, raw: Path) -> None:
    spec = catalogued(program, raw)
    met: list[WorkerFailure] = []
    with volume_in(raw, on_failure=met.append) as volume:
        volume.entries()
        os.kill(_process_of(volume), signal.SIGSTOP)
        with asked_within(volume, 0.3), pytest.raises(WorkerError):
            volume.find(0, b"b")
    record_worker_failures(str(program.catalog), spec, met)
    (row,) = rows_of(program, spec)
    assert row.question == "find 0 b"
    assert row.ending == "no answer to 'find' within 0.3 s: it was ended"


def _process_of(volume: Volume) -> int:
    running = volume._worker._running
    assert running is not None
    return running.process.pid


def failure(number: int) -> WorkerFailure:
    return WorkerFailure(1_000_000_000 + number, "ext4", f"list {number}", "it died")


def test_the_newest_are_kept_of_the_image_as_it_is(program: Program, raw: Path) -> None:
    spec = catalogued(program, raw)
    path = str(program.catalog)
    record_worker_failures(path, spec, [failure(number) for number in range(15)])
    record_worker_failures(path, spec, [failure(number) for number in range(15, 30)])
    rows = rows_of(program, spec)
    assert [row.question for row in rows] == [f"list {number}" for number in range(29, 9, -1)]
    assert len(rows) == failures.MOST_KEPT
    assert rows[0].failed_at == "2001-09-09T01:47:09Z"
    assert "failed 20 times at the least" in program.run("show", "volume").stdout
    # The image is another by now: what was met of the old one is not of it.
    with raw.open("r+b") as opened:
        opened.seek(1024 + 120)
        opened.write(b"another")
    program.run("rescan", "volume")
    record_worker_failures(path, spec, [failure(99)])
    assert rows_of(program, spec) == []


def test_a_thread_records_for_a_daemon(program: Program, raw: Path) -> None:
    spec = catalogued(program, raw)
    recorder = DamageRecorder(str(program.catalog))
    recorder.tell_of_worker(spec, failure(1))
    recorder.tell_of_worker(spec, failure(2))
    while len(rows_of(program, spec)) < 2:
        assert recorder._thread is not None
        assert recorder._thread.is_alive()


def test_a_catalog_that_another_writes_is_told_to_the_log(
    program: Program, raw: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = catalogued(program, raw)
    monkeypatch.setattr("imgcat.catalog.upkeep.damage._BUSY_SECONDS", 0.1)
    with Catalog.open(str(program.catalog)) as catalog, catalog.database.writing():
        record_worker_failures(str(program.catalog), spec, [failure(1)])
    assert "volume: not recorded that the reader of ext4, asked for 'list 1'" in caplog.text
    assert rows_of(program, spec) == []
