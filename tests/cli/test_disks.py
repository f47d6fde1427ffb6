"""The commands on a disk made of other images: one that is lost spoils only its own bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.small_disk import FIRST, SECOND, SECTOR, SECTORS, SmallDisk

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

SIZE = SECTORS * SECTOR
LOST = (SECOND * SECTOR, (SECOND + 110) * SECTOR)
"""The guest range of the second partition."""

DISK = "laptop/sda.disk"
NAMED = f"{DISK}: guest bytes [{LOST[0]}, {LOST[1]}) cannot be read: sda2: "


@pytest.fixture
def saved(program: Program, tmp_path: Path) -> SmallDisk:
    """A disk in the catalog."""
    made = SmallDisk(tmp_path / "laptop")
    program.run("add", made.directory)
    return made


@pytest.fixture(params=["lost", "stale"])
def spoiled(request: pytest.FixtureRequest, saved: SmallDisk) -> SmallDisk:
    """The same, one partition of which cannot be read any more."""
    if request.param == "lost":
        saved.second_image.unlink()
    else:
        with saved.second_image.open("ab") as file:
            file.write(b"more")
    return saved


def test_export_writes_the_disk(program: Program, saved: SmallDisk, tmp_path: Path) -> None:
    program.run("export", DISK, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == saved.disk()


def test_export_refuses_and_names_what_is_lost(
    program: Program, spoiled: SmallDisk, tmp_path: Path
) -> None:
    del spoiled
    result = program.run("export", DISK, tmp_path / "out", code=5)
    assert NAMED in result.stderr
    assert "--rescue" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fill", [None, 0xA5])
def test_export_rescues_all_else(
    program: Program, spoiled: SmallDisk, tmp_path: Path, fill: int | None
) -> None:
    options = () if fill is None else ("--fill", fill)
    result = program.run("export", "--rescue", *options, DISK, tmp_path / "out", code=5)
    assert NAMED in result.stderr
    assert f"{LOST[1] - LOST[0]} bytes in 1 place cannot be read" in result.stderr
    data, whole = (tmp_path / "out").read_bytes(), spoiled.disk()
    assert len(data) == SIZE
    assert data[slice(*LOST)] == bytes([fill or 0]) * (LOST[1] - LOST[0])
    if fill is None:
        assert data[: LOST[0]] == whole[: LOST[0]]
        assert data[LOST[1] :] == whole[LOST[1] :]
    else:
        # What no image holds is filled too; what the first partition's holds is not.
        assert data[: FIRST * SECTOR] == whole[: FIRST * SECTOR]
        assert (
            data[FIRST * SECTOR : (FIRST + 1) * SECTOR]
            == (whole[FIRST * SECTOR : (FIRST + 1) * SECTOR])
        )


def test_map_goes_on_and_names_what_is_lost(program: Program, spoiled: SmallDisk) -> None:
    del spoiled
    result = program.run("map", "--json", DISK, code=5)
    assert NAMED in result.stderr
    extents = json.loads(result.stdout)
    assert extents[0]["start"] == 0
    assert extents[-1]["start"] + extents[-1]["length"] == SIZE
    assert [
        (each["start"], each["start"] + each["length"])
        for each in extents if "unreadable" in each
    ] == [LOST]  # fmt: skip


def test_verify_goes_on_and_names_what_is_lost(program: Program, spoiled: SmallDisk) -> None:
    del spoiled
    result = program.run("verify", DISK, code=5)
    assert "sda2" in result.stderr + result.stdout
    # The part that is there was checked, and is known to be right.
    assert program.json("show", "laptop/sda1")["verify_result"] == "ok"
    bad = program.json("show", DISK)["bad_ranges"]
    assert [(each["start"], each["stop"]) for each in bad] == [LOST]


def test_ls_and_attention_say_so(program: Program, saved: SmallDisk) -> None:
    assert program.sql("SELECT name FROM attention") == []
    saved.second_image.unlink()
    # `ls` looks at the files; what SQL is asked knows what was last written.
    for _before_and_after in range(2):
        statuses = {row["name"]: row["status"] for row in program.json("ls")}
        assert statuses == {DISK: "damaged", "laptop/sda1": "ready", "laptop/sda2": "missing"}
        program.run("rescan", "laptop/sda2", code=3)
    assert {row["name"] for row in program.sql("SELECT name FROM attention")} == {
        DISK, "laptop/sda2",
    }  # fmt: skip


def test_never_over_an_image_that_the_disk_is_made_of(program: Program, saved: SmallDisk) -> None:
    before = saved.first_image.read_bytes()
    result = program.run("export", "--force", DISK, saved.first_image, code=2)
    assert "is a file of the image itself" in result.stderr
    assert saved.first_image.read_bytes() == before
