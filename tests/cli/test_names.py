"""What images are called: by the tree, by a prefix, by the user, many at once; what is refused."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, write
from support.small_disk import SmallDisk
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    present = [random.Random(str(path)).random() < 0.5 for _ in range(80)]
    path.write_bytes(write(Recipe(present=present)).image)
    return path


def names(program: Program) -> list[str]:
    return sorted(each["name"] for each in program.json("ls"))


def test_names_come_from_the_tree(program: Program, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    for where in ("hosts/alpha/sda1.img", "hosts/beta/sda1.img", "sda1.img", "sda1.img.old/x.img"):
        make(shelf / where)
    SmallDisk(shelf / "hosts" / "laptop")
    SmallDisk(shelf / "laptop", seed=2)
    program.run("add", "-r", shelf)
    assert names(program) == [
        "hosts/alpha/sda1", "hosts/beta/sda1", "hosts/laptop/sda.disk", "hosts/laptop/sda1",
        "hosts/laptop/sda2", "laptop/sda.disk", "laptop/sda1", "laptop/sda2", "sda1",
        "sda1.img.old/x",
    ]  # fmt: skip
    # Named one by one, they are called as their files are.
    again = tmp_path / "again.db"
    program.run("--db", again, "add", shelf / "hosts" / "alpha" / "sda1.img", shelf / "laptop")
    assert {each["name"] for each in program.json("--db", again, "ls")} == {
        "sda1", "laptop/sda1", "laptop/sda2", "laptop/sda.disk",
    }  # fmt: skip
    program.run("--db", again, "add", "-r", "--prefix", "nas/one", shelf / "hosts")
    assert "nas/one/beta/sda1" in {each["name"] for each in program.json("--db", again, "ls")}
    for wrong in ("", "a/", "/a", "..", "a//b"):
        program.run("add", "--prefix", wrong, shelf / "sda1.img", code=2)


def test_directories_of_one_name_stay_apart(program: Program, tmp_path: Path) -> None:
    for number, where in enumerate(("a", "b", "c")):
        (tmp_path / where).mkdir()
        SmallDisk(tmp_path / where / "laptop", seed=number)
    program.run("add", tmp_path / "a" / "laptop", tmp_path / "b" / "laptop")
    assert names(program) == [
        *(f"laptop (2)/{name}" for name in ("sda.disk", "sda1", "sda2")),
        *(f"laptop/{name}" for name in ("sda.disk", "sda1", "sda2")),
    ]
    # Each keeps its folder when it is added again, and a name given goes to all of it.
    program.run("add", "--force", tmp_path / "b" / "laptop", tmp_path / "a" / "laptop")
    assert len(names(program)) == 6
    program.run("add", "--name", "old/laptop", tmp_path / "b" / "laptop")
    assert [each for each in names(program) if each.startswith("old/")] == [
        "old/laptop/sda.disk", "old/laptop/sda1", "old/laptop/sda2",
    ]  # fmt: skip
    program.run("add", "--name", "new", tmp_path / "c" / "laptop")
    assert "new/sda.disk" in names(program)
    said = program.run("add", "--name", "new", tmp_path / "a" / "laptop", code=2).stderr
    assert "'new' is the folder of other images" in said
    assert "laptop/sda1" in names(program)


def test_no_image_is_called_as_a_snapshot_is(program: Program, tmp_path: Path) -> None:
    raw = tmp_path / "disk"
    raw.touch()
    os.truncate(raw, 8 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", raw)
    program.run("snapshot", raw, "--name", "mon")
    image = make(tmp_path / "mon.img")
    said = program.run("add", "--name", "mon", image, code=2).stderr
    assert "'mon' is the name of a snapshot" in said
    assert names(program) == []
    # A name that nobody has asked for makes way.
    program.run("add", image)
    assert names(program) == ["mon (2)"]
    said = program.run("rename", "mon (2)", "mon", code=2).stderr
    assert "'mon' is the name of a snapshot" in said
    program.run("add", "--name", "mon", image, code=2)
    # A folder is no image.
    program.run("rename", "mon (2)", "mon/mon")
    program.run("snapshot", "--forget", "mon")
    program.run("rename", "mon/mon", "mon")
    assert names(program) == ["mon"]


def test_what_cannot_be_told_apart_is_refused(program: Program, tmp_path: Path) -> None:
    program.run("add", "-r", make(tmp_path / "hosts" / "beta" / "sda1.img").parents[2])
    program.run("add", make(tmp_path / "plain.img"))
    ids = {each["name"]: each["id"] for each in program.json("ls")}
    for wrong, why in (
        ("hosts", "is a folder of other images: 'hosts/beta/sda1' is in it"),
        ("hosts/beta", "is a folder of other images"),
        ("hosts/beta/sda1/x", "would be below 'hosts/beta/sda1', which is an image"),
        (str(ids["hosts/beta/sda1"]), "is the id of another image"),
        ("hosts/beta/sda1", "is the name of another image"),
    ):
        assert why in program.run("rename", "plain", wrong, code=2).stderr
        assert why in program.run("add", "--name", wrong, tmp_path / "plain.img", code=2).stderr
    program.run("rename", "plain", str(ids["plain"]))
    program.run("rename", str(ids["plain"]), "plain/below")
    program.run("rename", "plain/below", "plain")
    # Of their own accord, none gets such a name.
    program.run("add", make(tmp_path / "x" / "hosts.img"), make(tmp_path / "x" / "1.img"))
    program.run("add", "-r", make(tmp_path / "y" / "plain" / "z.img").parents[1])
    assert names(program) == ["1 (2)", "hosts (2)", "hosts/beta/sda1", "plain", "plain (2)/z"]


@pytest.fixture
def several(program: Program, tmp_path: Path) -> Program:
    program.run(
        "add", *(make(tmp_path / f"{name}.img") for name in ("sda1", "sda2", "sdb1", "[x]", "x*y"))
    )
    return program


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("sd*", "laptop/"), ["laptop/sda1", "laptop/sda2", "laptop/sdb1", "[x]", "x*y"]),
        (("sd*", "a/*/b"), ["a/a1/b", "a/a2/b", "a/b1/b", "[x]", "x*y"]),
        (("sd?1", "one/?"), ["one/a", "sda2", "one/b", "[x]", "x*y"]),
        (("s*a[12]", "*-?"), ["d-1", "d-2", "sdb1", "[x]", "x*y"]),
        # What is a name is that, and no pattern.
        (("x*y", "z"), ["sda1", "sda2", "sdb1", "[x]", "z"]),
        (("[x]", "deep/"), ["sda1", "sda2", "sdb1", "deep/[x]", "x*y"]),
    ],
)
def test_many_are_renamed_by_a_pattern(
    several: Program, arguments: tuple[str, str], expected: list[str]
) -> None:
    before = names(several)
    dry = several.run("rename", "--dry-run", *arguments)
    assert {line.split()[0] for line in dry.stdout.splitlines()} == {"would"}
    assert names(several) == before
    several.run("rename", *arguments)
    assert names(several) == sorted(expected)


def test_all_are_renamed_or_none(several: Program) -> None:
    before = names(several)
    said = several.run("rename", "sd*", "one", code=2).stderr
    assert "has 0 of the 1 wildcards" in said
    # One of the two names is another image's: neither is changed.
    assert "'sda2' is the name of another" in several.run("rename", "sd?1", "sd?2", code=2).stderr
    assert "nope*: no image" in several.run("rename", "nope*", "x*", code=3).stderr
    assert names(several) == before
    said = several.run("rename", "sd*", "sd*")
    assert (said.stdout, said.stderr) == ("", "imgcat: all have these names already\n")
    several.run("rename", "sda?", "sd?")
    assert names(several) == sorted({*before, "sd1", "sd2"} - {"sda1", "sda2"})


def test_what_is_named_after_a_disk_follows_it(program: Program, qcow2: Path) -> None:
    program.run("add", qcow2)
    program.run("rename", "*.qcow2", "machines/")
    assert {"machines/vm.qcow2"} <= set(names(program))


@pytest.mark.parametrize(
    "name", ["a\nb", "tab\there", "bell\a", "\u200bzero", "back\\slash", "\\n", "odd\udcff"]
)
def test_a_name_can_be_typed_as_it_is_printed(program: Program, tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.img").write_bytes(make(tmp_path / "x.img").read_bytes())
    program.run("add", tmp_path / f"{name}.img", tmp_path / "x.img")
    printed = next(
        line.split()[1] for line in program.run("ls").stdout.splitlines()
        if line.endswith(".img") and not line.endswith("/x.img")
    )  # fmt: skip
    assert printed.isprintable()
    assert program.json("show", printed)["name"] == name
    assert [each["name"] for each in program.json("ls", printed)] == [name]
    program.run("rename", printed, "plain")
    assert names(program) == ["plain", "x"]


def test_two_that_are_printed_alike_are_not_taken_for_each_other(
    program: Program, tmp_path: Path
) -> None:
    for name in ("a\nb", "a\\nb"):
        (tmp_path / f"{name}.img").write_bytes(make(tmp_path / "x.img").read_bytes())
        program.run("add", tmp_path / f"{name}.img")
    # What is a name is that.
    assert program.json("show", "a\\nb")["name"] == "a\\nb"
