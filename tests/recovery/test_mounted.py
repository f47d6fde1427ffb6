"""Snapshots of what is mounted: places against those of filefrag; files that change meanwhile."""

from __future__ import annotations

import os
import random
import re
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.recovery.runs import unpack
from imgcat.catalog.store import Catalog
from imgcat.filesystems.errors import RefusedError
from imgcat.filesystems.fiemap import map_file
from imgcat.filesystems.mounted import MountedVolume
from imgcat.filesystems.mounts import below, mounts, mounts_of
from support.files_inside import loop_mounted
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

RANDOM = random.Random(29)
KINDS = [
    ("mkfs.ext2 -q -F -b 1024", 64), ("mkfs.ext4 -q -F -b 4096", 64),
    ("mkfs.ext4 -q -F -O bigalloc,inline_data -C 16384 -I 512", 64),
    ("mkfs.xfs -q -f -b size=1024", 320),
]  # fmt: skip


def make(place: Path, words: str, size: int) -> Path:
    raw = place / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(size * MIB)
    quiet(*words.split(), raw)
    return raw


def fill(top: Path) -> dict[str, bytes]:
    """Write files of many shapes; return what they hold."""
    files: dict[str, bytes] = {"empty": b"", "tiny": b"t", "plain": RANDOM.randbytes(500_001)}
    for path, data in files.items():
        (top / path).write_bytes(data)
    part = RANDOM.randbytes(70_000)
    with (top / "sparse").open("wb", buffering=0) as file:
        os.pwrite(file.fileno(), part, 300_000)
        os.ftruncate(file.fileno(), 900_000)
    files["sparse"] = bytes(300_000) + part + bytes(530_000)
    with (top / "allocated").open("wb", buffering=0) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, 200_000)
        finally:
            os.pwrite(file.fileno(), part[:10_000], 40_000)
    files["allocated"] = bytes(40_000) + part[:10_000] + bytes(150_000)
    pieces = bytearray(8192 * 700)
    with (top / "pieces").open("wb", buffering=0) as file:
        for number in range(700):
            data = b"%016d" % number * 64
            os.pwrite(file.fileno(), data, number * 8192)
            pieces[number * 8192 : number * 8192 + 1024] = data
        os.ftruncate(file.fileno(), len(pieces))
    files["pieces"] = bytes(pieces)
    return files


def by_filefrag(path: Path) -> list[tuple[int, int, int, set[str]]]:
    """Return logical offset, physical offset, length and flags of extents, in bytes."""
    text = quiet("filefrag", "-e", "-v", "-b1", "-s", path)
    found = []
    for line in text.splitlines():
        row = re.match(
            r"\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*(\d+)\.\.\s*(\d+):\s*(\d+):\s*(?:\d+:)?\s*(\S*)$", line
        )
        if row is not None:
            logical, _end, physical, _stop, length = map(int, row.groups()[:5])
            found.append((logical, physical, length, set(row[6].split(","))))
    return found


@pytest.mark.parametrize(("words", "size"), KINDS, ids=["ext2", "ext4", "bigalloc", "xfs"])
def test_places_are_those_that_filefrag_tells(tmp_path: Path, words: str, size: int) -> None:
    raw = make(tmp_path, words, size)
    with loop_mounted(raw, tmp_path / "mount") as top:
        files = fill(top)
        quiet("sync", "-f", top)
        for path, data in files.items():
            with (top / path).open("rb") as file:
                runs = map_file(file.fileno(), len(data), sync=True)
            told = by_filefrag(top / path)
            if runs is None:
                assert any("inline" in flags for *_rest, flags in told)
                continue
            assert sum(length for _start, length, _place in runs) == len(data)
            expected = {
                logical + at: physical + at
                for logical, physical, length, flags in told
                if "unwritten" not in flags
                for at in range(0, min(length, len(data) - logical), 1024)
            }
            found = {
                start + at: place + at
                for start, length, place in runs
                if place >= 0
                for at in range(0, length, 1024)
            }
            assert found == expected, path
        assert len(by_filefrag(top / "pieces")) > 100 or "bigalloc" in words
    # And what lies there is what the files hold.
    image = raw.read_bytes()
    for path, data in files.items():
        assert path in {"tiny", "empty"} or data[300_001:300_500] in image


