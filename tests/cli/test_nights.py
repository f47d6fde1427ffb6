"""A shelf under cron: what each night tells, and what it does not tell again."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, write
from support.streams import compress

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

COUNT = 80


def image(seed: int) -> bytes:
    rng = random.Random(seed)
    return write(Recipe(present=[rng.random() < 0.6 for _ in range(400)])).image


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    place = tmp_path / "backups"
    for number in range(COUNT):
        folder = place / f"host{number % 10}" / ("weekly" if number % 3 else "monthly")
        folder.mkdir(parents=True, exist_ok=True)
        data = image(number)
        if number % 2:
            (folder / f"disk{number}.img").write_bytes(data)
        else:
            (folder / f"disk{number}.img.zst").write_bytes(compress("zstd", data))
    (place / "notes.txt").write_text("not an image\n")
    (place / "refused.img").write_bytes(b"partclone-image" + bytes(4000))
    return place


def night(program: Program, shelf: Path, *options: str, code: int = 0) -> tuple[str, str]:
    """Return the last line and the complaints of a night."""
    said = program.run("add", "-r", *options, shelf, code=code)
    return said.stdout.splitlines()[-1], said.stderr


def test_three_nights(program: Program, shelf: Path) -> None:
    last, said = night(program, shelf, code=4)
    assert last == (f"{COUNT} images: {COUNT} new; 1 refused; 1 other file passed over")
    assert said == (
        f"imgcat: {shelf}/refused.img: partclone.header @0x1e: format version "
        "'': versions 0001 and 0002 are read\n"
    )
    # The second night: nothing is new, and nothing is told.
    last, said = night(program, shelf)
    assert last == (
        f"{COUNT} images: {COUNT} unchanged; 1 refused, 1 of them as before; "
        "1 other file passed over"
    )
    assert said == ""
    # The third: one is damaged, one was moved, one is new.
    cut = shelf / "host3" / "monthly" / "disk33.img"
    os.truncate(cut, cut.stat().st_size - 500)
    there = shelf / "host1" / "weekly" / "disk1.img"
    there.rename(shelf / "host1" / "moved.img")
    (shelf / "host2" / "new.img").write_bytes(image(1000))
    last, said = night(program, shelf, code=5)
    assert last == (
        f"{COUNT + 1} images: 1 new, 1 updated, 1 moved, {COUNT - 2} unchanged, 1 damaged; "
        "1 refused, 1 of them as before; 1 other file passed over"
    )
    assert said.startswith(f"imgcat: {cut}: damaged: truncated at ")
    assert said.count("\n") == 1
    # The fourth tells of none of it; --strict of all.
    last, said = night(program, shelf)
    assert (said, "1 damaged" in last) == ("", True)
    last, said = night(program, shelf, "--strict", code=5)
    assert [line.split(":")[1].strip() for line in said.splitlines()] == [
        f"{shelf}/refused.img", str(cut),
    ]  # fmt: skip
    assert program.json("ls", "--status", "damaged")[0]["name"] == "host3/monthly/disk33"
    # Once it has changed, it is tried again, and forgotten where that succeeds.
    (shelf / "refused.img").write_bytes(image(2000))
    last, said = night(program, shelf)
    assert "1 new" in last
    assert "refused" not in last
    assert program.sql("SELECT * FROM passed_over") == []


def test_what_is_said_without_and_with_words(program: Program, shelf: Path) -> None:
    assert program.run("add", "-r", "-q", shelf, code=4).stdout == ""
    said = program.run("add", "-r", "-v", shelf).stderr
    assert f"imgcat: {shelf}/notes.txt: passed over: not an image\n" in said
    assert f"imgcat: {shelf}/refused.img: as before: partclone.header" in said


def test_the_document_of_a_night(program: Program, shelf: Path) -> None:
    program.run("add", "-r", "--json", shelf, code=4)
    found = program.json("add", "-r", shelf)
    assert found["summary"] == {
        "images": COUNT, "added": 0, "updated": 0, "moved": 0, "unchanged": COUNT, "damaged": 0,
        "refused": 1, "refused_news": 0, "passed_over": 1,
    }  # fmt: skip
    assert found["exit_code"] == 0
    assert found["passed_over"] == [{"path": f"{shelf}/notes.txt", "reason": "not an image"}]
    (refused,) = found["refused"]
    assert (refused["path"], refused["code"], refused["is_news"]) == (
        f"{shelf}/refused.img", 4, False,
    )  # fmt: skip
    assert {each["outcome"] for each in found["images"]} == {"unchanged"}
    assert {each["name"] for each in found["images"]} == {
        each["name"] for each in program.json("ls")
    }
    one = shelf / "host1" / "weekly" / "disk1.img"
    (only,) = program.json("add", "--verify", "--force", one)["images"]
    assert only["verified"]["result"] == "ok"


def test_what_was_passed_over_is_named_with_the_reason(program: Program, tmp_path: Path) -> None:
    place = tmp_path / "odd"
    place.mkdir()
    for name in ("vhdx", "vmdk"):
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", name, place / f"a.{name}", "4M"], check=True
        )
    (place / "empty").touch()
    (place / "t.gz").write_bytes(compress("gzip", b"words\n" * 2000))
    (place / "lost.img.gz.ab").write_bytes(random.Random(1).randbytes(9000))
    os.mkfifo(place / "pipe")
    found = program.json("add", "-r", place)
    reasons = {os.path.basename(each["path"]): each["reason"] for each in found["passed_over"]}
    assert reasons == {
        "a.vhdx": "VHDX is not read: `qemu-img convert -O qcow2` makes what is",
        "a.vmdk": "VMDK is not read: `qemu-img convert -O qcow2` makes what is",
        "empty": "empty",
        "t.gz": "gzip, and no image in it",
        "lost.img.gz.ab": "a part of a split image of which lost.img.gz.aa is lost",
        "pipe": "not a file",
    }


def test_raw_images_are_found_plain_and_compressed(program: Program, tmp_path: Path) -> None:
    place = tmp_path / "raw"
    place.mkdir()
    part, disk = place / "part.raw", place / "disk.dd"
    for path, size in ((part, 4 << 20), (disk, 12 << 20)):
        with path.open("wb") as file:
            file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", part], check=True)
    for label in ("gpt", "dos"):
        other = place / f"{label}.dd"
        other.write_bytes(disk.read_bytes())
        subprocess.run(
            ["sfdisk", "-q", other], input=f"label: {label}\n,4M\n,\n".encode(), check=True
        )
        (place / f"{label}2.dd.zst").write_bytes(compress("zstd", other.read_bytes()))
    (place / "part2.raw.gz").write_bytes(compress("gzip", part.read_bytes()))
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed", place / "v.vhd", "4M"],
        check=True,
    )
    program.run("add", "-r", place)
    found = {
        each["name"]: (each["format"], each["fs_type"], each["compression"])
        for each in program.json("ls") if each["path"]
    }  # fmt: skip
    assert found == {
        "part": ("raw", "ext4", None), "part2": ("raw", "ext4", "gzip"),
        "gpt": ("raw", "disk", None), "gpt2": ("raw", "disk", "zstd"),
        "dos": ("raw", "disk", None), "dos2": ("raw", "disk", "zstd"),
        "v.vhd": ("vhd", found["v.vhd"][1], None),
    }  # fmt: skip


def test_what_nobody_may_read_is_refused_once(program: Program, tmp_path: Path) -> None:
    place = tmp_path / "private"
    place.mkdir()
    (place / "a.img").write_bytes(image(1))
    # A link that leads to itself cannot be read by root either.
    (place / "loop.img").symlink_to("loop.img")
    first = program.run("add", "-r", place, code=5)
    assert "loop.img: Too many levels of symbolic links" in first.stderr
    assert program.run("add", "-r", place).stderr == ""
