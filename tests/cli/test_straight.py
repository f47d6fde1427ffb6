"""Straight from a file, without a catalog: what is seen is what mkfs wrote, and nothing stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, write
from support.program import is_mounted, wait_until
from support.streams import compress

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

BLOCK = 4096


@pytest.fixture
def guest(tmp_path: Path) -> bytes:
    """A volume that mkfs has made, as a raw image, and as compressed ones of two formats."""
    place = tmp_path / "shelf"
    place.mkdir()
    raw = place / "part.raw"
    with raw.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "home", raw], check=True)
    data = raw.read_bytes()
    (place / "packed.raw.gz").write_bytes(compress("gzip", data))
    present = [True] * (len(data) // BLOCK)
    image = write(Recipe(present=present, block_size=BLOCK, guest=data)).image
    packed = compress("zstd", image)
    half = len(packed) // 2 + 1
    for number in range(2):
        piece = packed[number * half : (number + 1) * half]
        (place / f"split.img.zst.a{'ab'[number]}").write_bytes(piece)
    return data


@pytest.fixture
def shelf(guest: bytes, tmp_path: Path) -> Path:
    assert guest
    return tmp_path / "shelf"


@pytest.fixture(autouse=True)
def nothing_stays(program: Program, tmp_path: Path) -> None:
    """Let the program have a directory for temporary files of its own."""
    (tmp_path / "tmp").mkdir()
    program.environment["TMPDIR"] = str(tmp_path / "tmp")


FILES = ("part.raw", "packed.raw.gz", "split.img.zst.aa")


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_without_a_catalog(
    name: str, program: Program, guest: bytes, shelf: Path, tmp_path: Path
) -> None:
    file = shelf / name
    program.run("export", file, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == guest
    shown = program.json("info", file)
    assert shown["size_bytes"] == len(guest)
    assert shown["file_system"]["label"] == "home"
    assert "home" in program.run("info", file).stdout
    piped = subprocess.run(
        [sys.executable, "-m", "imgcat", "read", file, "--offset", "1024", "--length", "2048"],
        env=program.environment, capture_output=True, check=True,
    )  # fmt: skip
    assert piped.stdout == guest[1024:3072]
    covered = program.json("map", file)
    assert sum(each["length"] for each in covered) == len(guest)
    # The magic number of ext4, little endian, in its superblock.
    assert "53 ef" in program.run("shell", file, "-c", "hexdump 1080 16").stdout
    assert not program.catalog.exists()
    assert os.listdir(tmp_path / "tmp") == []


def test_what_the_catalog_knows_comes_first(program: Program, shelf: Path) -> None:
    program.run("add", "--name", "mine", shelf / "part.raw")
    assert program.json("info", shelf / "part.raw")["name"] == "mine"
    assert program.json("info", shelf / "packed.raw.gz")["name"] == "packed"
    assert [each["name"] for each in program.json("ls")] == ["mine"]


def test_what_is_no_image_is_refused(program: Program, shelf: Path) -> None:
    (shelf / "words").write_text("nothing\n" * 20)
    assert "no disk image" in program.run("export", shelf / "words", "-", code=4).stderr
    said = program.run("export", shelf / "nowhere", "-", code=3).stderr
    assert "there is no catalog yet" in said
    program.run("add", shelf / "part.raw")
    said = program.run("info", shelf / "nowhere", code=3).stderr
    assert "no image in the catalog has this name, id or path" in said


@pytest.mark.fuse
def test_files_are_mounted_without_a_catalog(
    program: Program, guest: bytes, shelf: Path, tmp_path: Path
) -> None:
    mount = program.mount(shelf / "packed.raw.gz", shelf / "split.img.zst.aa", tmp_path / "mount")
    assert sorted(os.listdir(mount)) == ["packed", "split"]
    assert (mount / "packed").read_bytes() == guest
    assert (mount / "split").read_bytes() == guest
    kept = program.home / "run" / "imgcat"
    assert [each for each in os.listdir(kept) if each.startswith("mount-of-files-")]
    assert not program.catalog.exists()
    program.run("unmount", mount)
    assert not [each for each in os.listdir(kept) if each.startswith("mount-of-files-")]


def test_what_a_killed_command_left_goes_with_the_next(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    def started() -> tuple[subprocess.Popen[bytes], Path]:
        before = set((tmp_path / "tmp").iterdir())
        process = program.start("export", shelf / "part.raw", "-", stdout=subprocess.PIPE)
        # It has its catalog by then, and waits for who reads the rest.
        assert process.stdout is not None
        assert process.stdout.read(1)
        (place,) = set((tmp_path / "tmp").iterdir()) - before
        return process, place

    killed, left = started()
    killed.kill()
    killed.communicate()
    living, used = started()
    for place in (left, used):
        os.utime(place, (1, 1))
    program.run("info", shelf / "part.raw")
    assert list((tmp_path / "tmp").iterdir()) == [used]
    living.communicate()
    assert living.returncode == 0
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.fuse
def test_what_a_killed_mount_of_files_left_goes_with_the_next(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    kept = program.home / "run" / "imgcat"

    def left() -> list[str]:
        return [each for each in os.listdir(kept) if each.startswith("mount-of-files-")]

    mount = program.mount(shelf / "part.raw", tmp_path / "mount")
    program.kill_daemon(mount)
    assert len(left()) == 1
    subprocess.run(["umount", "-l", mount], check=True)
    old = kept / left()[0]
    os.utime(old, (1, 1))
    again = program.mount(shelf / "part.raw", tmp_path / "again")
    assert not old.exists()
    assert len(left()) == 1
    program.run("unmount", again)


@pytest.mark.fuse
def test_a_mount_of_files_that_cannot_be_made_leaves_nothing(
    program: Program, shelf: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    shutil.copy(shelf / "part.raw", tmp_path / "full")
    program.run("mount", shelf / "part.raw", tmp_path / "full", code=8)
    kept = program.home / "run" / "imgcat"
    wait_until(
        lambda: not [each for each in os.listdir(kept) if each.startswith("mount-of-files-")],
        "it has gone", 30,
    )  # fmt: skip
    assert not is_mounted(tmp_path / "full")
