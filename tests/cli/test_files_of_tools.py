"""All files out of the images of every tool that saves partitions, as a mount has them."""

from __future__ import annotations

import functools
import os
import random
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.files_inside import HASH, loop_mounted, of_mount
from support.ntfs import make as make_ntfs
from support.ntfs import ntfs_3g
from support.program import COMMAND
from support.tool_images import ntfsclone, ntfsclone_through_gzip, partclone, partimage
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.files_inside import Facts
    from support.program import Program

    Saved = tuple[Path, dict[bytes, Facts]]

pytestmark = [pytest.mark.fuse, pytest.mark.loop]


def fill(top: Path) -> None:
    """Write files of several kinds, that every file system here can keep."""
    generator = random.Random(7)
    (top / "one" / "two").mkdir(parents=True)
    (top / "empty directory").mkdir()
    for name, size in (("empty", 0), ("small.txt", 30), ("one/middle", 70_000)):
        (top / name).write_bytes(generator.randbytes(size))
    (top / "one" / "two" / "ümläut and more.text").write_bytes(b"some words\n" * 20_000)
    with (top / "one" / "sparse").open("wb") as opened:
        opened.seek(700_000)
        opened.write(generator.randbytes(5000))
    for path in top.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))


# What partimage knows of ext is older than most of what mke2fs turns on.
_OLD_EXT4 = ("-I", "128", "-O", "^metadata_csum,^64bit,^huge_file,^dir_nlink,^extra_isize")


