"""What is said to be gone: nothing that only cannot be read, and of another disk not in silence."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from support.files_inside import loop_mounted
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

BLOCK = 1024
TAIL = "n" * 60


def ext4(raw: Path, *options: str) -> Path:
    """Make an ext4 whose directories have several blocks each, without mounting it."""
    content = raw.with_suffix(".content")
    for number in range(3):
        (content / f"d{number}").mkdir(parents=True)
        for each in range(60):
            (content / f"d{number}" / f"{each:03d}{TAIL}").write_bytes(b"x")
    (content / "d0" / "inner").mkdir()
    (content / "d0" / "inner" / "deep").write_bytes(b"y" * 2000)
    with raw.open("wb") as file:
        file.truncate(16 * MIB)
    quiet("mkfs.ext4", "-q", "-F", "-b", BLOCK, *options, "-d", content, raw)
    return raw


def spoil_block(raw: Path, path: str, number: int) -> bytes:
    """Damage a block of a directory; return what was in it."""
    block = int(quiet("debugfs", "-R", f"bmap {path} {number}", raw))
    with raw.open("r+b") as file:
        file.seek(block * BLOCK)
        before = file.read(BLOCK)
        file.seek(block * BLOCK)
        file.write(b"\xff" * BLOCK)
    return before


def listed(program: Program, *arguments: object, code: int) -> tuple[set[str], str]:
    told = program.run("recover", "--deleted", *arguments, "--json", code=code)
    return {each["path"] for each in json.loads(told.stdout)}, told.stderr


@pytest.mark.fuse
@pytest.mark.loop
@pytest.mark.parametrize("is_mounted", [False, True], ids=["volume", "mounted"])
def test_what_is_in_a_block_that_cannot_be_read_is_not_said_to_be_gone(
    program: Program, tmp_path: Path, is_mounted: bool
) -> None:
    raw = ext4(tmp_path / "disk.raw")
    program.run("snapshot", raw, "--hash", "--name", "s")
    for number in (0, 1):
        quiet("debugfs", "-w", "-R", f"rm /d{number}/007{TAIL}", raw)
    inside = spoil_block(raw, "/d1", 2)
    hidden = [f"{each:03d}{TAIL}" for each in range(60) if f"{each:03d}{TAIL}".encode() in inside]
    assert len(hidden) > 5
    # The one that was removed may be in what is lost, too: of the rest of d1 all is listed.
    unread = len(hidden) + (f"007{TAIL}" not in hidden)
    out = tmp_path / "out"

    def check() -> None:
        found, said = listed(program, "s", "--from", raw, code=5)
        assert found == {f"/d0/007{TAIL}"}
        if not is_mounted:
            # The kernel looks for a name block by block: it finds none behind the damage.
            assert f"{unread} files are in directories that cannot be read" in said
        assert "whether they are gone is not known" in said
        assert listed(program, "s:/d2", "--from", raw, code=5)[0] == set()
        told = program.run(
            "recover", "-r", "--deleted", "s", "--from", raw, "-o", out, "--json", code=5
        )
        assert [each["path"] for each in json.loads(told.stdout)["files"]] == [f"/d0/007{TAIL}"]
        shutil.rmtree(out)

    if is_mounted:
        with loop_mounted(raw, tmp_path / "mount"):
            check()
    else:
        check()


def test_what_is_below_a_directory_that_is_not_there_may_be_anywhere(
    program: Program, tmp_path: Path
) -> None:
    raw = ext4(tmp_path / "disk.raw")
    program.run("snapshot", raw, "--hash", "--name", "s")
    quiet("debugfs", "-w", "-R", "clri /d0/inner", raw)
    found, said = listed(program, "s", "--from", raw, code=5)
    assert found == set()
    assert "1 file is in a directory that cannot be read: whether it is gone is not known" in said
    # A directory that was removed is another matter.
    other = ext4(tmp_path / "other.raw")
    program.run("snapshot", other, "--hash", "--name", "t")
    quiet("debugfs", "-w", "-R", "rm /d0/inner/deep", other)
    quiet("debugfs", "-w", "-R", "rmdir /d0/inner", other)
    assert listed(program, "t", "--from", other, code=0)[0] == {"/d0/inner/deep"}


def test_another_file_system_is_said_to_be_another(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path / "disk.raw", "-U", "6b1f5d26-2a5c-4a55-9d4e-1b0a7a3d0001")
    program.run("snapshot", raw, "--name", "s")
    program.run("snapshot", raw, "--hash", "--name", "hashed")
    assert listed(program, "s", "--from", raw, code=0) == (set(), "")
    other = tmp_path / "other.raw"
    with other.open("wb") as file:
        file.truncate(16 * MIB)
    for mkfs, called in (
        (["mkfs.ext4", "-q", "-F", "-U", "6b1f5d26-2a5c-4a55-9d4e-1b0a7a3d0002"],
         "ext4 6b1f5d26-2a5c-4a55-9d4e-1b0a7a3d0002"),
        (["mkfs.vfat", "-i", "1234abcd"], "vfat 1234-ABCD"),
    ):  # fmt: skip
        quiet("wipefs", "-q", "-a", other)
        quiet(*mkfs, other)
        for name in ("s", "hashed"):
            found, said = listed(program, name, "--from", other, code=5)
            assert len(found) == 181
            assert (
                f"it holds {called}, and the snapshot is of"
                " ext 6b1f5d26-2a5c-4a55-9d4e-1b0a7a3d0001\n"
            ) in said
            assert str(other) in said
    quiet("wipefs", "-q", "-a", other)
    for name in ("s", "hashed"):
        told = program.run("recover", "--deleted", name, "--from", other, code=4)
        assert "no file system that is known" in told.stderr
        assert not told.stdout


def test_the_same_file_system_by_type_and_number(program: Program, tmp_path: Path) -> None:
    """A serial number of FAT is four bytes: another type with the same is another."""
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(16 * MIB)
    quiet("mkfs.vfat", "-i", "1234abcd", raw)
    (tmp_path / "x").write_bytes(b"x")
    quiet("mcopy", "-i", raw, tmp_path / "x", "::x")
    program.run("snapshot", raw, "--hash", "--name", "s")
    with raw.open("r+b") as file:
        file.write(bytes(16 * MIB))
    quiet("mkfs.exfat", raw)
    quiet("tune.exfat", "-I", "0x1234abcd", raw)
    found, said = listed(program, "s", "--from", raw, code=5)
    assert found == {"/x"}
    assert "it holds exfat 1234-ABCD, and the snapshot is of vfat 1234-ABCD" in said


# -- what is named, and how --------------------------------------------------------------


def test_what_is_gone_comes_back_without_more_options(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path / "disk.raw")
    program.run("snapshot", raw, "--hash", "--name", "s")
    quiet("debugfs", "-w", "-R", "rm /d0/inner/deep", raw)
    out = tmp_path / "out"
    told = program.run("recover", "--deleted", "s", "-o", out)
    assert told.stdout == f"verified     /d0/inner/deep -> {out}/d0/inner/deep\n"
    assert (out / "d0" / "inner" / "deep").read_bytes() == b"y" * 2000


def test_what_is_no_regular_file_is_said_to_be_none(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path / "disk.raw")
    quiet("debugfs", "-w", "-R", "symlink /link /d0", raw)
    quiet("debugfs", "-w", "-R", "mknod fifo p", raw)
    program.run("snapshot", raw, "--hash", "--name", "s")
    for name, kind in (("link", "symlink"), ("fifo", "fifo")):
        for more in ([], ["-r"], ["--json"]):
            told = program.run("recover", f"s:/{name}", "-o", tmp_path / "out", *more, code=4)
            assert f"/{name}: is a {kind}, and no regular file" in told.stderr
    assert not (tmp_path / "out").exists()


def test_names_that_recover_could_not_take(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path / "pci:00:1f.raw")
    for name in ("a:/b", "a:b", "a/b", ":"):
        told = program.run("snapshot", raw, "--name", name, code=2)
        assert f"{name!r} cannot be a snapshot's name" in told.stderr
    assert program.json("snapshot") == []
    # The name that one has by itself can be taken, whatever its source is called.
    called = program.json("snapshot", raw)["name"]
    assert called.startswith("pci-00-1f-20")
    assert program.json("recover", "--deleted", called) == []


def test_how_many_snapshots_there_are_besides(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path / "disk.raw")
    for number in range(5):
        program.run("snapshot", raw, "--name", f"s{number}")
    told = program.run("recover", "--deleted", "none", code=3)
    assert told.stderr == ("imgcat: none: no snapshot is called so; there are s0, s1, s2, s3, s4\n")
    program.run("snapshot", raw, "--name", "s5")
    program.run("snapshot", raw, "--name", "s6")
    told = program.run("recover", "--deleted", "none", code=3)
    assert "there are s2, s3, s4, s5, s6 and 2 more: `imgcat snapshot` lists all\n" in told.stderr
