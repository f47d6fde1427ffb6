"""What every command has in common: where options stand, how one asks, and what is repeated."""

from __future__ import annotations

import os
import pty
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imgcat.cli.arranging import arranged
from imgcat.cli.main import _COMMANDS
from support.partclone_writer import Recipe, write
from support.program import is_mounted

if TYPE_CHECKING:
    from support.program import Program

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def shelf(program: Program, tmp_path: Path) -> Path:
    place = tmp_path / "shelf"
    place.mkdir()
    rng = random.Random(9)
    for name in ("one", "two", "three"):
        present = [rng.random() < 0.5 for _ in range(200)]
        (place / f"{name}.img").write_bytes(write(Recipe(present=present)).image)
    program.run("add", "-r", place)
    return place


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ls -q", "-q ls"), ("ls --db x -v", "--db x -v ls"), ("--json ls a", "ls --json a"),
        ("-q ls --db=x", "-q --db=x ls"), ("help ls", "ls --help"), ("help", "--help"),
        ("help db check", "db check --help"), ("-V", "--version"),
        ("shell a -c -q", "shell a -c -q"), ("add a --name -q", "add a --name -q"),
        ("serve -- -v", "serve -- -v"), ("--json db check", "db check --json"),
        ("nonsense -q", "nonsense -q"), ("completion bash", "completion bash"),
        ("read a --offset 1", "read a --offset 1"),
    ],
)  # fmt: skip
def test_options_stand_where_one_likes(written: str, read: str) -> None:
    assert arranged(written.split(), _COMMANDS) == read.split()


def test_options_behind_the_command(program: Program, shelf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    assert program.run("add", shelf / "one.img", "-q", "--db", other).stdout == ""
    assert len(program.json("ls", f"--db={other}")) == 1
    assert program.run("--json", "ls").stdout == program.run("ls", "--json").stdout
    assert program.run("-V").stdout == program.run("--version").stdout
    assert program.run("help", "ls").stdout == program.run("ls", "--help").stdout


def test_rm_of_what_is_missing(program: Program, shelf: Path) -> None:
    said = program.run("rm", "--missing")
    assert (said.stdout, said.stderr) == ("", "imgcat: nothing to forget\n")
    (shelf / "one.img").unlink()
    (shelf / "two.img").unlink()
    assert program.json("rm", "--missing", "--dry-run", "one", "three") == [
        {"id": 1, "name": "one", "outcome": "would go"}
    ]
    assert program.run("rm", "--missing", "--dry-run").stdout == ("would go  one\nwould go  two\n")
    assert len(program.json("ls")) == 3
    assert {each["name"] for each in program.json("rm", "--missing")} == {"one", "two"}
    assert [each["name"] for each in program.json("ls")] == ["three"]
    assert program.run("rm", code=2).stderr.count("--missing")


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("", 3), ("y", 1)])
def test_it_asks_before_several_are_forgotten(
    program: Program, shelf: Path, answer: str, left: int
) -> None:
    assert shelf.is_dir()
    assert b"Forget 2 images (one, two)? [y/N] " in at_terminal(program, answer, "rm", "one", "two")
    assert len(program.json("ls")) == left


def test_it_does_not_ask_for_one_or_where_it_was_told(program: Program, shelf: Path) -> None:
    assert shelf.is_dir()
    assert b"?" not in at_terminal(program, "", "rm", "one")
    assert b"?" not in at_terminal(program, "", "rm", "--yes", "two", "three")
    assert program.json("ls") == []