def _in_ext4(raw: Path, place: Path, options: tuple[str, ...] = ()) -> None:
    fill(place / "top")
    os.symlink("one/middle", place / "top" / "link")
    os.link(place / "top" / "one" / "middle", place / "top" / "the same")
    os.truncate(raw, 24 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", *options, raw)
    with loop_mounted(raw, place / "mount") as mount:
        quiet("cp", "-a", place / "top", mount)


def _in_ntfs(raw: Path, place: Path) -> None:
    make_ntfs(raw, size=24 * MIB)
    with ntfs_3g(raw, place / "mount") as mount:
        (mount / "top").mkdir()
        # What is made below it is compressed.
        os.setxattr(mount / "top", "system.ntfs_attrib", struct.pack("<I", 0x800))
        fill(mount / "top")
        os.symlink("one/middle", mount / "top" / "link")
        os.link(mount / "top" / "one" / "middle", mount / "top" / "the same")


def _in_fat(raw: Path, place: Path) -> None:
    fill(place / "top")
    os.truncate(raw, 40 * MIB)
    quiet("mkfs.vfat", "-F", "32", "-s", "1", raw)
    quiet("env", "LANG=C.UTF-8", "mcopy", "-s", "-m", "-i", raw, place / "top", "::/")


def _of_ext4(raw: Path, place: Path) -> dict[bytes, Facts]:
    with loop_mounted(raw, place / "mount", "ro") as mount:
        return told_of(mount / "top")


def _of_ntfs(raw: Path, place: Path) -> dict[bytes, Facts]:
    with ntfs_3g(raw, place / "mount", "ro") as mount:
        return told_of(mount / "top")


def _of_fat(raw: Path, place: Path) -> dict[bytes, Facts]:
    (place / "out").mkdir()
    quiet("env", "LANG=C.UTF-8", "mcopy", "-s", "-m", "-i", raw, "::/top", place / "out")
    return told_of(place / "out" / "top")


def told_of(top: Path) -> dict[bytes, Facts]:
    """Return what is to be the same of a file wherever it is copied to."""
    found = of_mount(top, attributes=False)
    for facts in found.values():
        facts["mode"] &= 0o170000
        if facts["mode"] == 0o100000:
            facts["mtime"] //= 10**9
        else:
            # Those of directories are counted on some only; links are new where they are copied to.
            del facts["links"], facts["mtime"]
        for key in ("inode", "uid", "gid"):
            del facts[key]
    return found


FILE_SYSTEMS: dict[str, tuple[Callable[..., None], Callable[[Path, Path], dict[bytes, Facts]]]] = {
    "ext4": (_in_ext4, _of_ext4),
    "old ext4": (functools.partial(_in_ext4, options=_OLD_EXT4), _of_ext4),
    "ntfs": (_in_ntfs, _of_ntfs),
    "fat": (_in_fat, _of_fat),
}

IMAGES: dict[str, tuple[str, Callable[[Path, Path], Path]]] = {
    "partclone.ext4": ("ext4", functools.partial(partclone, program="partclone.ext4")),
    "partimage": ("old ext4", partimage),
    "ntfsclone": ("ntfs", ntfsclone),
    "ntfsclone through gzip": ("ntfs", ntfsclone_through_gzip),
    "partclone.ntfs": ("ntfs", functools.partial(partclone, program="partclone.ntfs")),
    "partclone.vfat": ("fat", functools.partial(partclone, program="partclone.vfat")),
}


@pytest.fixture(scope="module")
def volume(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Saved]:
    """Make the volume of a file system, and tell what its own mount shows: once each."""

    @functools.cache
    def made(kind: str) -> Saved:
        place = tmp_path_factory.mktemp(kind)
        raw = place / "volume.raw"
        raw.touch()
        put_in, told = FILE_SYSTEMS[kind]
        put_in(raw, place)
        return raw, told(raw, place)

    return made


@pytest.fixture(scope="module")
def image(
    tmp_path_factory: pytest.TempPathFactory,
    volume: Callable[[str], Saved],
) -> Callable[[str], Saved]:
    """Save the volume with a tool, once each."""

    @functools.cache
    def saved(tool: str) -> Saved:
        kind, save = IMAGES[tool]
        raw, expected = volume(kind)
        return save(raw, tmp_path_factory.mktemp("image")), expected

    return saved


@pytest.mark.parametrize("tool", IMAGES)
def test_cat_gives_every_file(program: Program, tool: str, image: Callable[[str], Saved]) -> None:
    path, expected = image(tool)
    program.run("add", path)
    (name,) = (row["name"] for row in program.json("ls"))
    hashes = {each: facts["hash"] for each, facts in expected.items() if facts["mode"] == 0o100000}
    assert len(hashes) >= 5
    for each, expected_hash in hashes.items():
        done = subprocess.run(
            [*COMMAND, "cat", os.fsencode(f"{name}:/top/") + each],
            env=program.environment, capture_output=True, check=True,
        )  # fmt: skip
        assert HASH(done.stdout).hexdigest() == expected_hash, each


@pytest.mark.parametrize("tool", IMAGES)
def test_cp_copies_every_file(
    program: Program, tool: str, image: Callable[[str], Saved], tmp_path: Path
) -> None:
    path, expected = image(tool)
    program.run("cp", "-r", f"{path}:/top", tmp_path / "copy")
    assert told_of(tmp_path / "copy") == expected


@pytest.mark.parametrize("tool", IMAGES)
def test_tar_has_every_file(
    program: Program, tool: str, image: Callable[[str], Saved], tmp_path: Path
) -> None:
    path, expected = image(tool)
    archive = tmp_path / "archive.tar"
    with archive.open("wb") as opened:
        subprocess.run(
            [*COMMAND, "tar", f"{path}:/top"], env=program.environment, stdout=opened, check=True
        )
    (tmp_path / "out").mkdir()
    quiet("tar", "-x", "-f", archive, "-C", tmp_path / "out")
    found = told_of(tmp_path / "out")
    assert {
        name.removeprefix(b"top/"): facts for name, facts in found.items() if name != b"top"
    } == expected


def test_a_mount_shows_every_file(
    program: Program, image: Callable[[str], Saved], tmp_path: Path
) -> None:
    for number, tool in enumerate(IMAGES):
        program.run("add", "--name", f"image{number}", image(tool)[0])
    mount = program.mount_all(tmp_path / "all", "--files")
    for number, tool in enumerate(IMAGES):
        assert told_of(mount / "files" / f"image{number}" / "top") == image(tool)[1], tool
