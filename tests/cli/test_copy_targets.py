"""cp: what it writes over, and what it does not."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.files_inside import loop_mounted
from support.program import wait_until_stopped
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An ext4 with files that are called as what must not be written over."""
    content = tmp_path / "content"
    (content / "shelf").mkdir(parents=True)
    for name in ("other.raw", "root.raw", "catalog.db", "catalog.db-journal", "device", "mine"):
        (content / "shelf" / name).write_text(f"from the image: {name}\n")
    os.mkfifo(content / "shelf" / "fifo")
    os.symlink("mine", content / "shelf" / "link")
    path = tmp_path / "shelf" / "root.raw"
    path.parent.mkdir()
    path.touch()
    os.truncate(path, 16 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, path)
    return path


def refused(program: Program, *command: object) -> str:
    return program.run(*command, code=5).stderr


@pytest.mark.parametrize("straight", [False, True])
def test_no_file_of_an_image_and_not_the_catalog_is_written_over(
    straight: bool, program: Program, raw: Path
) -> None:
    other = raw.with_name("other.raw")
    shutil.copy(raw, other)
    quiet("tune2fs", "-U", "random", other)
    before = other.read_bytes()
    program.run("add", other)
    if not straight:
        program.run("add", raw)
    image = str(raw) if straight else "root"
    # A whole directory goes to where the images and the catalog are.
    for name in ("other.raw", "root.raw"):
        said = refused(program, "cp", f"{image}:/shelf/{name}", raw.parent)
        assert f"{raw.parent / name}: is a file of the image {name[:-4]}" in said
    for name in ("catalog.db", "catalog.db-journal"):
        said = refused(program, "cp", f"{image}:/shelf/{name}", program.home)
        assert f"{program.home / name}: belongs to the catalog {program.catalog}" in said
    said = refused(program, "cp", "-r", f"{image}:/shelf", raw.parent.parent)
    assert "is a file of the image other" in said
    assert "is a file of the image root" in said
    assert (raw.parent / "mine").read_text() == "from the image: mine\n"
    assert other.read_bytes() == before
    assert not (program.home / "catalog.db-journal").exists()
    assert {row["name"] for row in program.json("ls")} >= {"other"}
    said = refused(program, "shell", "-c", f"cp /shelf/other.raw {other}", image)
    assert "is a file of the image other" in said
    # A link to it is what leads there, and another name of it is it.
    hard = raw.with_name("hard")
    hard.hardlink_to(other)
    assert "the image other" in refused(program, "cp", f"{image}:/shelf/mine", hard)
    assert other.read_bytes() == before


def test_a_device_a_fifo_and_a_socket_are_not_replaced(program: Program, raw: Path) -> None:
    program.run("add", raw)
    place = raw.parent.parent / "scratch"
    place.mkdir()
    os.mkfifo(place / "fifo")
    os.mknod(place / "device", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    os.symlink("fifo", place / "link")
    for name in ("fifo", "device", "link"):
        said = program.run("cp", "root:/shelf/mine", place / name, code=2).stderr
        assert "which is not replaced" in said
        assert "imgcat cat" in said
    said = refused(program, "cp", "root:/shelf/device", place)
    assert f"{place / 'device'}: is a device, which is not replaced" in said
    assert stat.S_ISBLK((place / "device").stat().st_mode)
    assert stat.S_ISFIFO((place / "fifo").stat().st_mode)
    for target in ("-", "/dev/stdout", "/dev/fd/1"):
        said = program.run("cp", "root:/shelf/mine", target, code=2, cwd=place).stderr
        assert "imgcat cat" in said
    assert sorted(os.listdir(place)) == ["device", "fifo", "link"]


def test_what_holds_nothing_is_not_written_out(program: Program, raw: Path) -> None:
    said = program.run("cat", f"{raw}:/shelf/fifo", code=4).stderr
    assert "it is a fifo, which holds nothing" in said
    assert "it is a fifo" in program.run("shell", "-c", "cat /shelf/fifo", raw, code=4).stderr


def test_what_is_the_same_is_left_alone(program: Program, raw: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    program.run("cp", "-r", f"{raw}:/shelf", into)
    before = {path.name: path.lstat().st_ino for path in (into / "shelf").iterdir()}
    again = program.json("cp", "-r", f"{raw}:/shelf", into)
    assert again["sources"][0]["unchanged"] == 8
    assert {path.name: path.lstat().st_ino for path in (into / "shelf").iterdir()} == before
    (into / "shelf" / "link").unlink()
    os.symlink("other", into / "shelf" / "link")
    program.run("cp", "-r", f"{raw}:/shelf", into)
    assert os.readlink(into / "shelf" / "link") == "mine"


def test_what_a_killed_copy_has_left_is_removed_by_the_next(
    program: Program, raw: Path, tmp_path: Path
) -> None:
    """A copy that lives keeps what is its own."""
    large = tmp_path / "large"
    large.mkdir()
    with (large / "file").open("wb") as opened:
        for _ in range(40):
            opened.write(os.urandom(MIB))
    source = tmp_path / "source.raw"
    source.touch()
    os.truncate(source, 64 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-d", large, source)
    into = tmp_path / "into"
    into.mkdir()
    # Where there is no /proc to name it by, a file has a name from the beginning. It stops itself
    # before it gives it the name that is wanted.
    hidden = """
import os, signal, sys
there, rename = os.path.isdir, os.rename
def stopping(*names, **where):
    os.kill(os.getpid(), signal.SIGSTOP)
    rename(*names, **where)
os.path.isdir = lambda path: path != "/proc/self/fd" and there(path)
os.rename = stopping
from imgcat.cli.main import run
sys.exit(run())
"""
    process = program.start(
        "cp", f"{source}:/file", into, program=["-c", hidden], stdin=subprocess.DEVNULL
    )
    wait_until_stopped(process)
    (half,) = os.listdir(into)
    assert half.startswith(".imgcat-")
    program.run("cp", f"{raw}:/shelf/mine", into)
    assert sorted(os.listdir(into)) == [half, "mine"]
    process.kill()
    process.communicate()
    (into / ".imgcat-mine").write_text("somebody's own")
    program.run("cp", f"{raw}:/shelf/link", into)
    assert sorted(os.listdir(into)) == [".imgcat-mine", "link", "mine"]


@pytest.mark.loop
def test_a_full_target_is_named_and_what_is_there_is_counted(
    program: Program, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    content.mkdir()
    for number in range(4):
        (content / f"file {number}").write_bytes(os.urandom(3 * MIB))
    source, target = tmp_path / "source.raw", tmp_path / "target.raw"
    for path, size, more in ((source, 24, ("-d", content)), (target, 8, ())):
        path.touch()
        os.truncate(path, size * MIB)
        quiet("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", *more, path)
    with loop_mounted(target, tmp_path / "into") as into:
        said = program.run("cp", "-r", f"{source}:/", into / "all", code=5).stderr
        strerror = os.strerror(errno.ENOSPC)
        assert f"{into / 'all' / 'file 2'}: {strerror}: nothing more is copied; 2 files" in said
        assert sorted(os.listdir(into / "all")) == ["file 0", "file 1"]


def test_what_cannot_be_written_is_named_where_it_is(program: Program, raw: Path) -> None:
    into = raw.parent.parent / "into"
    (into / "shelf" / "mine").mkdir(parents=True)
    said = refused(program, "cp", "-r", f"{raw}:/shelf", into)
    assert f"/shelf/mine: {into / 'shelf' / 'mine'}: Is a directory" in said