@pytest.mark.parametrize(("words", "size"), KINDS, ids=["ext2", "ext4", "bigalloc", "xfs"])
def test_a_snapshot_of_a_mounted_disk_is_that_of_the_unmounted_one(
    program: Program, tmp_path: Path, words: str, size: int
) -> None:
    """By the kernel, and by our own reader of the volume: the same files, places and hashes."""
    raw = make(tmp_path, words, size)
    with loop_mounted(raw, tmp_path / "mount") as top:
        files = fill(top)
        (top / "d" / "e").mkdir(parents=True)
        (top / "d" / "e" / "x").write_bytes(b"x" * 100_000)
        os.link(top / "plain", top / "d" / "same")
        os.symlink("plain", top / "link")
        program.run("snapshot", raw, "--name", "mounted", "--hash")
    program.run("snapshot", raw, "--name", "clean", "--hash")
    rows = {
        name: program.sql(
            "SELECT inode, f.size_bytes, runs, data, hashes, why FROM snapshot_files AS f"
            f" JOIN file_generations ON id = generation_id WHERE snapshot_name = '{name}'"
        )
        for name in ("mounted", "clean")
    }
    assert rows["mounted"] == rows["clean"]
    names = program.sql(
        "SELECT directory_id, name_id, inode FROM snapshot_names"
        " GROUP BY 1, 2, 3 HAVING count(*) <> 2"
    )
    assert names == []
    # Nothing is new in the second, for nothing has changed.
    assert program.sql("SELECT count(*) AS n FROM file_versions WHERE first_generation = 2") == [
        {"n": 0}
    ]
    with loop_mounted(raw, tmp_path / "mount") as top:
        for path in files:
            (top / path).unlink()
        # From the mounted disk itself.
        device = quiet("findmnt", "-n", "-o", "SOURCE", top).strip()
        program.run("recover", "-r", "mounted", "--from", device, "-o", tmp_path / "out")
    for path, data in files.items():
        assert (tmp_path / "out" / path).read_bytes() == data, path
    assert (tmp_path / "out" / "d" / "same").read_bytes() == files["plain"]


def test_a_hash_vouches_for_what_the_file_held_whatever_is_written_meanwhile(
    program: Program, tmp_path: Path
) -> None:
    """Files are written anew all the time; of what is verified later, each is one of its states."""
    raw = make(tmp_path, "mkfs.ext4 -q -F -b 1024", 64)
    ended = threading.Event()
    with loop_mounted(raw, tmp_path / "mount") as top:
        held: dict[str, set[bytes]] = {f"f{number}": set() for number in range(30)}

        def write() -> None:
            turn = 0
            while not ended.is_set():
                for name, states in held.items():
                    turn += 1
                    data = (b"%s %09d " % (name.encode(), turn)) * 5000
                    states.add(data)
                    fresh = top / f"{name}.new"
                    fresh.write_bytes(data)
                    fresh.rename(top / name)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(3):
                program.start("snapshot", raw, "--name", f"s{number}", "--hash").wait(120)
        finally:
            ended.set()
            writer.join()
    kept = 0
    for number in range(3):
        out = tmp_path / f"out{number}"
        # Whatever its verdicts are.
        process = program.start("recover", "-r", f"s{number}", "--from", raw, "-o", out)
        told, _errors = process.communicate(timeout=120)
        for line in told.decode().splitlines():
            if line.startswith("verified"):
                path = out / line.split()[1][1:]
                name = path.name.removesuffix(".new")
                if name in held and path.stat().st_size:
                    kept += 1
                    data = path.read_bytes()
                    if path.name == name:
                        assert data in held[name]
                    else:
                        # It may have been looked at amid a write, of which it had the beginning.
                        assert any(each.startswith(data) for each in held[name])
    print("verified:", kept)


def test_a_file_that_is_mounted_is_a_file_still(program: Program, tmp_path: Path) -> None:
    """Tomorrow another file may have the number of its loop device."""
    raw = make(tmp_path, "mkfs.ext4 -q -F", 64)
    data = RANDOM.randbytes(50_000)
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "x").write_bytes(data)
        by_file = program.json("snapshot", raw, "--name", "file", "--hash")
        device = quiet("findmnt", "-n", "-o", "SOURCE", top).strip()
        by_device = program.json("snapshot", device, "--name", "device")
        named = program.run("snapshot", raw).stdout
    program.run("add", "-q", "--name", "image", raw)
    with loop_mounted(raw, tmp_path / "mount") as top:
        by_image = program.json("snapshot", "image", "--name", "known")
        (top / "x").unlink()
        quiet("sync", "-f", top)
    told = [(each["source"], each["source_kind"], each["state"])
            for each in (by_file, by_device, by_image)]  # fmt: skip
    assert told == [
        (str(raw), "raw", "mounted"), (device, "device", "mounted"), ("image", "raw", "mounted"),
    ]  # fmt: skip
    assert named.startswith("disk-20")
    program.run("rescan", "-q", "image")
    other = tmp_path / "other"
    other.mkdir()
    second = make(other, "mkfs.ext4 -q -F", 64)
    # Whatever the loop devices are by now.
    with loop_mounted(second, tmp_path / "second"):
        (listed,) = program.json("recover", "--deleted", "file")
        assert listed["path"] == "/x"
        program.run("recover", "file:/x", "-o", tmp_path / "out")
    with loop_mounted(raw, tmp_path / "mount"):
        # Mounted again, it is read by its mount.
        (listed,) = program.json("recover", "--deleted", "file")
        assert listed["path"] == "/x"
        program.run("recover", "file:/x", "-o", tmp_path / "again")
        told_again = program.run("recover", "file:/x", "-o", tmp_path / "mount" / "x", code=4)
        assert f"lies on {raw}, out of which" in told_again.stderr
    assert (tmp_path / "out").read_bytes() == (tmp_path / "again").read_bytes() == data


