"""The shell among the files in an image."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    content = tmp_path / "content"
    (content / "home" / "anna").mkdir(parents=True)
    (content / "home" / "anna" / "note").write_bytes(b"a note\n")
    (content / "home" / "anna" / "large").write_bytes(os.urandom(300_000))
    os.symlink("anna/note", content / "home" / "link")
    with open(os.path.join(os.fsencode(content), b"odd\x1bname"), "wb") as opened:
        opened.write(b"odd")
    path = tmp_path / "root.raw"
    path.touch()
    os.truncate(path, 24 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-d", content, path)
    return path


def test_a_user_walks_about_and_copies(program: Program, raw: Path, tmp_path: Path) -> None:
    def shell(commands: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return program.run("shell", "-c", commands, raw, code=code)

    assert shell("ls").stdout.splitlines() == ["home/", "lost+found/", "odd\\x1bname"]
    assert shell("cd home/anna; cat note; cd ..; ls").stdout == "a note\nanna/\nlink\n"
    assert shell("cat home/link").stdout == "a note\n"
    assert shell("cat 'odd\\x1bname'").stdout == "odd"
    assert "-> anna/note" in shell("cd /home; ls -l link").stdout
    into = tmp_path / "into"
    into.mkdir()
    shell(f"cd home; cp -r anna {into}; cp anna/note link {into}")
    quiet("diff", "-r", tmp_path / "content" / "home" / "anna", into / "anna")
    assert (into / "note").read_bytes() == b"a note\n"
    assert os.readlink(into / "link") == "anna/note"
    assert "No such file" in shell("cat nothing", code=3).stderr
    assert "is no directory" in shell("cd home/anna/note", code=2).stderr
    assert "usage: cp [-r] PATH... DEST" in shell("cp home", code=2).stderr


def test_stat_tells_where_each_run_lies(program: Program, raw: Path, tmp_path: Path) -> None:
    """As debugfs has its blocks; and the bytes there are the file's."""
    told = program.run("shell", "-c", "stat /home/anna/large", raw).stdout.splitlines()
    rows = [tuple(map(int, line.split())) for line in told[told.index(_head(told)) + 1 :]]
    data = (tmp_path / "content" / "home" / "anna" / "large").read_bytes()
    image = raw.read_bytes()
    assert b"".join(image[place : place + stop - start] for start, stop, place in rows) == data
    blocks = quiet("debugfs", "-R", "blocks /home/anna/large", raw).split()
    first = [int(each) * 1024 for each in blocks]
    found = [place + at for start, stop, place in rows for at in range(0, stop - start, 1024)]
    assert found == first
    fields = dict(line.split(maxsplit=1) for line in told[:4])
    inode = quiet("debugfs", "-R", "stat /home/anna/large", raw).split()[1]
    assert fields == {
        "path": "/home/anna/large", "type": "file", "inode": inode, "size": "300000 bytes",
    }  # fmt: skip
    assert "target    anna/note" in program.run("shell", "-c", "stat home/link", raw).stdout


def _head(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("START"))


def test_a_disk_has_its_files_in_its_partitions(
    program: Program, raw: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, 32 * MIB)
    subprocess.run(["sfdisk", "-q", disk], input=b"start=2048, size=49152", check=True)
    with disk.open("r+b") as opened:
        opened.seek(2048 * 512)
        opened.write(raw.read_bytes())
    result = program.run("shell", "-c", "ls; use p1; ls", disk, code=4)
    assert "it has partitions, and files are in those: disk.p1" in result.stderr
    assert result.stdout.splitlines()[0] == "home/"
