"""What files are got back to: what must not be replaced, what cannot be written, what is full."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest
from support.files_inside import loop_mounted
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    import subprocess
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
    told = program.run("recover", "-r", "s:/d", "-o", out / "d", "--force", code=5)
    assert f"{out}/d/image.img: is a file of the image image-img" in told.stderr
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


def test_no_file_of_the_source_is_replaced(program: Program, tmp_path: Path) -> None:
    """None of these is in the catalog."""
    raw = ext4(tmp_path / "disk.raw", {"x": BYTES})
    top = tmp_path / "top.qcow2"
    quiet("qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", top)
    quiet("split", "-b", 8 * MIB, raw, tmp_path / "split.raw.")
    parts = [tmp_path / "split.raw.aa", tmp_path / "split.raw.ab"]
    for number, (source, files) in enumerate(((top, [top, raw]), (parts[0], parts))):
        program.run("snapshot", source, "--hash", "--name", f"s{number}")
        for out in files:
            before = out.read_bytes()
            told = program.run("recover", f"s{number}:/x", "-o", out, "--force", code=4)
            assert f"{out}: lies on {source}, out of which files are got back" in told.stderr
            assert out.read_bytes() == before
        program.run("recover", f"s{number}:/x", "-o", tmp_path / f"out{number}")


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


# -- what of one file, and what of all -----------------------------------------------


def recovered(program: Program, *arguments: object, code: int) -> dict[str, Any]:
    result = program.run("recover", *arguments, "--json", code=code)
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["exit_code"] == code
    return told


def test_names_that_leave_no_room_are_cut(program: Program, tmp_path: Path) -> None:
    beginnings = ("n" * 249, "n" * 248 + "m", "\u00e4" * 124, "x" + "\u00e4" * 124, "short")
    files = {name: b"%d" % number + BYTES for number, name in enumerate(beginnings)}
    raw = ext4(tmp_path / "disk.raw", files)
    program.run("snapshot", raw, "--hash", "--name", "s")
    for data in files.values():
        spoil(raw, data)
    out = tmp_path / "out"
    told = recovered(program, "-r", "s", "-o", out, code=5)
    assert told["problems"] == []
    outputs = {each["path"][1:]: each["output"] for each in told["files"]}
    assert outputs.keys() == files.keys()
    assert outputs["short"] == f"{out}/short.partial"
    assert len(set(outputs.values())) == len(files)
    for name, data in files.items():
        with open(outputs[name], "rb") as file:
            assert len(file.read()) == len(data)
        with open(f"{outputs[name]}.map", "rb") as file:
            assert json.load(file)["path"] == f"/{name}"
        stem = os.path.basename(outputs[name]).removesuffix(".partial").partition("~")[0]
        assert name.startswith(stem)
        assert stem == name or len(name) - len(stem) < 40
    assert len(os.listdir(out)) == 2 * len(files) + 1


@pytest.mark.fuse
@pytest.mark.loop
def test_one_file_that_cannot_be_written_does_not_stop_the_others(
    program: Program, tmp_path: Path
) -> None:
    names = ("a", "d/x", "e", "f", "link/y", "z")
    raw = ext4(tmp_path / "disk.raw", {name: name.encode() + BYTES for name in names})
    program.run("snapshot", raw, "--hash", "--name", "s")
    target = ext4(tmp_path / "target.raw", {"a/inside": b"", "link": b"file", "e": b"old"})
    with loop_mounted(target, tmp_path / "mount") as out:
        (out / "f").write_bytes(b"immutable")
        quiet("chattr", "+i", out / "f")
        told = recovered(program, "-r", "s", "-o", out, "--force", code=5)
        assert [each["path"] for each in told["files"]] == ["/d/x", "/e", "/z"]
        assert {each["verdict"] for each in told["files"]} == {"verified"}
        assert told["problems"] == [
            f"{out}/link: is there, and is no directory: nothing is recovered into it",
            f"output: {out}/a: is a directory: files are not written over it",
            f"{out}/f: Operation not permitted",
        ]
        assert (out / "f").read_bytes() == b"immutable"
        for name in ("d/x", "e", "z"):
            assert (out / name).read_bytes() == name.encode() + BYTES
        assert [name for name in os.listdir(out) if name.startswith(".")] == []
        # Alone, it is an error of the command.
        alone = program.run("recover", "s:/f", "-o", out / "f", "--force", code=5)
        assert f"imgcat: {out}/f: Operation not permitted\n" in alone.stderr
        assert [name for name in os.listdir(out) if name.startswith(".")] == []
        quiet("chattr", "-i", out / "f")


def test_a_second_run_goes_on_behind_what_is_there(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path / "disk.raw", {name: name.encode() + BYTES for name in "abc"})
    program.run("snapshot", raw, "--hash", "--name", "s")
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_bytes(b"of the first run")
    told = program.run("recover", "-r", "s", "-o", out, code=5)
    assert told.stderr == f"imgcat: {out}/b: is there already: --force replaces it\n"
    assert [line.split()[1] for line in told.stdout.splitlines()] == ["/a", "/c"]
    assert (out / "b").read_bytes() == b"of the first run"
    assert (out / "c").read_bytes() == b"c" + BYTES


def test_a_target_that_is_full_ends_it(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path / "disk.raw", {name: name.encode() + 5 * BYTES for name in "abcde"})
    program.run("snapshot", raw, "--hash", "--name", "s")
    out = tmp_path / "out"
    out.mkdir()
    quiet("mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", out)
    try:
        told = recovered(program, "-r", "s", "-o", out, code=5)
        assert [each["path"] for each in told["files"]] == ["/a", "/b"]
        assert told["problems"] == [f"{out}/c: No space left on device: nothing more is recovered"]
        assert sorted(path.name for path in out.iterdir() if path.is_file()) == ["a", "b"]
        alone = program.run("recover", "s:/d", "-o", out / "one", code=5)
        assert alone.stderr == f"imgcat: {out}/one: No space left on device\n"
    finally:
        quiet("umount", out)


# -- lines, and who reads them -------------------------------------------------------


def first_line_of(process: subprocess.Popen[bytes]) -> bytes:
    """Read a line and go away, as `head -1` does."""
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.read()
    process.wait(120)
    return line


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["lines", "json"])
def test_files_come_back_though_nobody_reads_their_lines(
    program: Program, tmp_path: Path, as_json: list[str]
) -> None:
    names = [f"{number:04d}{'n' * 150}" for number in range(700)]
    raw = ext4(tmp_path / "disk.raw", {name: name.encode() for name in names})
    program.run("snapshot", raw, "--hash", "--name", "s")
    out = tmp_path / "out"
    process = program.start("recover", "-r", "s", "-o", out, *as_json)
    first = first_line_of(process)
    line = f"verified     /{names[0]} -> {out}/{names[0]}\n"
    assert first == (b"{\n" if as_json else line.encode())
    assert process.returncode == 0
    assert sorted(os.listdir(out)) == [*names, "lost+found"]
    # The code is that of the outcomes.
    spoiled = raw.read_bytes().find(names[5].encode() + bytes(8))
    with raw.open("r+b") as file:
        file.seek(spoiled)
        file.write(b"other")
    process = program.start("recover", "-r", "s", "-o", out, "--force", *as_json)
    first_line_of(process)
    assert process.returncode == 5


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["lines", "json"])
@pytest.mark.parametrize("count", [1, 60, 400])
def test_files_come_back_though_nobody_has_ever_read(
    program: Program, tmp_path: Path, count: int, as_json: list[str]
) -> None:
    """Whatever is left of what could not be written when it ends."""
    names = [f"{number:04d}{'n' * 150}" for number in range(count)]
    raw = ext4(tmp_path / "disk.raw", {name: name.encode() for name in names})
    program.run("snapshot", raw, "--hash", "--name", "s")
    out = tmp_path / "out"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = program.start("recover", "-r", "s", "-o", out, *as_json, stdout=writing)
    finally:
        os.close(writing)
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    assert sorted(os.listdir(out)) == [*names, "lost+found"]


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "not"])
@pytest.mark.parametrize("count", [1, 400])
def test_files_come_back_though_their_lines_have_no_room(
    program: Program, tmp_path: Path, count: int, unbuffered: dict[str, str]
) -> None:
    names = [f"{number:04d}{'n' * 150}" for number in range(count)]
    raw = ext4(tmp_path / "disk.raw", {name: name.encode() for name in names})
    program.run("snapshot", raw, "--hash", "--name", "s")
    out = tmp_path / "out"
    with open("/dev/full", "wb") as full:
        process = program.start(
            "recover", "-r", "s", "-o", out, stdout=full, env=program.environment | unbuffered
        )
    assert process.stderr is not None
    assert process.stderr.read() == b"imgcat: standard output: No space left on device\n"
    assert process.wait(60) == 5
    assert sorted(os.listdir(out)) == [*names, "lost+found"]


def test_a_listing_that_nobody_reads_ends_as_others_do(program: Program, tmp_path: Path) -> None:
    names = [f"{number:04d}{'n' * 150}" for number in range(700)]
    raw = ext4(tmp_path / "disk.raw", {name: name.encode() for name in names})
    program.run("snapshot", raw, "--name", "s")
    empty = ext4(tmp_path / "empty.raw", {"x": b""})
    process = program.start("recover", "--deleted", "s", "--from", empty)
    assert first_line_of(process).split()[-1] == f"/{names[0]}".encode()
    assert process.returncode == 141


def test_names_do_not_drive_the_terminal(program: Program, tmp_path: Path) -> None:
    name = "\x1b[31mred"
    raw = ext4(tmp_path / "disk.raw", {f"{name}/{name}": BYTES})
    program.run("snapshot", raw, "--hash", "--name", "s")
    out = tmp_path / "out"
    shown = "\\x1b[31mred"
    told = program.run("recover", "-r", "s", "-o", out)
    assert told.stdout == f"verified     /{shown}/{shown} -> {out}/{shown}/{shown}\n"
    again = program.run("recover", "-r", "s", "-o", out, code=5)
    assert again.stderr == (
        f"imgcat: {out}/{shown}/{shown}: is there already: --force replaces it\n"
    )
    for target, code in ((out / name / name, 2), (out / name, 2), (tmp_path / "fifo" / name, 4)):
        if code == 4:
            target.parent.mkdir()
            os.mkfifo(target)
        alone = program.run("recover", f"s:/{shown}/{shown}", "-o", target, code=code)
        assert "\x1b" not in alone.stdout + alone.stderr
        assert shown in alone.stderr