def test_what_is_mounted_on_top_is_left_out_and_said(tmp_path: Path) -> None:
    raw = make(tmp_path, "mkfs.ext4 -q -F", 64)
    other = tmp_path / "other"
    other.mkdir()
    second = make(other, "mkfs.ext4 -q -F", 16)
    with loop_mounted(raw, tmp_path / "mount") as top:
        (top / "d").mkdir()
        (top / "x").write_bytes(b"x")
        mount = mounts_of(top.stat().st_dev)[-1]
        with loop_mounted(second, top / "d"):
            volume = MountedVolume(mount)
            told: list[str] = []
            (root, *rest) = volume.walk(told.append)
            volume.close()
        assert set(root.names) == {b"lost+found", b"x"}
        assert [each.number for each in rest] == [1]
        # What is hidden may be there.
        assert (root.is_whole, rest[0].is_whole) == (False, True)
        assert told == ["/d: something else is mounted there, and hides what is below"]
        with loop_mounted(second, top), pytest.raises(RefusedError, match="mounted over it"):
            MountedVolume(mount)


def test_directories_too_deep_for_a_path(tmp_path: Path) -> None:
    raw = make(tmp_path, "mkfs.ext4 -q -F", 64)
    with loop_mounted(raw, tmp_path / "mount") as top:
        here = os.open(top, os.O_RDONLY)
        for _level in range(30):
            os.mkdir("n" * 200, dir_fd=here)
            below_it = os.open("n" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below_it
        os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
        volume = MountedVolume(mounts_of(top.stat().st_dev)[-1])
        seen: list[bytes] = []
        found = list(volume.walk(pytest.fail, lambda _fd, name, _status: seen.append(name)))
        volume.close()
    assert seen == [b"x"]
    assert len(found) == 32
    assert all(stat.S_ISDIR(mode) for mode in found[2].modes)


def test_the_table_of_mounts_and_what_lies_below(tmp_path: Path) -> None:
    raw = make(tmp_path, "mkfs.ext4 -q -F", 64)
    point = tmp_path / "a mount\twith\\odd"
    with loop_mounted(raw, point) as top:
        (found,) = mounts_of(top.stat().st_dev)
        assert found.point == os.fsencode(point)
        assert found.fs_type == "ext4"
        assert found.is_writable
        lies = below(str(top))
        status = raw.stat()
        assert (status.st_dev, status.st_ino) in lies.files
        assert {top.stat().st_dev, status.st_dev} <= lies.devices
        device = quiet("findmnt", "-n", "-o", "SOURCE", top).strip()
        assert below(device).devices >= {os.stat(device).st_rdev}
    assert not mounts_of(found.device)
    assert any(each.point == b"/proc" for each in mounts())


def test_runs_in_the_catalog_are_those_of_the_disk(program: Program, tmp_path: Path) -> None:
    raw = make(tmp_path, "mkfs.ext4 -q -F -b 1024", 64)
    with loop_mounted(raw, tmp_path / "mount") as top:
        files = fill(top)
        inode = (top / "plain").stat().st_ino
    program.run("snapshot", raw, "--name", "s")
    with Catalog.open(str(program.catalog)) as catalog, catalog.database.asking() as connection:
        size, packed = connection.execute(
            "SELECT size_bytes, runs FROM snapshot_files WHERE inode = ?", (inode,)
        ).fetchone()
    image = raw.read_bytes()
    data = b"".join(image[place : place + length] for _s, length, place in unpack(packed, size))
    assert data == files["plain"]
