"""What one catalog knows, carried into another: whole, in part, again, and to another machine."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.old_catalogs import populate
from support.program import Program
from support.shelf import entries, guests

from .test_moved_shelf import index_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Program]:
    """Another machine: a home, and a catalog, of its own."""
    with Program(tmp_path / "other-home") as machine:
        yield machine


def rows(program: Program, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(program.catalog) as connection:
        return sorted(connection.execute(query).fetchall(), key=repr)


def test_a_catalog_is_carried_to_another_machine(
    program: Program, other: Program, shelf: Path, qcow2: Path
) -> None:
    shutil.copytree(qcow2.parent, shelf / "vm", ignore=lambda _d, names: [
        each for each in names if not each.endswith((".qcow2", ".raw"))
    ])  # fmt: skip
    program.run("add", "-r", shelf)
    program.run("verify", "--all")
    held, known = guests(program), entries(program)
    assert {"vm/vm.qcow2", "laptop/sda.disk", "beta/ntfs", "alpha/packed0"} <= known.keys()

    small = program.home / "small.db"
    said = program.run("db", "export", "*", "-o", small).stdout
    assert said == f"{small}: {len(known)} images\n"
    # The other machine has the disk elsewhere, and no image is read there but those asked for.
    elsewhere = shelf.with_name("elsewhere")
    shelf.rename(elsewhere)
    merged = other.run("db", "merge", small)
    assert merged.stderr == f"imgcat: {small}: {len(known)} images: {len(known)} added\n"
    assert {line.split()[0] for line in merged.stdout.splitlines()} == {"added"}
    assert {status for _i, status, _p in entries(other).values()} == {"missing"}
    other.run("relocate", shelf, elsewhere)
    assert {status for _i, status, _p in entries(other).values()} == {"ready"}
    assert guests(other) == held
    assert {
        each["name"]: (each["verified_at"], each["verify_result"]) for each in other.json("ls")
    } == {
        each["name"]: (each["verified_at"], each["verify_result"]) for each in program.json("ls")
    }  # fmt: skip
    assert other.run("db", "check").stdout == "ok\n"
    for query in (
        "SELECT content_key FROM indexes",
        "SELECT count(*) FROM seek_points",
        "SELECT hashes FROM page_hashes",
        "SELECT child_name, start_byte, child_key FROM segments",
        "SELECT number, start_byte, stop_byte, type FROM partitions",
        "SELECT name, kind, detail FROM directory_facts",
        "SELECT role, device FROM directory_images",
        "SELECT type, uuid FROM file_systems",
    ):
        assert rows(other, query) == rows(program, query), query
    # All of it is known there: a walk finds nothing new.
    assert (
        other.json("add", "-r", elsewhere)["summary"]["unchanged"]
        == len(known) - len([path for _i, _s, path in known.values() if path is None]) + 1
    )  # the disk of Clonezilla


def test_a_part_goes_with_what_it_is_bound_to(
    program: Program, other: Program, shelf: Path
) -> None:
    program.run("add", "-r", shelf)
    small = program.home / "small.db"
    assert [each["name"] for each in program.json("db", "export", "laptop/sda.disk", "-o", small)[
        "images"
    ]] == ["laptop/sda1", "laptop/sda2", "laptop/sda.disk"]  # fmt: skip
    program.run("db", "export", "beta/split", "-o", small, code=2)
    found = other.json("db", "merge", "--prefix", "old/one", small)[0]["images"]
    assert {each["name"] for each in found} == {
        "old/one/laptop/sda1", "old/one/laptop/sda2", "old/one/laptop/sda.disk",
    }  # fmt: skip
    assert {each["outcome"] for each in found} == {"added"}
    whole = guests(program)
    assert guests(other) == {f"old/one/{name}": whole[name] for name in whole if "laptop" in name}
    other.run("db", "merge", "--prefix", "a//b", small, code=2)


def test_merged_again_is_unchanged_and_a_newer_verdict_is_taken(
    program: Program, other: Program, shelf: Path
) -> None:
    program.run("add", "-r", shelf)
    other.run("db", "merge", program.catalog)
    before = index_ids(other)
    again = other.json("db", "merge", program.catalog)[0]["images"]
    assert {each["outcome"] for each in again} == {"unchanged"}
    program.run("verify", "--all")
    taken = other.json("db", "merge", program.catalog)[0]["images"]
    assert {each["name"]: each["outcome"] for each in taken} == {
        each["name"]: "updated" for each in taken
    }
    assert {each["verify_result"] for each in other.json("ls")} == {"ok"}
    assert index_ids(other) == before
    # Renamed here, removed there: it is still the same image.
    other.run("rename", "beta/ntfs", "mine")
    program.run("rm", "alpha/packed0")
    assert other.json("db", "merge", program.catalog)[0]["images"][0]["outcome"] == "unchanged"
    assert {"mine", "alpha/packed0"} <= entries(other).keys()
    assert "beta/ntfs" not in entries(other)


def test_what_both_have_found_for_themselves_is_one_image(
    program: Program, other: Program, shelf: Path
) -> None:
    """Added on both machines: by path; and, where the path is not there, by all of its bytes."""
    program.run("add", "-r", shelf)
    other.run("add", "-r", shelf)
    before = index_ids(other)
    found = other.json("db", "merge", program.catalog)[0]["images"]
    assert {each["outcome"] for each in found} == {"unchanged"}
    elsewhere = shelf.with_name("elsewhere")
    shelf.rename(elsewhere)
    other.run("add", "-r", elsewhere)
    found = {
        each["before"]: each for each in other.json("db", "merge", program.catalog)[0]["images"]
    }
    assert found["alpha/packed0"]["outcome"] == "unchanged"
    assert found["alpha/packed0"]["id"] == entries(other)["alpha/packed0"][0]
    # Nobody has hashed all of these: they are entries of their own, which say what they are.
    assert found["beta/plain"]["name"] == "beta/plain (2)"
    assert entries(other)["beta/plain (2)"][1] == "missing"
    assert before.items() <= index_ids(other).items()
    assert other.run("db", "check").stdout == "ok\n"


def test_what_is_merged_into_a_portable_catalog_is_near_it(
    program: Program, other: Program, shelf: Path
) -> None:
    program.run("add", "-r", shelf)
    target = shelf / "catalog.db"
    other.run("--db", target, "db", "create", "--portable")
    other.run("--db", target, "db", "merge", program.catalog)
    with sqlite3.connect(target) as connection:
        paths = {path for (path,) in connection.execute("SELECT path FROM volumes")}
    assert all(not path.startswith("/") for path in paths)
    assert {each["status"] for each in other.json("--db", target, "ls")} == {"ready"}


def test_an_older_catalog_is_merged_and_stays_as_it_was(program: Program, other: Program) -> None:
    old = program.home / "old.db"
    with sqlite3.connect(old) as connection:
        populate(connection, "0007")
    before = old.read_bytes()
    assert other.json("db", "merge", old)[0]["images"]
    assert old.read_bytes() == before
    assert other.run("db", "check").stdout == "ok\n"


def test_what_cannot_be_merged_says_why_and_stops_nothing(
    program: Program, other: Program, shelf: Path
) -> None:
    program.run("add", "-r", shelf)
    broken, none = other.home / "broken.db", other.home / "none.db"
    shutil.copy(program.catalog, broken)
    with sqlite3.connect(broken) as connection:
        connection.execute("UPDATE rank_chunks SET bitmap = x'00' WHERE chunk = 0")
    connection.close()
    broken_bytes = broken.read_bytes()
    result = other.run("db", "merge", broken, none, program.catalog, code=6)
    said = result.stderr.splitlines()
    assert said[0].startswith(f"imgcat: {broken}: is not whole: ")
    assert said[1] == f"imgcat: {none}: there is no catalog yet: `imgcat add IMAGE...` makes one"
    assert "added" in said[2]
    assert broken.read_bytes() == broken_bytes
    assert len(entries(other)) == len(entries(program))
    same = other.run("db", "merge", other.catalog, code=6).stderr
    assert same == f"imgcat: {other.catalog}: is this catalog itself\n"
    told = other.json("db", "export", "beta/plain", "-o", other.home / "x.db")
    assert told["path"] == str(other.home / "x.db")
    assert subprocess.run(["stat", "-c", "%a", other.home / "x.db"], capture_output=True, text=True,
                          check=True).stdout == "600\n"  # fmt: skip


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "a//b", "x/../y", "n" * 3000, ".."])
def test_a_name_that_nobody_gave_leads_nowhere(
    program: Program, other: Program, shelf: Path, name: str
) -> None:
    """A catalog may come from anywhere: what cannot be a name becomes one that can."""
    program.run("add", shelf / "beta" / "plain.img")
    with sqlite3.connect(program.catalog) as connection:
        connection.execute("UPDATE images SET name = ?", (name,))
    connection.close()
    for prefix, expected in (("", "image 1"), ("from/afar", "from/afar/image 1")):
        catalog = other.home / f"{len(prefix)}.db"
        other.run("--db", catalog, "db", "merge", "--prefix", prefix, program.catalog)
        assert [each["name"] for each in other.json("--db", catalog, "ls")] == [expected]


@pytest.mark.parametrize("moments", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_a_merge_that_is_killed_leaves_all_or_nothing(
    program: Program, other: Program, shelf: Path, moments: int
) -> None:
    program.run("add", "-r", shelf)
    whole = len(entries(program))
    other.run("db", "create")
    began = time.monotonic()
    Program(other.home / "timed").run("db", "merge", program.catalog)
    takes = time.monotonic() - began
    for number in range(moments):
        merging = other.start("db", "merge", program.catalog)
        time.sleep(takes * (number + 1) / (moments + 1))
        merging.kill()
        merging.wait()
        assert len(other.json("ls")) in {0, whole}
        assert other.run("db", "check").stdout == "ok\n"
    other.run("db", "merge", program.catalog)
    assert len(entries(other)) == whole
    assert guests(other) == guests(program)


def test_two_that_merge_at_once_make_each_image_once(
    program: Program, other: Program, shelf: Path
) -> None:
    program.run("add", "-r", shelf)
    other.run("db", "create")
    both = [other.start("db", "merge", program.catalog) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]
    assert entries(other).keys() == entries(program).keys()
    assert other.run("db", "check").stdout == "ok\n"
