"""`imgcat map` and `imgcat read`."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer
from imgcat.cli.inspect import parse_size
from support.attack_images import scattered
from support.partclone_writer import Recipe, Written, write
from support.shortcuts import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program
    from support.samples import Sample

BLOCK = 4096
PRESENT = [True] * 5 + [False] * 3 + [True, False] + [True] * 20 + [False] * 2


@pytest.fixture
def written(program: Program, tmp_path: Path) -> Written:
    """An image called ``one`` with a tail that belongs to no block."""
    made = write(Recipe(present=PRESENT, block_size=BLOCK, tail=100))
    path = tmp_path / "one.img"
    path.write_bytes(made.image)
    catalogue(program, path)
    return made


# -- map -------------------------------------------------------------------


def _data(start: int, length: int, offset: int, path: Path) -> dict[str, Any]:
    return {
        "start": start * BLOCK, "length": length * BLOCK, "depth": 0, "present": True,
        "zero": False, "data": True, "compressed": False, "offset": offset, "filename": str(path),
    }  # fmt: skip


def _zero(start: int, length: int) -> dict[str, Any]:
    return {
        "start": start * BLOCK, "length": length, "depth": 0, "present": False,
        "zero": True, "data": False, "compressed": False,
    }  # fmt: skip


def test_map_as_json(program: Program, written: Written, tmp_path: Path) -> None:
    at, path = written.block_offsets, tmp_path / "one.img"
    assert program.json("map", "one") == [
        _data(0, 5, at[0], path),
        _zero(5, 3 * BLOCK),
        _data(8, 1, at[8], path),
        _zero(9, BLOCK),
        _data(10, 20, at[10], path),
        _zero(30, 2 * BLOCK + 100),
    ]


def test_map_as_a_table(program: Program, written: Written) -> None:
    lines = [line.split() for line in program.run("map", "one").stdout.splitlines()]
    assert lines[0] == ["START", "LENGTH", "KIND", "OFFSET"]
    assert lines[1] == ["0", str(5 * BLOCK), "data", str(written.data_offset)]
    assert lines[2] == [str(5 * BLOCK), str(3 * BLOCK), "zero", "-"]
    assert len(lines) == 7


def test_map_covers_every_sample_exactly(program: Program, samples: list[Sample]) -> None:
    catalogue(program, *(sample.path for sample in samples))
    for sample in samples:
        position, last = 0, None
        for each in program.json("map", sample.name):
            assert each["start"] == position
            assert each["length"] > 0
            assert each["data"] is not each["zero"]
            assert each["data"] is not last
            assert ("offset" in each) is each["data"]
            position, last = position + each["length"], each["data"]
        assert position == sample.volume_bytes


def test_map_agrees_with_qemu_on_what_is_exported(program: Program, tmp_path: Path) -> None:
    image, raw = tmp_path / "one.img", tmp_path / "disk.raw"
    image.write_bytes(write(Recipe(present=PRESENT, block_size=BLOCK)).image)
    catalogue(program, image)
    program.run("export", "one", raw)
    qemu = subprocess.run(
        ["qemu-img", "map", "-f", "raw", "--output=json", raw],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    theirs = [(each["start"], each["length"], each["data"]) for each in json.loads(qemu.stdout)]
    ours = program.json("map", "one")
    assert [(each["start"], each["length"], each["data"]) for each in ours] == theirs


def test_map_of_a_huge_image_needs_little_memory(program: Program, tmp_path: Path) -> None:
    """200,000 pieces; the JSON alone is 20 MB, and as objects it would be many times that."""
    blocks = {number: b"%512d" % number for number in range(0, 200_000, 2)}
    path, small = tmp_path / "one.img", tmp_path / "small.img"
    path.write_bytes(scattered(blocks, 200_000))
    small.write_bytes(scattered({0: bytes(512)}, 200_000))
    catalogue(program, path, small)
    peak = {}
    for query in (["map", "small"], ["map", "--json", "one"], ["map", "one"]):
        code = (
            "import sys\nfrom imgcat.cli.main import run\n"
            f"sys.argv = ['imgcat', *{query!r}]\nrun()\nsys.stdout.flush()\n"
            # Not ru_maxrss, of which a process inherits its parent's.
            "with open('/proc/self/status') as status:\n"
            "    peak = next(line for line in status if line.startswith('VmHWM'))\n"
            "print(peak.split()[1], file=sys.stderr)"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], env=program.environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        peak[" ".join(query)] = int(said.stderr)
        lines = said.stdout.count("\n")
    assert lines == 200_001
    assert max(peak.values()) < peak["map small"] + 25_000


# -- read ------------------------------------------------------------------


def test_read_equals_slices(program: Program, written: Written) -> None:
    guest, generator = written.guest, random.Random(5)
    ranges = [(0, 0), (0, len(guest)), (len(guest), 0), (len(guest) - 1, 1), (5 * BLOCK - 1, 2)]
    ranges += [(at, generator.randrange(len(guest) - at)) for at in range(0, len(guest), 13_579)]
    for offset, length in ranges:
        with program.start("read", "one", "--offset", offset, "--length", length) as process:
            assert process.stdout is not None
            assert process.stdout.read() == guest[offset : offset + length]
        assert process.returncode == 0


def test_read_as_a_hex_dump(program: Program, written: Written, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(written.guest)
    for offset, length in ((0, 100), (5 * BLOCK - 7, 70_000), (len(written.guest) - 3, 3)):
        xxd = subprocess.run(
            ["xxd", "-g1", "-s", str(offset), "-l", str(length), raw],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        said = program.run("read", "one", "--offset", offset, "--length", length, "--hex")
        assert said.stdout == xxd.stdout


def test_numbers_as_users_write_them(program: Program, written: Written) -> None:
    said = program.run("read", "one", "--offset", "0x1000", "--length", "4K")
    assert said.stdout.encode() == written.guest[BLOCK : 2 * BLOCK]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("4096", 4096), ("0x10", 16), ("0XfF", 255), ("4K", 4096), ("4k", 4096),
        ("3M", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40), ("0x10K", 16 << 10),
    ],
)  # fmt: skip
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "K", "-1", "4KB", "1.5M", "0x", "ff", "4 P", "x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no number of bytes"):
        parse_size(text)


def test_a_range_that_is_not_inside(program: Program, written: Written) -> None:
    size = len(written.guest)
    for offset, length in ((size, 1), (0, size + 1), (1 << 70, 1), (size - 1, "1T")):
        for more in ([], ["--hex"]):
            said = program.run("read", "one", "--offset", offset, "--length", length, *more, code=2)
            assert f"the image has {size}" in said.stderr
            assert said.stdout == ""


def test_errors(program: Program, written: Written, tmp_path: Path) -> None:
    program.run("read", "one", "--offset", 0, code=2)
    program.run("read", "one", "--length", 1, code=2)
    program.run("read", "nothing", "--offset", 0, "--length", 1, code=3)
    program.run("map", "nothing", code=3)
    program.run("map", code=2)
    with open("/dev/full", "wb") as full:
        process = program.start("read", "one", "--offset", 0, "--length", 9, stdout=full)
        assert process.communicate()[1] == b"imgcat: standard output: No space left on device\n"
    assert process.returncode == 5

    cut = tmp_path / "cut.img"
    cut.write_bytes(written.image[: written.block_offsets[20]])
    catalogue(program, cut)
    said = program.run("map", "cut", code=5)
    assert f"[{20 * BLOCK}, {30 * BLOCK}) cannot be read: the image is cut off" in said.stderr
    assert [line.split()[2] for line in said.stdout.splitlines()[1:]] == [
        "data", "zero", "data", "zero", "data", "unreadable", "zero",
    ]  # fmt: skip
    program.run("read", "cut", "--offset", 19 * BLOCK, "--length", BLOCK)
    said = program.run("read", "cut", "--offset", 0, "--length", 30 * BLOCK, code=5)
    assert f"bytes [{20 * BLOCK}, {30 * BLOCK}) cannot be read" in said.stderr
    for command in (["map", "cut"], ["read", "cut", "--offset", "0", "--length", "1"]):
        cut.unlink(missing_ok=True)
        program.run(*command, code=5)
