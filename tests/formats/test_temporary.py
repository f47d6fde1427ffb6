"""The directory for temporary files, and files in it that nobody sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from imgcat.formats import temporary
from support.confined import MODES_HOLD

WATCHED = """
import os, sys
from imgcat.formats import temporary

def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(os.environ["TMPDIR"]):
        print(arguments[0])

sys.addaudithook(watch)
with temporary.unnamed_file() as file:
    file.write(b"some of it")
    file.seek(0)
    assert file.read() == b"some of it"
"""


def test_at_no_time_has_it_a_name(tmp_path: Path) -> None:
    """Who is killed at any moment leaves nothing: no file is made but one without a name."""
    said = subprocess.run(
        [sys.executable, "-c", WATCHED], env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # That of a file without a name is the directory's.
    assert set(said.stdout.splitlines()) == {str(tmp_path)}
    assert os.listdir(tmp_path) == []


def test_the_first_that_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    assert temporary.directory() == "/tmp"
    monkeypatch.setenv("TMP", str(tmp_path))
    assert temporary.directory() == str(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    assert temporary.directory() == str(tmp_path)
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "made")
    assert temporary.directory() == str(tmp_path / "made")


def test_one_that_may_not_be_written_is_passed_over(tmp_path: Path) -> None:
    tmp_path.joinpath("closed").mkdir(mode=0o500)
    code = "from imgcat.formats import temporary; print(temporary.directory())"
    environment = {**os.environ, "TMPDIR": str(tmp_path / "closed"), "TEMP": str(tmp_path)}
    said = subprocess.run(
        [*MODES_HOLD, sys.executable, "-c", code], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert Path(said.stdout.strip()) == tmp_path


def test_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "first_usable", lambda _candidates: None)
    with pytest.raises(FileNotFoundError, match="TMPDIR names one"):
        temporary.unnamed_file()
