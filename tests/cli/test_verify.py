"""`imgcat verify`: found, said, recorded, and asked for in SQL."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, Written, write
from support.small_disk import SmallDisk
from support.streams import compress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.program import Program

RECIPE = Recipe(present=[True, False, True, True] * 40, block_size=4096, blocks_per_checksum=4)


@pytest.fixture
def written() -> Written:
    return write(RECIPE)


def _flip(path: Path, offset: int) -> None:
    """Change one bit; size and time stay, as on a disk that forgets."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        (octet,) = file.read(1)
        file.seek(offset)
        file.write(bytes([octet ^ 16]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_right_image(program: Program, tmp_path: Path, written: Written) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(written.image)
    program.run("add", path)
    assert program.json("ls")[0]["verify_result"] is None
    said = program.run("verify", "a")
    assert said.stdout == "ok        a: right: every crc32\n"
    (listed,) = program.json("ls")
    assert listed["verify_result"] == "ok"
    assert listed["verified_at"] is not None


def test_damage_is_said_recorded_and_asked_for(
    program: Program, tmp_path: Path, written: Written
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.img").write_bytes(written.image)
    (tmp_path / "b.img").write_bytes(write(Recipe(present=[True] * 9, checksum="NONE")).image)
    program.run("add", *(tmp_path / f"{name}.img" for name in "abc"))
    # The third group: the used blocks 8 to 11, which are blocks 11, 12, 14 and 15 of the guest.
    _flip(tmp_path / "c.img", written.block_offsets[11] + 7)
    said = program.run("verify", "--all", code=5)
    assert said.stdout == (
        "ok        a: right: every crc32\n"
        "ok        b: right: structure, there are no checksums\n"
        "BAD       c: 1 bad place found; checked: every crc32\n"
        "3 images: 2 right, 1 bad, 0 not verified\n"
    )
    start, stop = 11 * 4096, 16 * 4096
    assert f"imgcat: c: guest bytes [{start}, {stop}): checksum 2 is " in said.stderr
    assert [row["verify_result"] for row in program.json("ls")] == ["ok", "ok", "bad"]
    query = "SELECT name, start_byte, stop_byte FROM bad_ranges JOIN images ON id = image_id"
    assert program.json("sql", query) == [{"name": "c", "start_byte": start, "stop_byte": stop}]
    assert program.json("sql", "SELECT name, what FROM attention") == [
        {"name": "c", "what": "verify bad"}
    ]
    (bad,) = program.json("show", "c")["bad_ranges"]
    assert (bad["start"], bad["stop"]) == (start, stop)
    assert f"[{start}, {stop})" in program.run("show", "c").stdout


def test_what_was_mended_is_right_again(program: Program, tmp_path: Path, written: Written) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(written.image)
    program.run("add", "--verify", path)
    _flip(path, len(written.image) - 1)
    report = program.run("verify", "--json", "a", code=5)
    assert '"result": "bad"' in report.stdout
    assert report.stderr == ""
    _flip(path, len(written.image) - 1)
    assert program.run("verify", "a").stdout.startswith("ok ")
    assert program.json("sql", "SELECT * FROM bad_ranges") == []


def test_compressed_images_are_verified_while_they_are_added(
    program: Program, tmp_path: Path, written: Written
) -> None:
    damaged = bytearray(written.image)
    damaged[-1] ^= 16
    for name, image in [("a", written.image), ("b", bytes(damaged))]:
        (tmp_path / f"{name}.img.zst").write_bytes(compress("zstd", image))
    said = program.run("add", "--verify", *sorted(tmp_path.glob("*.zst")), code=5)
    lines = [line for line in said.stdout.splitlines() if line.startswith(("ok", "BAD"))]
    assert [line.split(":")[0].split() for line in lines] == [["ok", "a"], ["BAD", "b"]]
    rows = program.json("ls")
    assert [row["verify_result"] for row in rows] == ["ok", "bad"]
    assert all(row["verified_at"] for row in rows)
    # Asked again, they say the same.
    assert program.run("verify", "--all", code=5).stdout.splitlines()[:2] == lines
    assert len(program.json("sql", "SELECT * FROM bad_ranges")) == 1


def test_an_image_that_is_another_now_is_not_verified(
    program: Program, tmp_path: Path, written: Written
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.img").write_bytes(written.image)
    program.run("add", tmp_path / "a.img", tmp_path / "b.img")
    program.run("verify", "--all")
    (tmp_path / "a.img").write_bytes(written.image + b"more")
    said = program.run("verify", "--all", code=5)
    assert "a.img: is not the file that was scanned" in said.stderr
    assert said.stdout.endswith("2 images: 1 right, 0 bad, 1 not verified\n")
    (tmp_path / "b.img").unlink()
    assert "No such file" in program.run("verify", "b", code=5).stderr


def test_usage(program: Program, tmp_path: Path, written: Written) -> None:
    (tmp_path / "a.img").write_bytes(written.image)
    program.run("add", tmp_path / "a.img")
    program.run("verify", code=2)
    program.run("verify", "--all", "a", code=2)
    program.run("verify", "nothing", code=3)
    assert program.run("-q", "verify", "a").stdout == ""


def test_what_is_due_comes_oldest_first_and_within_a_budget(
    program: Program, tmp_path: Path
) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.img").write_bytes(write(Recipe(present=[True, False] * 30)).image)
    program.run("add", *(tmp_path / f"{name}.img" for name in "abcd"))
    program.run("verify", "a", "b", "c")
    days = {"a": 40, "b": 50, "c": 10}
    for name, count in days.items():
        program.run_python(
            "import sqlite3, os; c = sqlite3.connect(os.environ['IMGCAT_DB']);"
            "c.execute(\"UPDATE images SET verified_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now',"
            f" '-{count} days') WHERE name = '{name}'\"); c.commit()"
        )
    said = program.run("verify", "--all", "--older-than", "30d", "--budget", "0s")
    assert said.stderr == "imgcat: 3 images are left for the next time: the budget is spent\n"
    assert said.stdout == "3 images: 0 right, 0 bad, 0 not verified, 3 left\n"
    found = program.json("verify", "--all", "--older-than", "30d", "--budget", "1h")
    assert [each["name"] for each in found] == ["d", "b", "a"]
    assert (
        program.run("verify", "--all", "--older-than", "30d").stderr == "imgcat: nothing is due\n"
    )
    program.run("verify", "--all", "--older-than", "soon", code=2)


def checksummed(place: Path) -> SmallDisk:
    """A directory of Clonezilla with the checksums that coreutils make of its files."""
    disk = SmallDisk(place)
    for tool in ("md5sum", "sha256sum"):
        names = sorted(each.name for each in place.iterdir() if not each.name.endswith("SUMS"))
        said = subprocess.run([tool, *names], cwd=place, capture_output=True, check=True).stdout
        (place / f"{tool[:-3].upper()}SUMS").write_bytes(said)
    return disk


def test_sums_of_a_right_directory_are_recorded(program: Program, tmp_path: Path) -> None:
    checksummed(tmp_path / "laptop")
    program.run("add", tmp_path / "laptop")
    said = program.run("verify", "--sums", "laptop/*")
    assert said.stdout.splitlines() == [
        f"ok        {tmp_path}/laptop/MD5SUMS: 8 right, 0 not",
        f"ok        {tmp_path}/laptop/SHA256SUMS: 8 right, 0 not",
        "ok        laptop/sda1: right: every crc32, and SHA256SUMS",
        "ok        laptop/sda2: right: SHA256SUMS, and structure",
        "ok        laptop/sda.disk: right: every part",
        "3 images: 3 right, 0 bad, 0 not verified",
    ]
    assert said.stderr == ""
    assert program.sql("SELECT name, verify_detail FROM images WHERE path IS NOT NULL") == [
        {"name": "laptop/sda1", "verify_detail": "right: every crc32, and SHA256SUMS"},
        {"name": "laptop/sda2", "verify_detail": "right: SHA256SUMS, and structure"},
    ]
    assert {each["result"] for each in program.json("verify", "--sums", "laptop/*")} == {"ok"}


def test_a_sum_that_is_wrong_is_a_verdict(program: Program, tmp_path: Path) -> None:
    """What lies between the data of an ntfsclone image has no other checksum."""
    disk = checksummed(tmp_path / "laptop")
    program.run("add", tmp_path / "laptop")
    _flip(disk.second_image, disk.second_image.stat().st_size // 2)
    said = program.run("verify", "--sums", "laptop/*", code=5)
    assert "laptop/sda1: right: every crc32, and SHA256SUMS" in said.stdout
    assert "BAD       laptop/sda2: 1 bad place found" in said.stdout
    assert "laptop/sda2: structure: MD5SUMS: sda2.ntfs-img: the md5 checksum is" in said.stderr
    ((detail,),) = (
        row.values() for row in program.sql("SELECT detail FROM bad_ranges WHERE image_id = 2")
    )
    assert detail.startswith("MD5SUMS: sda2.ntfs-img: the md5 checksum is")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    place, where = tmp_path / "shelf", tmp_path / "disc"
    place.mkdir()
    where.mkdir()
    subprocess.run(["mount", "--bind", place, where], check=True)
    yield place
    subprocess.run(["umount", "-l", where], check=True)


def test_with_a_catalog_that_cannot_be_written_results_are_told(
    program: Program, tmp_path: Path, read_only: Path, written: Written
) -> None:
    (read_only / "a.img").write_bytes(written.image)
    (read_only / "b.img").write_bytes(written.image)
    program.run("--db", read_only / "c.db", "add", "--relative", "-r", read_only)
    _flip(read_only / "b.img", written.block_offsets[11] + 7)
    disc = tmp_path / "disc"
    subprocess.run(["mount", "-o", "remount,ro,bind", disc], check=True)
    said = program.run("--db", disc / "c.db", "verify", "--all", code=5)
    assert said.stdout.splitlines()[0] == "ok        a: right: every crc32"
    assert said.stdout.splitlines()[1].startswith("BAD       b: 1 bad place found")
    assert said.stderr.splitlines()[0] == (
        f"imgcat: {disc}/c.db: cannot be written: results are not recorded"
    )
    listed = program.json("--db", disc / "c.db", "ls")
    assert [each["verified_at"] for each in listed] == [None, None]


def test_what_cannot_be_verified_is_in_the_document(
    program: Program, tmp_path: Path, written: Written
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.img").write_bytes(written.image)
    program.run("add", tmp_path / "a.img", tmp_path / "b.img")
    (tmp_path / "a.img").unlink()
    result = program.run("verify", "--all", "--json", code=5)
    (first, second) = json.loads(result.stdout)
    assert (first["name"], first["result"]) == ("a", "not verified")
    assert "a.img" in first["detail"]
    assert (second["name"], second["result"]) == ("b", "ok")


def test_threads_and_what_is_under_way(program: Program, tmp_path: Path, written: Written) -> None:
    (tmp_path / "a.img").write_bytes(written.image)
    program.run("add", tmp_path / "a.img")
    for jobs in ("1", "3"):
        assert "every crc32" in program.run("verify", "-j", jobs, "a").stdout
        assert "every crc32" in program.run("verify", "--jobs", jobs, "a").stdout
    program.run("verify", "-j", "0", "a", code=2)
    assert "imgcat: a: verifying" in program.run("-v", "verify", "a").stderr