def at_terminal(program: Program, answer: str, *arguments: str) -> bytes:
    """Run the program at a terminal, type an answer, and return what it wrote."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "imgcat", *arguments], stdin=follower, stdout=follower,
        stderr=follower, env=program.environment,
    ) as process:  # fmt: skip
        os.close(follower)
        os.write(leader, answer.encode() + b"\n")
        written = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            written += piece
        assert process.wait(60) == 0
    os.close(leader)
    return written


@pytest.mark.fuse
def test_mount_all_makes_its_directory_and_may_be_repeated(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    program._mounts.append(mount)
    assert program.run("mount-all", mount).stdout == f"3 images in {mount}\n"
    again = program.run("mount-all", mount)
    assert (again.stdout, again.stderr) == (
        "", f"imgcat: {mount}: is mounted already, with this catalog\n",
    )  # fmt: skip
    # Another catalog there is not the same.
    other = tmp_path / "other.db"
    program.run("add", "--db", other, shelf / "one.img")
    said = program.run("mount-all", "--db", other, mount, code=8).stderr
    assert "is an imgcat mount already" in said
    nowhere = tmp_path / "a" / "b"
    assert "there is no such directory" in program.run("mount-all", nowhere, code=8).stderr
    assert not nowhere.parent.exists()


@pytest.mark.fuse
def test_a_directory_that_was_made_in_vain_goes(program: Program, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    program.run("mount-all", "--db", tmp_path / "none.db", mount, code=3)
    assert not mount.exists()


@pytest.mark.fuse
def test_a_mount_says_what_is_missing(program: Program, shelf: Path, tmp_path: Path) -> None:
    (shelf / "one.img").unlink()
    mount = tmp_path / "mount"
    program._mounts.append(mount)
    assert program.run("mount-all", mount).stderr == (
        "imgcat: the files of 1 of 3 images are missing: `imgcat ls --status missing` lists them\n"
    )
    program.run("unmount", mount)
    for name in ("two", "three"):
        (shelf / f"{name}.img").unlink()
    assert "the files of all images are missing" in program.run("mount-all", mount).stderr


@pytest.mark.fuse
def test_a_walk_does_not_look_into_what_is_mounted(program: Program, shelf: Path) -> None:
    with (shelf / "volume.raw").open("wb") as file:
        file.truncate(2 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", shelf / "volume.raw"], check=True)
    program.run("add", "-r", shelf)
    mount = program.mount_all(shelf / "mount")
    assert "volume" in os.listdir(mount)
    before = program.json("ls")
    for top in (shelf, f"{shelf}/", os.path.relpath(shelf)):
        assert "new" not in program.run("add", "-r", top).stdout
    assert len(program.json("ls")) == len(before)


@pytest.mark.fuse
def test_several_are_unmounted_and_all(program: Program, shelf: Path, tmp_path: Path) -> None:
    assert shelf.is_dir()
    mounts = [program.mount_all(tmp_path / name) for name in ("a", "b", "c", "d")]
    program.run("umount", mounts[0])
    said = program.run("unmount", mounts[0], mounts[1], code=3).stderr
    assert str(mounts[0]) in said
    assert [is_mounted(each) for each in mounts] == [False, False, True, True]
    program.run("unmount", mounts[2], mounts[3])
    # `--all` would end what others have mounted, too: here it has a table of mounts of its own.
    imgcat = f"{sys.executable} -m imgcat"
    others = "".join(f"umount -l '{each['path']}' && " for each in program.json("mounts"))
    script = f"""{others} {imgcat} mount-all {mounts[0]} && {imgcat} mount-all {mounts[1]} &&
        test -e {mounts[1]}/one && {imgcat} unmount --all && {imgcat} mounts --json &&
        {imgcat} unmount --all"""
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], env=program.environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "imgcat: nothing is mounted\n")
    assert result.stdout.endswith("[]\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_in_a_locale_that_has_no_such_characters(
    program: Program, tmp_path: Path, encoding: str
) -> None:
    place = tmp_path / "ñandú"
    place.mkdir()
    for name in ("日本", "é"):
        (place / f"{name}.img").write_bytes(write(Recipe(present=[True, False] * 50)).image)
    program.environment |= {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding,
    }  # fmt: skip
    for arguments in (("add", "-r", place), ("ls",), ("show", "日本"), ("verify", "--all"),
                      ("rescan",), ("export", "é", tmp_path / "out")):  # fmt: skip
        said = subprocess.run(
            [sys.executable, "-m", "imgcat", *map(str, arguments)], env=program.environment,
            capture_output=True, check=False,
        )  # fmt: skip
        assert said.returncode == 0, (arguments, said.stderr)
        assert b"Traceback" not in said.stderr
        said.stdout.decode(encoding)
    assert [each["name"] for each in program.json("ls", "--sort", "name")] == ["é", "日本"]
    assert (tmp_path / "out").stat().st_size > 0
