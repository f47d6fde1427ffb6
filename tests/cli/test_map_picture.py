"""Pictures of where used bytes lie: cells against known patterns, pixels against cells."""

from __future__ import annotations

import os
import pty
import random
import re
import stat
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from imgcat.cli.picture import Sheet, cells_of
from imgcat.formats.extent import Extent, ExtentKind, data, zero
from PIL import Image
from support import samples
from support.virtual_disks import MIB, qemu_img, qemu_io

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

WHITE, LEGEND = (255, 255, 255), 38
UNUSED, DATA, COMPRESSED, BAD = (226, 230, 235), (31, 99, 180), (38, 143, 92), (205, 42, 42)


@pytest.mark.parametrize("seed", range(40))
def test_cells_are_the_shares_of_bytes(seed: int) -> None:
    rng = random.Random(seed)
    size, count = rng.choice([1, 7, 100, 1000, 4097]), rng.choice([1, 3, 16, 100])
    runs = rng.choice([0.02, 0.5, 1.0])
    kinds = [rng.choice(list(ExtentKind))]
    for _ in range(size - 1):
        kinds.append(rng.choice(list(ExtentKind)) if rng.random() < runs else kinds[-1])
    extents = []
    start = 0
    for at in range(1, size + 1):
        if at == size or kinds[at] is not kinds[start]:
            extents.append(Extent(start, at, kinds[start]))
            start = at
    shares = cells_of("x", size, extents, count).shares
    expected = [[Fraction(0)] * count for _ in range(3)]
    order = [ExtentKind.DATA, ExtentKind.COMPRESSED, ExtentKind.UNREADABLE]
    width = Fraction(size, count)
    for at, kind in enumerate(kinds):
        if kind is ExtentKind.ZERO:
            continue
        # A byte may lie in several cells, or in parts of two.
        for cell in range(at * count // size, min(count, -(-(at + 1) * count // size))):
            part = min((cell + 1) * width, Fraction(at + 1)) - max(cell * width, Fraction(at))
            expected[order.index(kind)][cell] += part / width
    assert np.abs(shares - np.array(expected, dtype=float)).max() < 1e-9
    assert shares.min() >= 0
    assert shares.max() <= 1


def test_cells_of_known_ranges_are_exact() -> None:
    # Four cells of 16 bytes: full, half, a quarter that is compressed and one byte that is bad.
    extents = [
        data(0, 24, None, 0), zero(24, 36), Extent(36, 40, ExtentKind.COMPRESSED), zero(40, 63),
        Extent(63, 64, ExtentKind.UNREADABLE),
    ]  # fmt: skip
    assert cells_of("x", 64, extents, 4).shares.tolist() == [
        [1, 0.5, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 0.0625],
    ]  # fmt: skip
    largest = 1 << 62
    cells = cells_of("x", largest, [data(0, largest // 2, None, 0), zero(largest // 2, largest)], 4)
    assert cells.shares.tolist()[0] == [1, 1, 0, 0]
    assert cells_of("x", 0, [], 4).shares.sum() == 0


def test_pixels_are_where_the_bytes_are() -> None:
    size = 256 * 256 * 512
    extents = [
        data(0, size // 4, None, 0), zero(size // 4, size // 2),
        Extent(size // 2, size * 3 // 4, ExtentKind.COMPRESSED),
        Extent(size * 3 // 4, size * 3 // 4 + 1, ExtentKind.UNREADABLE),
        zero(size * 3 // 4 + 1, size),
    ]  # fmt: skip
    sheet = Sheet(12)
    for _ in range(10):
        sheet.add(cells_of("x" * 500, size, extents, 256 * 256))
    picture = sheet.finished()
    assert picture is not None
    # Eight in a line, and the others below.
    assert picture.size == (12 + 8 * 268, 2 * 302 + LEGEND)
    for left, top in ((12, 34), (12 + 268, 34), (12 + 7 * 268, 34), (12 + 268, 34 + 302)):
        assert picture.getpixel((left, top)) == DATA
        assert picture.getpixel((left + 255, top + 63)) == DATA
        assert picture.getpixel((left, top + 64)) == UNUSED
        assert picture.getpixel((left, top + 128)) == COMPRESSED
        assert picture.getpixel((left, top + 192)) == BAD
        assert picture.getpixel((left + 1, top + 192)) == UNUSED
        # A name is no wider than its image.
        assert {picture.getpixel((left + 257, at)) for at in range(top - 30, top)} == {WHITE}
    assert picture.getpixel((12 + 2 * 268, 34 + 302)) == WHITE
    seen = {picture.getpixel((x + 5, y + 5)) for x in (12, 140) for y in (606, 622)}
    assert seen == {UNUSED, DATA, COMPRESSED, BAD}
    assert Sheet(3).finished() is None


def test_a_picture_of_several_images(program: Program, tmp_path: Path) -> None:
    for name, commands in (("one", ["write 0 16M"]), ("two", [f"write {48 * MIB} 16M"])):
        path = tmp_path / f"{name}.qcow2"
        qemu_img("create", "-f", "qcow2", path, "64M")
        qemu_io(path, "qcow2", commands)
        program.run("add", path)
    out = tmp_path / "out.png"
    program.run("map", "one.qcow2", "two.qcow2", "--png", out)
    with Image.open(out) as picture:
        assert picture.size == (12 + 2 * 268, 302 + LEGEND)
        assert picture.getpixel((12, 34)) == DATA
        assert picture.getpixel((12, 34 + 200)) == UNUSED
        assert picture.getpixel((12 + 268, 34)) == UNUSED
        assert picture.getpixel((12 + 268, 34 + 200)) == DATA
    before = out.read_bytes()
    program.run("map", "one.qcow2", "--png", out, code=2)
    assert out.read_bytes() == before
    program.run("map", "one.qcow2", "--png", out, "--force")
    assert out.read_bytes() != before
    text = program.run("map", "--picture", "*").stdout.splitlines()
    assert len(text) == 11
    assert text[-1] == "· unused, ░▒▓█ stored, part of it to all, ! cannot be read"
    assert text[0].startswith("one.qcow2: 64.0M, 25.0 % used")
    assert set(text[1]) == {"█"}
    assert set(text[3]) == {"·"}
    env = program.environment | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    text = program.run("map", "--picture", "one.qcow2", env=env).stdout.splitlines()
    assert set(text[1]) == {"#"}
    program.run("map", "one.qcow2", "two.qcow2", code=2)
    program.run("map", "one.qcow2", "--png", tmp_path / "no.png", "--json", code=2)
    assert not (tmp_path / "no.png").exists()


def test_a_picture_takes_the_place_of_files_only(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "one.qcow2"
    qemu_img("create", "-f", "qcow2", path, "64M")
    program.run("add", path)
    nodes = {
        "block": ("a device", stat.S_IFBLK, os.makedev(7, 50)),
        "character": ("a device", stat.S_IFCHR, os.makedev(1, 3)),
        "fifo": ("a fifo", stat.S_IFIFO, 0),
        "socket": ("a socket", stat.S_IFSOCK, 0),
    }
    for name, (what, kind, device) in nodes.items():
        node = tmp_path / name
        os.mknod(node, kind | 0o600, device)
        link = tmp_path / f"link to {name}"
        link.symlink_to(node)
        for out in (node, link):
            for force in ([], ["--force"]):
                said = program.run("map", "one.qcow2", "--png", out, *force, code=2).stderr
                assert f"{out}: is {what}, which is not replaced" in said.replace("\n", " ")
        assert stat.S_IFMT(node.lstat().st_mode) == kind
        assert link.is_symlink()
    program.run("map", "one.qcow2", "--png", tmp_path, "--force", code=2)
    # A link to a file still leads there, to a new one.
    (tmp_path / "old.png").write_bytes(b"old")
    (tmp_path / "link").symlink_to("old.png")
    program.run("map", "one.qcow2", "--png", tmp_path / "link", "--force")
    assert (tmp_path / "link").is_symlink()
    with Image.open(tmp_path / "old.png") as picture:
        assert picture.format == "PNG"
    assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_one_bad_image_spoils_none_of_the_others(program: Program, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        path = tmp_path / f"{name}.qcow2"
        qemu_img("create", "-f", "qcow2", path, "64M")
        qemu_io(path, "qcow2", ["write 0 16M"])
        program.run("add", path)
    (tmp_path / "two.qcow2").unlink()
    out = tmp_path / "out.png"
    both = ["one.qcow2", "two.qcow2", "three.qcow2", "--picture", "--png", out]
    found = program.run("map", *both, code=5)
    assert "two.qcow2" in found.stderr
    assert "one.qcow2: 64.0M" in found.stdout
    assert "three.qcow2: 64.0M" in found.stdout
    with Image.open(out) as picture:
        assert picture.size == (12 + 2 * 268, 302 + LEGEND)
    nothing = tmp_path / "nothing.png"
    program.run("map", "two.qcow2", "--png", nothing, code=5)
    assert not nothing.exists()
    # A picture in the place of an image is what nobody wants.
    before = (tmp_path / "one.qcow2").read_bytes()
    found = program.run("map", "three.qcow2", "--png", tmp_path / "one.qcow2", "--force", code=2)
    assert "one.qcow2" in found.stderr
    assert (tmp_path / "one.qcow2").read_bytes() == before
    assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_what_cannot_be_read_is_seen_and_said(program: Program, tmp_path: Path) -> None:
    sample = samples.unpack_one(tmp_path, "ext4-0.3.23")
    with sample.path.open("r+b") as file:
        file.truncate(sample.path.stat().st_size * 2 // 3)
    program.run("add", sample.path, "--name", "cut", code=5)
    out = tmp_path / "out.png"
    found = program.run("map", "cut", "--picture", "--png", out, code=5)
    assert "cannot be read" in found.stderr
    assert "!" in "".join(found.stdout.splitlines()[1:5])
    with Image.open(out) as picture:
        square = picture.crop((12, 34, 12 + 256, 34 + 256))
        colours = {colour for _count, colour in square.getcolors(1 << 16)}
    assert BAD in colours


@pytest.mark.parametrize(("more", "is_coloured"), [
    ({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False),
])  # fmt: skip
def test_colours_are_for_terminals(
    more: dict[str, str], is_coloured: bool, program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "one.qcow2"
    qemu_img("create", "-f", "qcow2", path, "64M")
    qemu_io(path, "qcow2", ["write 0 16M", "write -c 32M 64k"])
    program.run("add", path)
    env = {key: value for key, value in program.environment.items() if key != "NO_COLOR"}
    env |= {"TERM": "xterm", "COLUMNS": "40", "LC_ALL": "C.UTF-8"} | more
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "imgcat", "map", "--picture", "one.qcow2"]
    with subprocess.Popen(command, env=env, stdout=theirs) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
    os.close(ours)
    assert process.returncode == 0
    assert (b"\x1b[34m" in text) == is_coloured
    assert (b"\x1b[32m" in text) == is_coloured
    lines = text.decode().splitlines()
    plain = [re.sub(r"\x1b\[\d*m", "", line) for line in lines]
    assert [len(line) for line in plain[1:5]] == [40] * 4


@pytest.mark.fresh
def test_pillow_is_only_for_pictures(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "one.qcow2"
    qemu_img("create", "-f", "qcow2", path, "64M")
    program.run("add", path)
    poison = tmp_path / "poison"
    poison.mkdir()
    (poison / "PIL.py").write_text("raise ImportError('too early')")
    env = program.environment | {"PYTHONPATH": str(poison)}
    program.run("map", "one.qcow2", env=env)
    program.run("map", "--picture", "one.qcow2", env=env)
    program.run("map", "one.qcow2", "--png", tmp_path / "x.png", env=env, code=1)
    assert not (tmp_path / "x.png").exists()
