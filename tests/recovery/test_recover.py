"""snapshot and recover as a user runs them: verdicts, what is refused, and what is said."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from support.exfat import exfat_fuse
from support.files_inside import loop_mounted
from support.ntfs import make as make_ntfs
from support.ntfs import ntfs_3g
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

PIECE = 65536
BYTES = random.Random(20261129).randbytes(3 * PIECE + 1000)


def ext4(place: Path, *options: str, size: int = 32 * MIB, files: dict[str, bytes]) -> Path:
    """Make an ext4 with some files in it."""
    raw = place / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    quiet("mkfs.ext4", "-q", "-F", "-b", "1024", *options, raw)
    with loop_mounted(raw, place / "mount") as top:
        for path, data in files.items():
            (top / path).parent.mkdir(exist_ok=True)
            (top / path).write_bytes(data)
    return raw


def recovered(program: Program, *arguments: object, code: int = 5) -> list[dict[str, Any]]:
    """Recover, and return what is said of each file."""
    told = json.loads(program.run("recover", *arguments, "--json", code=code).stdout)
    assert told["exit_code"] == code
    found: list[dict[str, Any]] = told["files"]
    return found


def place_of(raw: Path, data: bytes) -> int:
    """Return where bytes lie in a volume."""
    found = raw.read_bytes().find(data)
    assert found >= 0
    return found


@contextlib.contextmanager
def loop_device(raw: Path) -> Iterator[str]:
    device = quiet("losetup", "--find", "--show", raw).strip()
    try:
        yield device
    finally:
        quiet("losetup", "-d", device)


# -- verdicts ----------------------------------------------------------------------


def test_a_deleted_file_comes_back_with_its_time_and_mode(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"d/x": BYTES, "empty": b""})
    with loop_mounted(raw, tmp_path / "mount") as top:
        os.utime(top / "d/x", ns=(1, 1_234_567_890_123_456_789))
        (top / "d/x").chmod(0o640)
    program.run("snapshot", raw, "--hash", "--name", "s")
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "d/x").unlink()
    out = tmp_path / "out"
    told = program.run("recover", "s:/d/x", "--from", raw, "-o", out)
    assert told.stdout == f"verified     /d/x -> {out}\n"
    assert out.read_bytes() == BYTES
    status = out.stat()
    assert (status.st_mtime_ns, status.st_mode & 0o777) == (1_234_567_890_123_456_789, 0o640)
    # What is there stays, but if it is to be replaced; and a directory takes a file by its name.
    program.run("recover", "s:/d/x", "--from", raw, "-o", out, code=2)
    out.write_bytes(b"old")
    program.run("recover", "s:d/x", "--from", raw, "-o", out, "--force")
    assert out.read_bytes() == BYTES
    (tmp_path / "into").mkdir()
    program.run("recover", "s:/d/x", "--from", raw, "-o", tmp_path / "into")
    assert (tmp_path / "into" / "x").read_bytes() == BYTES
    program.run("recover", "s:/d", "--from", raw, "-o", tmp_path / "dir", code=2)
    program.run("recover", "s:/d/y", "--from", raw, "-o", tmp_path / "y", code=3)
    program.run("recover", "t:/d/x", "--from", raw, "-o", tmp_path / "y", code=3)


def test_a_byte_that_was_changed_spoils_its_piece_and_no_other(
    program: Program, tmp_path: Path
) -> None:
    raw = ext4(tmp_path, files={"x": BYTES})
    program.run("snapshot", raw, "--hash", "--name", "s")
    place = place_of(raw, BYTES[:4096])
    with raw.open("r+b") as file:
        file.seek(place + PIECE + 7)
        file.write(bytes([BYTES[PIECE + 7] ^ 1]))
    out = tmp_path / "out"
    (told,) = recovered(program, "s:/x", "--from", raw, "-o", out)
    assert (told["verdict"], told["output"]) == ("partial", f"{out}.partial")
    assert told["ranges"] == [
        {"start": PIECE, "stop": 2 * PIECE, "place": place + PIECE, "cause": "changed",
         "owner": None, "owner_inode": None},
    ]  # fmt: skip
    assert not out.exists()
    written = (tmp_path / "out.partial").read_bytes()
    assert written[: PIECE + 7] + BYTES[PIECE + 7 : PIECE + 8] + written[PIECE + 8 :] == BYTES
    kept = json.loads((tmp_path / "out.partial.map").read_text())
    assert kept == {
        "snapshot": "s", "path": "/x", "source": str(raw), "size": len(BYTES),
        "verdict": "partial", "ranges": told["ranges"],
    }  # fmt: skip


def test_the_tail_behind_the_end_of_a_file_is_not_of_it(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"x": BYTES[:1500]})
    program.run("snapshot", raw, "--hash", "--name", "s")
    place = place_of(raw, BYTES[:1500])
    with raw.open("r+b") as file:
        file.seek(place + 1500)
        file.write(b"x" * 548)
    program.run("recover", "s:/x", "--from", raw, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES[:1500]


@pytest.mark.parametrize("with_hashes", [True, False], ids=["hashes", "no hashes"])
def test_what_was_discarded_is_zeroed_and_never_a_success(
    program: Program, tmp_path: Path, with_hashes: bool
) -> None:
    zeros = bytes(100_000)
    raw = ext4(tmp_path, files={"x": BYTES, "zeros": zeros})
    program.run("snapshot", raw, "--name", "s", *["--hash"] * with_hashes)
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "x").unlink()
        (top / "zeros").unlink()
        quiet("sync", "-f", top)
        quiet("fstrim", top)
    told = {
        each["path"]: each
        for each in recovered(program, "-r", "s", "--from", raw, "-o", tmp_path / "out")
    }
    assert told["/x"]["verdict"] == "zeroed"
    assert told["/x"]["output"] is None
    assert {each["cause"] for each in told["/x"]["ranges"]} == {"zeros"}
    # A file of zeros is one if hashes say so; without, nobody can tell.
    assert told["/zeros"]["verdict"] == ("verified" if with_hashes else "zeroed")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "lost+found", *["zeros"] * with_hashes,
    ]  # fmt: skip


def test_without_hashes_nothing_is_verified_and_what_others_have_is_said(
    program: Program, tmp_path: Path
) -> None:
    raw = ext4(
        tmp_path, files={"free": BYTES, "taken": BYTES[::-1], "stays": BYTES[5:], "empty": b""}
    )
    program.run("snapshot", raw, "--name", "s")
    taken = place_of(raw, BYTES[::-1][:4096])
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "taken").unlink()
        quiet("sync", "-f", top)
        # All that is free but for one file's blocks, which are deleted last.
        with contextlib.suppress(OSError):
            for number in range(100_000):
                with (top / f"new{number}").open("wb", buffering=0) as file:
                    file.write(b"new!" * 5000)
                    os.fsync(file.fileno())
        (top / "free").unlink()
    assert raw.read_bytes()[taken : taken + len(BYTES)].count(b"new!") > len(BYTES) // 8
    told = {
        each["path"]: each
        for each in recovered(program, "-r", "s", "--from", raw, "-o", tmp_path / "out")
    }
    assert {path: each["verdict"] for path, each in told.items()} == {
        # Nothing of it lay anywhere, so that there is nothing to doubt.
        "/empty": "verified",
        "/free": "unverifiable", "/stays": "unverifiable", "/taken": "reallocated",
    }  # fmt: skip
    assert "cannot be known" in told["/free"]["detail"]
    assert (tmp_path / "out" / "free").read_bytes() == BYTES
    lost = [each for each in told["/taken"]["ranges"] if each["cause"] == "reallocated"]
    assert all(each["owner"].startswith("/new") for each in lost)
    # A node of a tree of extents may lie there too: that is no file's.
    assert sum(each["stop"] - each["start"] for each in lost) >= len(BYTES) // 2
    # Of what is another file's, nothing is given away.
    assert b"new!" not in (tmp_path / "out" / "taken.partial").read_bytes()
    said = program.run(
        "recover", "s:/taken", "--from", raw, "-o", tmp_path / "out" / "taken", "--force", code=5
    ).stdout
    assert said.startswith(f"reallocated  /taken -> {tmp_path / 'out' / 'taken'}.partial\n    [")
    assert "now of /new" in said


def test_a_number_that_was_given_again_is_another_file(program: Program, tmp_path: Path) -> None:
    """ext4 gives the number of a deleted file to the next one, and often its blocks."""
    raw = ext4(tmp_path, files={"d/old": BYTES})
    program.run("snapshot", raw, "--name", "s")
    before = program.sql("SELECT inode FROM snapshot_files WHERE size_bytes > 0")[0]["inode"]
    before_place = place_of(raw, BYTES[:4096])
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "d/old").unlink()
        quiet("sync", "-f", top)
        (top / "d/new").write_bytes(BYTES[::-1])
        assert (top / "d/new").stat().st_ino == before
    place = place_of(raw, BYTES[::-1][:4096])
    assert place == before_place, "the new file lies elsewhere"
    (told,) = recovered(program, "s:/d/old", "--from", raw, "-o", tmp_path / "out")
    assert told["verdict"] == "reallocated"
    assert {each["owner"] for each in told["ranges"]} == {"/d/new"}


def test_files_that_share_blocks_are_not_said_to_have_taken_them(
    program: Program, tmp_path: Path
) -> None:
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(320 * MIB)
    quiet("mkfs.xfs", "-q", "-f", "-m", "reflink=1", raw)
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "x").write_bytes(BYTES)
        quiet("cp", "--reflink=always", top / "x", top / "same")
    program.run("snapshot", raw, "--name", "s")
    program.run("snapshot", raw, "--name", "hashed", "--hash")
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "x").unlink()
    (told,) = recovered(program, "s:/x", "--from", raw, "-o", tmp_path / "out")
    assert told["verdict"] == "unverifiable"
    (told,) = recovered(program, "hashed:/x", "--from", raw, "-o", tmp_path / "out2", code=0)
    assert told["verdict"] == "verified"
    assert (tmp_path / "out").read_bytes() == (tmp_path / "out2").read_bytes() == BYTES


def test_what_lies_in_the_inode_is_in_the_snapshot(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, "-I", "512", "-O", "inline_data", files={"x": b"inline" * 20})
    program.run("snapshot", raw, "--name", "s")
    with loop_mounted(raw, tmp_path / "mount") as top:
        program.run("snapshot", raw, "--name", "live")
        (top / "x").unlink()
    for name in ("s", "live"):
        (told,) = recovered(program, f"{name}:/x", "--from", raw, "-o", tmp_path / name, code=0)
        assert told["verdict"] == "verified"
        assert (tmp_path / name).read_bytes() == b"inline" * 20


def test_compressed_and_resident_files_of_ntfs(program: Program, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    make_ntfs(raw)
    text = b"a line that is the same as others\n" * 20_000
    with ntfs_3g(raw, tmp_path / "mount") as top:
        (top / "c").mkdir()
        # FILE_ATTRIBUTE_COMPRESSED, so that what is made in it is compressed.
        os.setxattr(top / "c", "system.ntfs_attrib_be", (0x810).to_bytes(4, "big"))
        (top / "c" / "text").write_bytes(text)
        (top / "small").write_bytes(b"resident")
        (top / "large").write_bytes(BYTES)
    program.run("snapshot", raw, "--name", "s", "--hash")
    with ntfs_3g(raw, tmp_path / "mount") as top:
        for path in ("c/text", "small", "large"):
            (top / path).unlink()
    told = {
        each["path"]: each
        for each in recovered(program, "-r", "s", "--from", raw, "-o", tmp_path / "out")
    }
    assert {path: each["verdict"] for path, each in told.items()} == {
        "/c/text": "absent", "/small": "verified", "/large": "verified",
    }  # fmt: skip
    assert "compressed" in told["/c/text"]["detail"]
    assert (tmp_path / "out" / "small").read_bytes() == b"resident"
    assert (tmp_path / "out" / "large").read_bytes() == BYTES


def test_a_file_system_that_was_made_anew(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"x": BYTES})
    program.run("snapshot", raw, "--name", "s")
    program.run("snapshot", raw, "--name", "hashed", "--hash")
    quiet("mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-b", "1024", raw)
    refused = program.run("recover", "s:/x", "--from", raw, "-o", tmp_path / "out", code=4)
    assert "without hashes nothing would tell" in refused.stderr
    program.run("recover", "hashed:/x", "--from", raw, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES
    with raw.open("r+b") as file:
        # Not even that is there any more.
        file.write(bytes(4096))
    told = program.run("recover", "hashed:/x", "--from", raw, "-o", tmp_path / "again")
    assert "no file system that is known" in told.stderr
    raw.write_bytes(raw.read_bytes()[: 4 * MIB])
    place = recovered(program, "hashed:/x", "--from", raw, "-o", tmp_path / "cut")[0]
    assert place["verdict"] in {"absent", "partial"}


# -- what is gone --------------------------------------------------------------------


def test_what_is_gone_since_is_listed_and_recovered(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"a/x": b"x", "a/y": b"yy", "b/z": b"zzz", "stays": b"s"})
    program.run("snapshot", raw, "--name", "s", "--hash")
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "a/x").unlink()
        (top / "b/z").unlink()
        (top / "b").rmdir()
        (top / "stays").write_bytes(b"other")
        # Of a mounted one it is told by its mount.
        listed = program.json("recover", "s", "--deleted", "--from", raw)
    assert {each["path"]: each["size"] for each in listed} == {"/a/x": 1, "/b/z": 3}
    assert program.json("recover", "s:/a", "--deleted", "--from", raw) == [
        each for each in listed if each["path"] == "/a/x"
    ]
    shown = program.run("recover", "s", "--deleted").stdout.splitlines()
    assert [line.split()[0] + line.split()[-1] for line in shown] == ["1/a/x", "3/b/z"]
    program.run("recover", "-r", "s", "--deleted", "--from", raw, "-o", tmp_path / "out")
    found = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found == ["x", "z"]


# -- where to, and where from -----------------------------------------------------------


def test_nothing_is_written_onto_what_files_are_got_back_from(
    program: Program, tmp_path: Path
) -> None:
    raw = ext4(tmp_path, files={"x": BYTES})
    program.run("snapshot", raw, "--name", "s", "--hash")
    link = tmp_path / "link"
    with loop_mounted(raw, tmp_path / "mount") as top:
        link.symlink_to(top)
        device = quiet("findmnt", "-n", "-o", "SOURCE", top).strip()
        inner = top / "inner.raw"
        with inner.open("wb") as file:
            file.truncate(8 * MIB)
        quiet("mkfs.ext4", "-q", "-F", inner)
        with loop_mounted(inner, tmp_path / "inner") as below:
            for source in (raw, device):
                for out in (top / "out", link / "out", below / "out"):
                    told = program.run("recover", "s:/x", "--from", source, "-o", out, code=4)
                    assert "write to another disk" in told.stderr
                    program.run("recover", "-r", "s", "--from", source, "-o", out, code=4)
                    assert not out.exists()
        program.run("recover", "s:/x", "--from", device, "-o", tmp_path / "out")
        for out in (raw, device):
            program.run("recover", "s:/x", "--from", raw, "-o", out, "--force", code=4)
    assert (tmp_path / "out").read_bytes() == BYTES


def test_names_in_a_catalog_lead_nowhere_else(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"d/x": BYTES})
    program.run("snapshot", raw, "--name", "s", "--hash")
    (tmp_path / "out").mkdir()
    for name in ("../x", "..", "/etc/x"):
        with contextlib.closing(sqlite3.connect(program.catalog)) as connection:
            connection.execute("UPDATE file_names SET name = ? WHERE name IN ('x', '../x', '..')",
                               (name,))  # fmt: skip
            connection.commit()
        told = program.run("recover", "-r", "s", "--from", raw, "-o", tmp_path / "out", code=6)
        assert "is no name of a file" in told.stderr
    assert sorted(path.name for path in tmp_path.rglob("x")) == []


def test_a_link_out_of_the_target_is_not_followed(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"d/x": BYTES})
    program.run("snapshot", raw, "--name", "s", "--hash")
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "elsewhere")
    told = program.run("recover", "-r", "s", "--from", raw, "-o", tmp_path / "out", code=5)
    assert f"{tmp_path}/out/d: is there, and is no directory" in told.stderr
    assert os.listdir(tmp_path / "elsewhere") == []


def test_nothing_is_written_through_a_driver_onto_the_image_that_it_has(
    program: Program, tmp_path: Path
) -> None:
    raw = tmp_path / "disk.raw"
    make_ntfs(raw)
    with ntfs_3g(raw, tmp_path / "mount") as top:
        (top / "x").write_bytes(BYTES)
    program.run("snapshot", raw, "--name", "s", "--hash")
    with ntfs_3g(raw, tmp_path / "mount") as top:
        told = program.run("recover", "s:/x", "--from", raw, "-o", top / "out", code=4)
        assert "write to another disk" in told.stderr


def test_an_image_of_used_blocks_is_refused_and_the_older_backup_offered(
    program: Program, tmp_path: Path
) -> None:
    raw = ext4(tmp_path, files={"x": BYTES})
    image = tmp_path / "old.img"
    quiet("partclone.ext4", "-c", "-s", raw, "-o", image, "-L", tmp_path / "log")
    program.run("add", "-q", image)
    program.run("index", "-q", "old")
    refused = program.run("snapshot", image, code=4)
    assert "only what files use" in refused.stderr
    program.run("snapshot", raw, "--name", "s", "--hash")
    for source in ("old", image):
        (told,) = recovered(program, "s:/x", "--from", source, "-o", tmp_path / "out", code=4)
        assert told["verdict"] == "absent"
        assert "only what files use" in told["detail"]
        assert "backups that have it: old" in told["detail"]
    assert not (tmp_path / "out").exists()


def test_an_image_that_was_written_since_it_was_added(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"x": BYTES})
    program.run("add", "-q", raw)
    program.run("snapshot", raw, "--name", "s", "--hash")
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "x").unlink()
        (top / "y").write_bytes(b"y")
    # The catalog knows it as it was; a disk is written, or nothing would have to come back.
    program.run("recover", "s:/x", "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES
    assert (
        "rescan"
        in program.run("recover", "s:/x", "--from", "disk", "-o", tmp_path / "again", code=5).stderr
    )
    program.run("rescan", "-q", "disk")
    program.run("recover", "s:/x", "--from", "disk", "-o", tmp_path / "again")
    # What a snapshot has is found as what an image has.
    assert [each["path"] for each in program.json("find", "x")] == ["/x"]


@pytest.mark.parametrize("form", ["vpc", "qcow2"])
def test_from_virtual_disks(program: Program, tmp_path: Path, form: str) -> None:
    raw = ext4(tmp_path, files={"x": BYTES, "gone": BYTES[::-1]})
    before, after = tmp_path / f"before.{form}", tmp_path / f"after.{form}"
    quiet("qemu-img", "convert", "-O", form, raw, before)
    program.run("add", "-q", before)
    told = program.json("snapshot", before, "--name", "s", "--hash")
    assert told["source_kind"] == {"vpc": "vhd"}.get(form, form)
    program.run("snapshot", before, "--name", "plain")
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "gone").unlink()
    quiet("qemu-img", "convert", "-O", form, raw, after)
    program.run("recover", "s:/gone", "--from", after, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES[::-1]


def test_a_restored_file_is_found_by_the_number_that_it_has_now(
    program: Program, tmp_path: Path
) -> None:
    """A version stands in two generations, and its file has another number in each."""
    raw = ext4(tmp_path, "-U", "6b1f5d26-2a5c-4a55-9d4e-1b0a7a3d0001", files={})
    other = tmp_path / "other"
    other.mkdir()
    second = ext4(other, "-U", "6b1f5d26-2a5c-4a55-9d4e-1b0a7a3d0001", files={})
    for volume, names in ((raw, ("a", "b")), (second, ("b", "x", "a"))):
        with loop_mounted(volume, tmp_path / "mount") as top:
            for name in names:
                (top / name).write_bytes(name.encode() * 5000)
                (top / name).chmod(0o644)
                os.utime(top / name, ns=(0, 10**18))
    program.run("snapshot", raw, "--name", "one", "--hash")
    program.run("snapshot", second, "--name", "two", "--hash")
    assert program.sql("SELECT count(*) AS n FROM file_versions WHERE mode >> 12 = 8") == [{"n": 3}]
    for snapshot, source in (("one", raw), ("two", second)):
        out = tmp_path / snapshot
        program.run("recover", "-r", snapshot, "--from", source, "-o", out)
        for name in ("a", "b"):
            assert (out / name).read_bytes() == name.encode() * 5000
    # And still, once the first is forgotten.
    program.run("snapshot", "--forget", "one")
    program.run("recover", "-r", "two", "--from", second, "-o", tmp_path / "again")
    assert (tmp_path / "again" / "a").read_bytes() == b"a" * 5000
    assert program.run("db", "check").returncode == 0


# -- states ----------------------------------------------------------------------------


def test_how_the_file_system_was_is_kept_and_shown(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"x": BYTES})
    crashed = tmp_path / "crashed.raw"
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "y").write_bytes(BYTES)
        quiet("sync", "-f", top)
        quiet("cp", "--sparse=always", raw, crashed)
        program.run("snapshot", raw, "--name", "mounted")
        device = quiet("findmnt", "-n", "-o", "SOURCE", top).strip()
        program.run("snapshot", device, "--name", "device")
    with loop_mounted(raw, tmp_path / "mount", "ro"):
        program.run("snapshot", raw, "--name", "read-only")
    program.run("snapshot", raw, "--name", "clean")
    program.run("snapshot", crashed, "--name", "crashed")
    program.run("snapshot", crashed, "--name", "as-is", "--as-is")
    told = {each["name"]: each for each in program.json("snapshot")}
    assert {name: each["state"] for name, each in told.items()} == {
        "mounted": "mounted", "device": "mounted", "read-only": "mounted read-only",
        "clean": "clean", "crashed": "journal replayed", "as-is": "journal not replayed",
    }  # fmt: skip
    assert {name for name, each in told.items() if each["caveat"]} == {
        "mounted", "device", "crashed", "as-is",
    }  # fmt: skip
    assert told["mounted"]["files"] == told["clean"]["files"] == 3
    shown = program.run("snapshot")
    assert "journal replayed" in shown.stdout
    assert "mounted: it was mounted at" in shown.stderr
    again = program.run("recover", "crashed:/x", "--from", crashed, "-o", tmp_path / "o", code=5)
    assert "its journal was replayed in memory" in again.stderr


def test_what_is_mounted_and_does_not_tell_where_files_lie_is_refused(
    program: Program, tmp_path: Path
) -> None:
    btrfs = tmp_path / "btrfs.raw"
    with btrfs.open("wb") as file:
        file.truncate(128 * MIB)
    quiet("mkfs.btrfs", "-q", btrfs)
    with loop_mounted(btrfs, tmp_path / "mount"):
        assert "btrfs" in program.run("snapshot", btrfs, code=4).stderr
    assert "btrfs" in program.run("snapshot", btrfs, code=4).stderr
    exfat = tmp_path / "exfat.raw"
    with exfat.open("wb") as file:
        file.truncate(32 * MIB)
    quiet("mkfs.exfat", exfat)
    with exfat_fuse(exfat, tmp_path / "exfat"):
        told = program.run("snapshot", exfat, code=4)
        assert "unmount it, or mount it read-only" in told.stderr


def test_a_device_cannot_be_mounted_while_its_snapshot_is_taken(
    program: Program, tmp_path: Path
) -> None:
    raw = ext4(tmp_path, files={"x": BYTES})
    (tmp_path / "mount").mkdir(exist_ok=True)
    with loop_device(raw) as device:
        program.run("snapshot", device, "--name", "s", "--hash")
        fd = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            # What else claims it, as a mount in another namespace does.
            told = program.run("snapshot", device, code=4)
        finally:
            os.close(fd)
        assert "something else uses it" in told.stderr
        program.run("recover", "s:/x", "--from", device, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES


def test_names_and_sources_that_cannot_be(program: Program, tmp_path: Path) -> None:
    raw = ext4(tmp_path, files={"x": b"x"})
    program.run("snapshot", raw, "--name", "s")
    assert "of that name" in program.run("snapshot", raw, "--name", "s", code=2).stderr
    program.run("add", "-q", raw)
    program.run("snapshot", raw, "--name", "disk", code=2)
    program.run("snapshot", raw, "--name", "a//b", code=2)
    program.run("snapshot", tmp_path / "none", code=3)
    program.run("snapshot", "--forget", "none", code=3)
    empty = tmp_path / "empty.raw"
    empty.write_bytes(bytes(1 << 20))
    program.run("snapshot", empty, code=4)
    named = program.run("snapshot", "disk").stdout
    assert named.startswith("disk-20")
    program.run("snapshot", "--forget", "s")
    assert [each["name"] for each in program.json("snapshot")] == [named.partition(":")[0]]
