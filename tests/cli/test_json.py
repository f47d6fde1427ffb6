"""`--json` of every command: one document, as docs/json.md has it, also of what failed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from imgcat.cli.main import make_app
from support.partclone_writer import Recipe, write
from support.program import is_mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.program import Program

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()


@pytest.fixture
def shelf(program: Program, tmp_path: Path) -> Path:
    place = tmp_path / "shelf"
    place.mkdir()
    for number, name in enumerate(("one", "two", "three")):
        recipe = Recipe(present=[n % (number + 2) != 1 for n in range(200)])
        (place / f"{name}.img").write_bytes(write(recipe).image)
    program.run("add", "-r", place)
    return place


def fields(command: str, number: int = 0) -> set[str]:
    """Return the names in a list of fields that the page has for a command."""
    (row,) = re.findall(rf"^\| `{command}` \| (.*) \|$", PAGE, re.MULTILINE)
    return set(re.findall(r"\w+", re.findall(r"`([^`]*)`", row)[number]))


def leaves(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def test_every_command_that_has_it_is_documented() -> None:
    having = {
        name
        for name, command in leaves(typer.main.get_command(make_app()))
        if any("--json" in each.opts for each in command.params)
    }
    assert set(re.findall(r"^\| `([a-z -]+)` \|", PAGE, re.MULTILINE)) == having
    # What changes or checks something has it.
    asking = {"read", "shell", "serve", "completion", "cat", "tar"}
    every = {name for name, _command in leaves(typer.main.get_command(make_app()))}
    assert every - having == asking


def test_of_images(program: Program, shelf: Path, tmp_path: Path) -> None:
    (first, *_rest) = program.json("ls")
    assert fields("ls") == set(first)
    assert set(first) < set(program.json("show", "one"))
    assert program.json("info", "one") == program.json("show", "one")
    added = program.json("add", "-r", shelf)
    assert fields("add", 1) == set(added["images"][0])
    assert set(re.findall(r"\w+", PAGE.split("`summary`, numbers: `")[1].split("`")[0])) == set(
        added["summary"]
    )
    (report, *_rest) = program.json("verify", "--all")
    assert fields("verify") == set(report)
    assert fields("map") == {key for each in program.json("map", "one") for key in each}
    assert fields("relocate") | {"files"} == set(program.json("relocate", shelf, "/x", "--dry-run"))
    assert fields("rm") == set(program.json("rm", "--dry-run", "one")[0])
    (renamed,) = program.json("rename", "one", "uno")
    assert fields("rename") == set(renamed)
    assert (renamed["before"], renamed["name"], renamed["outcome"]) == ("one", "uno", "renamed")
    looked = program.json("rescan")
    assert fields("rescan") == set(looked[0])
    assert {each["outcome"] for each in looked} == {"unchanged"}
    exported = program.json("export", "uno", tmp_path / "out")
    assert fields("export") == set(exported)
    assert exported["written"]
    assert exported["unreadable"] == []
    packed = program.json("repack", "--replace", "--remove-old", "uno", tmp_path / "uno.zst")
    assert fields("repack") == set(packed)
    assert packed["replaced"]
    assert packed["removed"] == [str(shelf / "one.img")]
    assert packed["stored_now"] == (tmp_path / "uno.zst").stat().st_size
    assert program.json("sql", "SELECT 1 AS one") == [{"one": 1}]
    assert set(program.json("doctor")[0]) == fields("doctor")
    assert [each["outcome"] for each in program.json("rm", "two", "three")] == ["removed"] * 2


@pytest.mark.fuse
def test_of_mounts(program: Program, shelf: Path, tmp_path: Path) -> None:
    (shelf / "two.img").unlink()
    mount = tmp_path / "mount"
    program._mounts.append(mount)
    made = program.json("mount-all", mount)
    assert set(made) == fields("mount-all")
    assert made == {"path": str(mount), "outcome": "mounted", "images": 3, "missing": 1}
    assert program.json("mount-all", mount)["outcome"] == "was mounted"
    assert set(program.json("mounts")[0]) == fields("mounts")
    assert program.json("unmount", mount) == [
        {"path": str(mount), "outcome": "unmounted", "detail": None}
    ]
    assert set(program.json("mount", "one", mount)) == fields("mount-all")
    assert is_mounted(mount)
    assert program.json("umount", mount)[0].keys() == fields("unmount")
    result = program.run("unmount", mount, "--json", code=3)
    (failed,) = json.loads(result.stdout)
    assert failed["outcome"] == "failed"
    assert "is not an imgcat mount" in failed["detail"]
    assert result.stderr == ""


def test_of_the_catalog(program: Program, shelf: Path, tmp_path: Path) -> None:
    assert shelf.is_dir()
    assert program.json("db", "path") == {"path": str(program.catalog)}
    assert program.json("--db", tmp_path / "x.db", "db", "create") == {"path": f"{tmp_path}/x.db"}
    assert program.json("db", "check") == {"path": str(program.catalog), "problems": []}
    assert program.json("db", "upgrade").keys() == fields("db upgrade")
    assert program.json("db", "backup", tmp_path / "copy.db") == {"path": f"{tmp_path}/copy.db"}
    small = program.json("db", "export", "one", "-o", tmp_path / "small.db")
    assert set(small["images"][0]) == fields("db export", 2)
    (merged,) = program.json("--db", tmp_path / "x.db", "db", "merge", tmp_path / "small.db")
    assert set(merged) == fields("db merge")
    assert set(merged["images"][0]) == fields("db merge", 2)


def test_of_what_failed(program: Program, shelf: Path, tmp_path: Path) -> None:
    """One that fails does not spoil the document; where all fails, that is one too."""
    (shelf / "one.img").write_bytes(b"nothing that is known")
    looked = json.loads(program.run("rescan", "--json", code=5).stdout)
    by_name = {each["name"]: each for each in looked}
    assert by_name["one"]["outcome"] == "failed"
    assert by_name["one"]["status"] == "failed"
    assert by_name["two"]["outcome"] == "unchanged"
    (shelf / "two.img").unlink()
    verified = json.loads(program.run("verify", "--all", "--json", code=5).stdout)
    assert {each["name"]: each["result"] for each in verified} == {
        "one": "not verified", "two": "not verified", "three": "ok",
    }  # fmt: skip
    result = program.run("--db", tmp_path / "none.db", "ls", "--json", code=3)
    assert json.loads(result.stdout) == {
        "error": f"{tmp_path}/none.db: there is no catalog yet: `imgcat add IMAGE...` makes one",
        "exit_code": 3,
    }
    merged = program.run("db", "merge", "--json", tmp_path / "none.db", code=3)
    assert json.loads(merged.stdout)[0]["error"].startswith(f"{tmp_path}/none.db: there is no")
    cut = write(Recipe(present=[True] * 100)).image
    (tmp_path / "cut.img").write_bytes(cut[: len(cut) * 2 // 3])
    program.run("add", tmp_path / "cut.img", code=5)
    refused = json.loads(program.run("export", "cut", tmp_path / "o", "--json", code=5).stdout)
    assert (refused["written"], refused["exit_code"]) == (False, 5)
    rescued = program.run("export", "--rescue", "cut", tmp_path / "o", "--json", code=5)
    told = json.loads(rescued.stdout)
    assert told["written"]
    assert set(told["unreadable"][0]) == {"start", "stop", "reason"}
