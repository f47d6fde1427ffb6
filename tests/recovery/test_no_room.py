"""A temporary directory that is full is what is told to be full, not the catalog, nor nothing."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from support.files_inside import loop_mounted
from support.program import Program
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAIL = "n" * 220


def ext4(raw: Path, files: int) -> Path:
    """Make an ext4 of empty files with long names, without mounting it."""
    content = raw.with_suffix(".content")
    for number in range(files):
        above = content / f"d{number // 100}"
        above.mkdir(parents=True, exist_ok=True)
        (above / f"{number:05d}{TAIL}").touch()
    with raw.open("wb") as file:
        file.truncate(64 * MIB)
    quiet("mkfs.ext4", "-q", "-F", "-N", 2 * files + 100, "-d", content, raw)
    return raw


@contextlib.contextmanager
def small(program: Program, place: Path, size: str) -> Iterator[Path]:
    """Let temporary files be in a directory with little room."""
    place.mkdir()
    quiet("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    before = dict(program.environment)
    program.environment |= {"TMPDIR": str(place), "SQLITE_TMPDIR": str(place)}
    try:
        yield place
        assert os.listdir(place) == []
    finally:
        program.environment = before
        quiet("umount", place)


def test_names_for_which_there_is_no_room(tmp_path: Path) -> None:
    # SQLite looks for its directory once, when a process begins.
    program = Program(tmp_path / "home", fresh=True)
    raw = ext4(tmp_path / "disk.raw", 12_000)
    program.run("snapshot", raw, "--name", "s")
    said = "No space left on device for what is laid aside: TMPDIR names another directory"
    with small(program, tmp_path / "small", "200k") as full:
        for arguments in (
            ("snapshot", raw, "--hash", "--name", "t"), ("recover", "--deleted", "s"),
        ):  # fmt: skip
            told = program.run(*arguments, code=5)
            assert told.stderr.endswith(f"imgcat: {full}: {said}\n"), told.stderr
            assert str(program.catalog) not in told.stderr
        # SQLite may have another one.
        program.environment |= {"TMPDIR": str(tmp_path)}
        told = program.run("recover", "--deleted", "s", code=5)
        assert told.stderr == f"imgcat: {full}: {said}\n"
    assert [each["name"] for each in program.json("snapshot")] == ["s"]


@pytest.mark.fuse
@pytest.mark.loop
def test_hashes_of_a_mounted_file_for_which_there_is_no_room(
    program: Program, tmp_path: Path
) -> None:
    """The file is not lost for that: there is no snapshot."""
    raw = ext4(tmp_path / "disk.raw", 1)
    with loop_mounted(raw, tmp_path / "mount") as top:
        # Two pages of hashes.
        (top / "large").write_bytes(b"x" * (20 * MIB))
        with small(program, tmp_path / "small", "4k") as full:
            told = program.run("snapshot", raw, "--hash", code=5)
    assert told.stderr.startswith(f"imgcat: {full}: No space left on device for what is laid aside")
    assert "large" not in told.stderr
    assert program.json("snapshot") == []
