"""Pictures of where used bytes lie: cells against known patterns, pixels against cells."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from imgcat.cli.picture import cells_of, draw_png
from imgcat.formats.extent import Extent, ExtentKind, data, zero
from PIL import Image
from support.virtual_disks import MIB, qemu_img, qemu_io

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

UNUSED, DATA, COMPRESSED, BAD = (226, 230, 235), (31, 99, 180), (38, 143, 92), (205, 42, 42)


@pytest.mark.parametrize("seed", range(20))
def test_cells_are_the_shares_of_bytes(seed: int) -> None:
    rng = random.Random(seed)
    size, count = rng.choice([1, 7, 1000, 4097]), rng.choice([1, 3, 16, 100])
    kinds = [rng.choice(list(ExtentKind)) for _ in range(size)]
    extents = []
    start = 0
    for at in range(1, size + 1):
        if at == size or kinds[at] is not kinds[start]:
            extents.append(Extent(start, at, kinds[start]))
            start = at
    shares = cells_of("x", size, extents, count).shares
    naive = np.zeros((3, count))
    order = [ExtentKind.DATA, ExtentKind.COMPRESSED, ExtentKind.UNREADABLE]
    for at, kind in enumerate(kinds):
        if kind is ExtentKind.ZERO:
            continue
        # A byte may lie in several cells, or in parts of two.
        for cell in range(count):
            low, high = cell * size / count, (cell + 1) * size / count
            part = max(0.0, min(high, at + 1) - max(low, at))
            naive[order.index(kind), cell] += part / (size / count)
    if size >= 50 * count:
        assert np.abs(shares - naive).max() < 0.05
    assert np.array_equal(shares.sum(axis=1) > 0, naive.sum(axis=1) > 0)
    assert shares.min() >= 0
    assert shares.max() <= 1


def test_pixels_are_where_the_bytes_are() -> None:
    size = 256 * 256 * 512
    extents = [
        data(0, size // 4, None, 0), zero(size // 4, size // 2),
        Extent(size // 2, size * 3 // 4, ExtentKind.COMPRESSED),
        Extent(size * 3 // 4, size * 3 // 4 + 1, ExtentKind.UNREADABLE),
        zero(size * 3 // 4 + 1, size),
    ]  # fmt: skip
    picture = draw_png([cells_of("x", size, extents, 256 * 256)] * 2)
    for left in (12, 12 + 268):
        top = 34
        assert picture.getpixel((left, top)) == DATA
        assert picture.getpixel((left + 255, top + 63)) == DATA
        assert picture.getpixel((left, top + 64)) == UNUSED
        assert picture.getpixel((left, top + 128)) == COMPRESSED
        assert picture.getpixel((left, top + 192)) == BAD
        assert picture.getpixel((left + 1, top + 192)) == UNUSED


def test_a_picture_of_several_images(program: Program, tmp_path: Path) -> None:
    for name, commands in (("one", ["write 0 16M"]), ("two", [f"write {48 * MIB} 16M"])):
        path = tmp_path / f"{name}.qcow2"
        qemu_img("create", "-f", "qcow2", path, "64M")
        qemu_io(path, "qcow2", commands)
        program.run("add", path)
    out = tmp_path / "out.png"
    program.run("map", "one.qcow2", "two.qcow2", "--png", out)
    with Image.open(out) as picture:
        assert picture.size == (12 + 2 * 268, 256 + 34 + 12)
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
    assert len(text) == 10
    assert text[0].startswith("one.qcow2: 64.0M, 25.0 % used")
    assert set(text[1]) == {"█"}
    assert set(text[3]) == {"·"}
    env = program.environment | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    text = program.run("map", "--picture", "one.qcow2", env=env).stdout.splitlines()
    assert set(text[1]) == {"#"}
    program.run("map", "one.qcow2", "two.qcow2", code=2)
