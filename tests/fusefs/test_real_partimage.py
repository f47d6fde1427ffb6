"""Real file systems, saved by the real partimage: what the mount shows is what it restores."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import functools
import os
import pty
import random
import re
import select
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest
from support.volumes import MIB, mounted, quiet, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

# What partimage knows of ext3 is older than most of what mke2fs turns on.
_OLD_EXT = "^metadata_csum,^64bit,^huge_file,^dir_nlink,^extra_isize,^ext_attr"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A file system: how it is made, what partimage calls it, and what checks it."""

    name: str
    size: int
    mkfs: tuple[str, ...]
    fs_type: str
    check: tuple[str, ...]
    mount: tuple[str, ...] | None = None


# It wants to know the terminal, also where it has nothing to draw.
_PARTIMAGE = ("env", "TERM=vt100", "partimage")

_EXT_MOUNT = ("mount", "-o", "loop,ro,noload")

KINDS = [
    Kind(
        "ext2", 40 * MIB, ("mkfs.ext2", "-q", "-F", "-b", "1024", "-I", "128", "-O", _OLD_EXT),
        "ext2fs", ("e2fsck", "-fn"), ("mount", "-o", "loop,ro"),
    ),
    Kind(
        "ext3", 60 * MIB, ("mkfs.ext3", "-q", "-F", "-b", "4096", "-I", "128", "-O", _OLD_EXT),
        "ext3fs", ("e2fsck", "-fn"), _EXT_MOUNT,
    ),
    Kind("fat16", 40 * MIB, ("mkfs.fat", "-F", "16"), "fat16", ("fsck.fat", "-n")),
    Kind("fat32", 80 * MIB, ("mkfs.fat", "-F", "32"), "fat32", ("fsck.fat", "-n")),
    Kind(
        "ntfs", 40 * MIB + 512 * 7, ("mkntfs", "-q", "-F", "-Q", "-c", "4096"), "ntfs",
        ("ntfsresize", "--info", "--force"), ("ntfs-3g", "-o", "ro"),
    ),
    Kind(
        "xfs", 320 * MIB, ("mkfs.xfs", "-q", "-f", "-m", "crc=0,reflink=0"), "xfs",
        ("xfs_repair", "-n", "-f"),
    ),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Saved:
    """A volume, its image in one file and in several, and what partimage restores from it."""

    kind: Kind
    directory: Path
    restored: Path
    files: dict[str, str]


@contextlib.contextmanager
def loop(path: Path) -> Iterator[str]:
    """Have a loop device over a file."""
    device = quiet("losetup", "--find", "--show", path).strip()
    try:
        yield device
    finally:
        quiet("losetup", "--detach", device)


def _fill(kind: Kind, raw: Path, directory: Path) -> dict[str, str]:
    """Put files into the file system, and return their hashes."""
    generator = random.Random(kind.name)
    contents = {f"file{n}": generator.randbytes(n * 150_000 + 17) for n in range(6)}
    (directory / "content").mkdir()
    for name, content in contents.items():
        (directory / "content" / name).write_bytes(content)
    if kind.name.startswith("fat"):
        quiet("mcopy", "-i", raw, *sorted((directory / "content").iterdir()), "::")
    elif kind.mount is not None:
        point = directory / "point"
        writable = ["ntfs-3g"] if kind.name == "ntfs" else ["mount", "-o", "loop"]
        with mounted([*writable, raw, point], point):
            for path in (directory / "content").iterdir():
                (point / path.name).write_bytes(path.read_bytes())
    return {path.name: sha256(path) for path in (directory / "content").iterdir()}


def _save(kind: Kind, directory: Path) -> Saved:
    raw, restored = directory / "raw", directory / "restored"
    for path in (raw, restored):
        with path.open("wb") as file:
            file.truncate(kind.size)
    quiet(*kind.mkfs, raw)
    files = _fill(kind, raw, directory)
    save = (*_PARTIMAGE, "-b", "-z0", "-o", "-d", "-c")
    with loop(raw) as device:
        quiet(*save, "save", device, directory / kind.name)
        quiet(*save, "-V", "1", "save", device, directory / f"{kind.name}-volumes")
    with loop(restored) as device:
        quiet(*_PARTIMAGE, "-b", "-d", "restore", device, directory / f"{kind.name}.000")
    return Saved(kind, directory, restored, files)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Saved]:
    """Make the images of a kind, once."""
    return functools.cache(lambda kind: _save(kind, tmp_path_factory.mktemp(kind.name)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_mounted_volume_is_the_restored_one(
    kind: Kind, saved: Callable[[Kind], Saved], program: Program, tmp_path: Path
) -> None:
    image = saved(kind)
    volumes = sorted(image.directory.glob(f"{kind.name}-volumes.*"))
    assert len(volumes) > 1
    said = program.run("add", image.directory / f"{kind.name}.000", *volumes)
    assert said.stdout.count("added ") == 2
    assert said.stderr == ""
    rows = {row["name"]: row for row in program.json("ls")}
    assert {name: row["volume_count"] for name, row in rows.items()} == {
        kind.name: 1, f"{kind.name}-volumes": len(volumes),
    }  # fmt: skip
    assert {row["fs_type"] for row in rows.values()} == {kind.fs_type}
    mount = program.mount_all(tmp_path / "mount")
    for name in rows:
        assert (mount / name).stat().st_size == kind.size
        # The restored file was sparse before, so this compares zeros in unused blocks too.
        quiet("cmp", mount / name, image.restored)
    exported = tmp_path / "exported"
    program.run("export", f"{kind.name}-volumes", exported)
    quiet("cmp", exported, image.restored)
    assert program.run("verify", "--all").stdout.count("ok ") == 2
    shown = mount / f"{kind.name}-volumes"
    quiet(*kind.check, shown)
    if kind.mount is not None:
        point = tmp_path / "files"
        with mounted([*kind.mount, shown, point], point):
            assert {name: sha256(point / name) for name in image.files} == image.files
    elif kind.name.startswith("fat"):
        for name, expected in image.files.items():
            quiet("mcopy", "-n", "-o", "-i", shown, f"::/{name}", tmp_path / "out")
            assert sha256(tmp_path / "out") == expected


@pytest.mark.parametrize("kind", KINDS[:1], ids=lambda kind: kind.name)
def test_the_header_is_what_partimage_says(
    kind: Kind, saved: Callable[[Kind], Saved], program: Program
) -> None:
    path = saved(kind).directory / f"{kind.name}.000"
    program.run("add", path)
    shown = program.json("show", kind.name)
    header = shown["header"]
    said = _image_info(path)
    assert said["Filesystem"] == header["filesystem"]
    assert said["Original device"] == header["original_device"]
    assert said["Original filepath"] == header["original_file"]
    assert said["Compression level"] == f"0 -> {header['compression_when_written']}"
    created = dt.datetime.fromisoformat(header["creation_date"])
    assert said["Creation date"] == created.strftime("%a %b %e %H:%M:%S %Y")
    assert said["Partition size"] == f"{shown['size_bytes'] / MIB:.2f} MiB"
    assert said["Flags"].startswith(f"{header['flags']}:")
    assert (said["Description"] == "No description") == (header["description"] == "")


def _image_info(path: Path) -> dict[str, str]:
    """Return what `partimage imginfo` shows; it wants a terminal, and a key at its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 160, 0, 0))
    process = subprocess.Popen(
        ["partimage", "imginfo", path], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "vt100"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    screen = b""
    try:
        # Below all that it tells it draws a button, and waits for a key.
        while b" Ok " not in screen.partition(b"Partition size")[2]:
            assert select.select([ours], [], [], 60)[0], screen
            screen += os.read(ours, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    lines = re.sub(rb"\x1b[\[(][0-9;?]*[A-Za-z]", b"\n", screen).decode("ascii", "replace")
    return {
        match[1]: match[2].strip()
        for match in re.finditer(r"^\W*([A-Z][\w ]+?) ?:[. ]*([^\n]*)$", lines, re.MULTILINE)
    }
