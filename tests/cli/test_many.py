"""Many images at once: what is wrong with one is told, and all others are done."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.names import name_of_file
from imgcat.catalog.store import Catalog
from support.attack_images import patchy
from support.program import wait_until
from support.shortcuts import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

COUNT = 4


@pytest.fixture
def shelf(program: Program, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"i{number}.img" for number in range(COUNT)]
    for number, path in enumerate(paths):
        path.write_bytes(patchy(number, 64).image)
    catalogue(program, *paths)
    return paths


def _rename_by_sql(program: Program, image_id: int, name: str) -> None:
    connection = sqlite3.connect(program.catalog)
    with connection:
        connection.execute("UPDATE images SET name = ? WHERE id = ?", (name, image_id))
    connection.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("d/" * 1200 + "x", "it is over 2048 bytes"),
        ("d/" * 64 + "x", "it is over 64 parts deep"),
        ("d/" + "x" * 256, "a part is over 255 bytes"),
    ],
    ids=["total", "depth", "part"],
)
def test_a_name_that_no_path_can_be_is_refused(
    program: Program, shelf: list[Path], name: str, reason: str
) -> None:
    said = program.run("rename", "i0", name, code=2).stderr
    assert reason in said
    assert len(said) < 200
    program.run("rename", "i0", "d/" * 63 + "x")


@pytest.mark.parametrize("name", ["..img", "...img", ".img", "..img.gz"])
def test_no_file_is_named_what_nothing_can_be(name: str) -> None:
    assert name_of_file(name) not in {"", ".", ".."}


@pytest.mark.fuse
def test_one_impossible_name_harms_no_other(
    program: Program, shelf: list[Path], tmp_path: Path
) -> None:
    """As an older version may have written it."""
    _rename_by_sql(program, 1, "d/" * 60_000 + "x")
    _rename_by_sql(program, 2, "..")
    mount = program.mount_all(tmp_path / "mount", "--log-file", tmp_path / "log")
    assert sorted(os.listdir(mount)) == ["i2", "i3"]
    for number in (2, 3):
        assert (mount / f"i{number}").read_bytes() == patchy(number, 64).guest
    said = [line for line in (tmp_path / "log").read_text().splitlines() if "left out" in line]
    assert ["image 1 is left out" in said[0], "image 2 is left out" in said[1]] == [True, True]
    assert max(map(len, said)) < 300
    # Neither does one that comes while it is mounted, and what is renamed is there again.
    _rename_by_sql(program, 3, "a//b")
    program.run("rename", 1, "good")
    wait_until(lambda: sorted(os.listdir(mount)) == ["good", "i3"], "it has followed", 30)


def test_rescan_goes_on_past_paths_that_are_not_utf8(program: Program, tmp_path: Path) -> None:
    names = [b"a.img", b"b\xff.img", b"c\xfe.img", b"d.img"]
    paths = [os.path.join(os.fsencode(tmp_path), name) for name in names]
    for number, path in enumerate(paths):
        with open(path, "wb") as file:
            file.write(patchy(number, 64).image)
    program.run("add", *paths)
    os.unlink(paths[1])
    with open(paths[2], "wb") as file:
        file.write(b"no image" * 100)
    said = program.run("rescan", code=5)
    assert [line.split()[0] for line in said.stdout.splitlines()] == [
        "unchanged", "unchanged", "missing", "failed",
    ]  # fmt: skip
    assert "Traceback" not in said.stderr


def test_rescan_goes_on_past_an_image_that_is_removed_meanwhile(
    program: Program, shelf: list[Path]
) -> None:
    """The ids are chosen, then the first is removed by another process as the work begins."""
    for path in shelf:
        path.write_bytes(path.read_bytes())
    code = (
        "import subprocess, sys\n"
        "from imgcat.catalog.adding import rescan\n"
        "real = rescan.rescan\n"
        "def first_remove(catalog, image_id):\n"
        "    if image_id == 2:\n"
        "        command = [sys.executable, '-m', 'imgcat', 'rm', 'i1']\n"
        "        subprocess.run(command, check=True, capture_output=True)\n"
        "    return real(catalog, image_id)\n"
        "rescan.rescan = first_remove\n"
        "from imgcat.cli.main import run\n"
        "sys.argv = ['imgcat', 'rescan']\n"
        "sys.exit(run())\n"
    )
    said = program.run_python(code, code=3)
    assert [line.split()[1] for line in said.stdout.splitlines()] == ["i0", "i2", "i3"]
    assert said.stderr == "imgcat: i1: no image has the id 2: it was removed meanwhile\n"


def test_rm_takes_away_what_is_damaged_too(program: Program, shelf: list[Path]) -> None:
    connection = sqlite3.connect(program.catalog)
    with connection:
        connection.execute("UPDATE images SET header = '{', layout = x'00' WHERE id = 2")
    connection.close()
    assert program.run("rm", "i*").stdout.split()[1::2] == ["i0", "i1", "i2", "i3"]
    with Catalog.open(str(program.catalog)) as catalog:
        assert catalog.list_images() == []


def test_add_goes_on_past_a_file_that_vanishes(program: Program, tmp_path: Path) -> None:
    good = tmp_path / "good.img"
    good.write_bytes(patchy(1, 64).image)
    said = program.run("add", tmp_path / "gone.img", tmp_path / "none" / "x.img", good, code=3)
    assert said.stdout.startswith("added     good")
    assert said.stderr.count("No such file") == 2
