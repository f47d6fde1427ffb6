"""What files are got back to: what must not be replaced, what cannot be written, what is full."""

from __future__ import annotations

import os
import random
import socket
import stat
from typing import TYPE_CHECKING

import pytest
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

BYTES = random.Random(3).randbytes(70_000)


def ext4(raw: Path, files: dict[str, bytes], size: int = 16 * MIB) -> Path:
    """Make an ext4 with some files in it, without mounting it."""
    content = raw.with_suffix(".content")
    for path, data in files.items():
        (content / path).parent.mkdir(parents=True, exist_ok=True)
        (content / path).write_bytes(data)
    with raw.open("wb") as file:
        file.truncate(size)
    quiet("mkfs.ext4", "-q", "-F", "-b", "1024", "-d", content, raw)
    return raw


def spoil(raw: Path, data: bytes) -> None:
    """Change a byte in the second piece of a file."""
    place = raw.read_bytes().find(data[:1024])
    assert place >= 0
    with raw.open("r+b") as file:
        file.seek(place + 65536)
        file.write(bytes([data[65536] ^ 1]))


def test_neither_images_nor_the_catalog_are_replaced(program: Program, tmp_path: Path) -> None:
    names = ("image.img", "image.img.partial", "image.img.partial.map", "catalog.db", "whole")
    raw = ext4(tmp_path / "disk.raw", {f"d/{name}": name.encode() + BYTES for name in names})
    program.run("snapshot", raw, "--hash", "--name", "s")
    out = tmp_path / "out"
    (out / "d").mkdir(parents=True)
    kept = {}
    for name in ("image.img", "other.partial", "more.partial.map"):
        path = ext4(out / "d" / name, {"x": name.encode()}, 2 * MIB)
        program.run("add", "-q", "--name", name.replace(".", "-"), path)
        kept[path] = path.read_bytes()
    for out_of_one in (out / "d" / "image.img", program.catalog, f"{program.catalog}-wal"):
        told = program.run("recover", "s:/d/whole", "-o", out_of_one, "--force", code=2)
        assert "image image-img" in told.stderr or "belongs to the catalog" in told.stderr
    program.run("recover", "-r", "s:/d", "-o", out / "d", "--force", code=2)
    # Of a file that is not whole, what is written beside it.
    spoil(raw, b"whole" + BYTES)
    for name in ("other", "more"):
        told = program.run("recover", "s:/d/whole", "-o", out / "d" / name, "--force", code=2)
        assert f"image {name}-partial" in told.stderr
    link = tmp_path / "link"
    link.symlink_to(program.catalog)
    program.run("recover", "s:/d/image.img", "-o", link, "--force", code=2)
    assert {path: path.read_bytes() for path in kept} == kept
    program.run("db", "check")
    quiet("sqlite3", program.catalog, "PRAGMA integrity_check")


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
def test_what_is_no_file_is_refused_by_its_name(
    program: Program, tmp_path: Path, force: list[str]
) -> None:
    raw = ext4(tmp_path / "disk.raw", {"x": BYTES})
    program.run("snapshot", raw, "--hash", "--name", "s")
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    os.mknod(tmp_path / "block", stat.S_IFBLK | 0o600, os.makedev(7, 255))
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in ("device", "block", "fifo", "socket"):
            before = os.lstat(tmp_path / name)
            for path in (tmp_path / name, tmp_path / f"to-{name}"):
                if path.name.startswith("to-"):
                    path.symlink_to(tmp_path / name)
                told = program.run("recover", "s:/x", "-o", path, *force, code=4)
                assert f"{path}: is a {name if name in {'fifo', 'socket'} else 'device'}" in (
                    told.stderr
                )
            after = os.lstat(tmp_path / name)
            assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
