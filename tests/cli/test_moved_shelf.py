"""A shelf that moves: renamed, copied with its times, carried away, put on read-only media."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, write
from support.program import is_mounted
from support.shelf import BLOCK, entries, exported, guests, made
from support.streams import compress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.program import Program


def outcomes(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        # The last line of a walk is a summary.
        if ":" in line and not line[0].isdigit():
            outcome, name = line.split(":")[0].split(maxsplit=1)
            found[name] = outcome
    return found


def test_a_directory_that_was_renamed(program: Program, shelf: Path) -> None:
    program.run("add", "-r", shelf)
    program.run("verify", "--all")
    before, held = entries(program), guests(program)
    verified = {each["name"]: each["verified_at"] for each in program.json("ls")}
    elsewhere = shelf.with_name("elsewhere")
    shelf.rename(elsewhere)
    assert {status for _id, status, _path in entries(program).values()} == {"missing"}
    said = outcomes(program.run("add", "-r", elsewhere).stdout)
    disks = {"laptop/sda.disk"}
    assert {said[name] for name in before.keys() - disks} == {"moved"}
    now = entries(program)
    assert {name: each[0] for name, each in now.items()} == {
        name: each[0] for name, each in before.items()
    }
    assert {status for _id, status, _path in now.values()} == {"ready"}
    assert all(path is None or path.startswith(f"{elsewhere}/") for _i, _s, path in now.values())
    # The same files, by size, time and inode: what was verified stays so.
    assert {
        each["name"]: each["verified_at"] for each in program.json("ls")
        if each["name"] not in disks
    } == {name: at for name, at in verified.items() if name not in disks}  # fmt: skip
    assert guests(program) == held
    assert program.sql("SELECT path FROM image_directories") == [
        {"path": str(elsewhere / "laptop")}
    ]


def test_a_copy_that_kept_the_times(program: Program, shelf: Path) -> None:
    """Another inode each, the same size and time: what is sealed is known, the rest scanned."""
    program.run("add", "-r", shelf)
    before, held = entries(program), guests(program)
    copy = shelf.with_name("copy")
    subprocess.run(["cp", "-a", shelf, copy], check=True)
    shutil.rmtree(shelf)
    said = outcomes(program.run("add", "-r", copy).stdout)
    assert {said[name] for name in before if name != "laptop/sda.disk"} == {"moved"}
    assert {name: each[0] for name, each in entries(program).items()} == {
        name: each[0] for name, each in before.items()
    }
    assert guests(program) == held
    assert program.run("db", "check").stdout == "ok\n"


def test_what_was_copied_back_is_known_by_rescan(program: Program, shelf: Path) -> None:
    program.run("add", "-r", shelf)
    held = guests(program)
    indexes = index_ids(program)
    copy = shelf.with_name("copy")
    subprocess.run(["cp", "-a", shelf, copy], check=True)
    shutil.rmtree(shelf)
    program.run("rescan", code=3)
    assert {each["status"] for each in program.json("ls")} == {"missing"}
    copy.rename(shelf)
    # It is what it was before, without a look at its bytes; so says the catalog too.
    now = {name: status for name, (_id, status, _path) in entries(program).items()}
    assert {name: status for name, status in now.items() if status != "ready"} == {
        "laptop/sda2": "stale", "beta/ntfs": "stale", "laptop/sda.disk": "damaged",
    }  # fmt: skip
    assert program.sql("SELECT name FROM images WHERE status <> 'ready' ORDER BY name") == [
        {"name": "beta/ntfs"}, {"name": "laptop/sda.disk"}, {"name": "laptop/sda2"},
    ]  # fmt: skip
    program.run("rescan")
    assert {each["status"] for each in program.json("ls")} == {"ready"}
    found = index_ids(program)
    packed = {"alpha/packed0", "alpha/packed1", "alpha/packed2", "beta/split"}
    assert {name: found[name] for name in packed} == {name: indexes[name] for name in packed}
    assert guests(program) == held


def index_ids(program: Program) -> dict[str, int]:
    return {
        each["name"]: each["index_id"] for each in program.sql("SELECT name, index_id FROM images")
    }


def test_no_more_than_samples_are_read_of_what_was_moved(program: Program, tmp_path: Path) -> None:
    place = tmp_path / "shelf"
    place.mkdir()
    rng = random.Random(8)
    for number in range(2):
        present = [rng.random() < 0.9 for _ in range(10_000)]
        guest = rng.randbytes(BLOCK * 10_000)
        image = write(Recipe(present=present, block_size=BLOCK, guest=guest)).image
        (place / f"i{number}.img.zst").write_bytes(compress("zstd", image))
    stored = sum(path.stat().st_size for path in place.iterdir())
    assert read_of_images(program, tmp_path, "add", "-r", place) > stored
    place.rename(tmp_path / "moved")
    assert read_of_images(program, tmp_path, "add", "-r", tmp_path / "moved") < 0.01 * stored
    assert {each["status"] for each in program.json("ls")} == {"ready"}
    # And nothing at all of what is where it was.
    assert read_of_images(program, tmp_path, "add", "-r", tmp_path / "moved") == 0


def read_of_images(program: Program, tmp_path: Path, *arguments: object) -> int:
    """Run a command, and return the bytes that it reads of images, by a trace of its calls."""
    trace = tmp_path / "trace"
    result = subprocess.run(
        ["strace", "-f", "-y", "-e", "trace=read,pread64,preadv,preadv2,mmap", "-o", trace,
         sys.executable, "-m", "imgcat", *map(str, arguments)],
        env=program.environment, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    total = 0
    waiting = set()
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split()[0]
        if ".img.zst>" in line:
            assert "mmap" not in line
            if line.endswith("<unfinished ...>"):
                waiting.add(thread)
                continue
        elif thread not in waiting or "resumed>" not in line:
            continue
        waiting.discard(thread)
        total += max(0, int(line.rpartition("= ")[2].split()[0]))
    return total


def test_links_to_one_file_are_one_image(program: Program, shelf: Path) -> None:
    program.run("add", shelf / "beta" / "plain.img", shelf / "alpha" / "packed0.img.gz")
    os.link(shelf / "beta" / "plain.img", shelf / "hard.img")
    (shelf / "soft.img").symlink_to(shelf / "alpha" / "packed0.img.gz")
    said = program.run("add", shelf / "hard.img", shelf / "soft.img").stdout
    assert outcomes(said) == {"plain": "unchanged", "packed0": "unchanged"}
    assert set(entries(program)) == {"plain", "packed0"}
    # It is the same image where one of its names is gone.
    (shelf / "beta" / "plain.img").unlink()
    assert outcomes(program.run("add", shelf / "hard.img").stdout) == {"plain": "moved"}


def test_copies_that_swap_places_keep_their_names_by_their_paths(
    program: Program, shelf: Path
) -> None:
    first, second = shelf / "alpha" / "packed0.img.gz", shelf / "alpha" / "copy.img.gz"
    subprocess.run(["cp", "-a", first, second], check=True)
    program.run("add", first, second)
    before = entries(program)
    first.rename(shelf / "aside")
    second.rename(first)
    (shelf / "aside").rename(second)
    program.run("add", first, second)
    assert entries(program) == before


def test_a_file_as_large_and_as_old_as_one_that_is_gone_is_looked_at(
    program: Program, tmp_path: Path
) -> None:
    rng = random.Random(2)
    one = compress("zstd", made(rng))
    other = compress("zstd", made(rng))
    size = max(len(one), len(other))
    first, second = tmp_path / "one.img.zst", tmp_path / "two.img.zst"
    for path, data in ((first, one), (second, other)):
        # A frame that decoders pass over makes them as large as each other.
        padding = size - len(data) + 8
        path.write_bytes(data + b"\x50\x2a\x4d\x18" + (padding - 8).to_bytes(4, "little")
                         + bytes(padding - 8))  # fmt: skip
        os.utime(path, ns=(10**18, 10**18))
    assert first.stat().st_size == second.stat().st_size
    second.rename(tmp_path / "aside")
    program.run("add", first)
    held = guests(program)
    first.unlink()
    (tmp_path / "aside").rename(second)
    assert outcomes(program.run("add", second).stdout) == {"two": "added"}
    assert guests_of(program, "two") != held["one"]


def guests_of(program: Program, name: str) -> str:
    return hashlib.sha256(exported(program, name)).hexdigest()


def test_relocate_tells_of_another_place_without_a_look(program: Program, shelf: Path) -> None:
    program.run("add", "-r", shelf)
    before, held = entries(program), guests(program)
    count = len(list(program.sql("SELECT path FROM volumes")))
    elsewhere = shelf.with_name("elsewhere")
    dry = program.run("relocate", "--dry-run", shelf, elsewhere).stdout.splitlines()
    assert dry[-1] == f"{count} files would be relocated, 0 of them there"
    assert f"{shelf}/beta/plain.img -> {elsewhere}/beta/plain.img  (is not there)" in dry
    assert entries(program) == before
    shelf.rename(elsewhere)
    told = program.run("relocate", shelf, elsewhere).stdout
    assert told == f"{count} files relocated, {count} of them there\n"
    now = entries(program)
    assert now == {
        name: (each, status, path and path.replace(str(shelf), str(elsewhere)))
        for name, (each, status, path) in before.items()
    }
    assert guests(program) == held
    assert {row["path"] for row in program.sql("SELECT path FROM image_directories")} == {
        str(elsewhere / "laptop")
    }
    assert outcomes(program.run("add", "-r", elsewhere).stdout).keys() == before.keys()
    assert "nowhere" in program.run("relocate", shelf / "nowhere", elsewhere, code=3).stderr
    found = program.json("relocate", elsewhere, shelf, "--dry-run")
    assert found["dry_run"] is True
    assert {each["new"] for each in found["files"]} >= {str(shelf / "beta" / "plain.img")}


def test_relocate_below_itself_and_back(program: Program, shelf: Path) -> None:
    program.run("add", "-r", shelf)
    before = entries(program)
    inner = shelf / "alpha" / "alpha"
    aside = shelf / "aside"
    (shelf / "alpha").rename(aside)
    inner.parent.mkdir()
    aside.rename(inner)
    program.run("relocate", shelf / "alpha", inner)
    assert {status for _id, status, _path in entries(program).values()} == {"ready"}
    program.run("relocate", inner, shelf / "alpha")
    assert {name: path for name, (_i, _s, path) in entries(program).items()} == {
        name: path for name, (_i, _s, path) in before.items()
    }


def test_relocate_onto_images_that_are_known_is_refused(program: Program, shelf: Path) -> None:
    program.run("add", shelf / "beta" / "plain.img")
    shutil.copy(shelf / "beta" / "plain.img", shelf / "plain.img")
    program.run("add", shelf / "plain.img")
    before = entries(program)
    said = program.run("relocate", shelf / "beta", shelf, code=2).stderr
    assert f"{shelf}/plain.img: is in the catalog from there already" in said
    assert entries(program) == before


@pytest.fixture
def moving(program: Program, shelf: Path) -> Program:
    """A portable catalog beside its images."""
    program.catalog = shelf / "catalog.db"
    program.environment["IMGCAT_DB"] = str(program.catalog)
    assert program.run("db", "create", "--portable").stdout == f"{program.catalog}\n"
    program.run("add", "-r", shelf)
    return program


def use(program: Program, catalog: Path) -> None:
    program.catalog = catalog
    program.environment["IMGCAT_DB"] = str(catalog)


def test_a_catalog_beside_its_images_moves_with_them(moving: Program, shelf: Path) -> None:
    before, held = entries(moving), guests(moving)
    stored = sqlite3.connect(moving.catalog).execute("SELECT path FROM volumes").fetchall()
    assert all(not path.startswith("/") for (path,) in stored)
    assert before["beta/plain"][2] == str(shelf / "beta" / "plain.img")
    elsewhere = shelf.with_name("elsewhere")
    shelf.rename(elsewhere)
    use(moving, elsewhere / "catalog.db")
    now = entries(moving)
    assert now == {
        name: (each, status, path and path.replace(str(shelf), str(elsewhere)))
        for name, (each, status, path) in before.items()
    }
    assert guests(moving) == held
    assert set(outcomes(moving.run("add", "-r", elsewhere).stdout).values()) == {"unchanged"}
    assert moving.run("show", elsewhere / "beta" / "plain.img").stdout
    moving.run("rescan")
    moving.run("verify", "--all")


def test_a_file_elsewhere_keeps_its_path_in_a_portable_catalog(
    moving: Program, tmp_path: Path, shelf: Path
) -> None:
    other = tmp_path / "other.img"
    shutil.copy(shelf / "beta" / "plain.img", other)
    moving.run("add", other)
    assert entries(moving)["other"][2] == str(other)
    assert entries(moving)["beta/plain"][2] == str(shelf / "beta" / "plain.img")


def test_add_relative_makes_a_catalog_portable(program: Program, shelf: Path) -> None:
    use(program, shelf / "catalog.db")
    program.run("add", shelf / "beta" / "ntfs.img")
    program.run("add", "--relative", shelf / "beta" / "plain.img")
    rows = sqlite3.connect(program.catalog).execute("SELECT path FROM images").fetchall()
    assert sorted(rows) == [("beta/ntfs.img",), ("beta/plain.img",)]
    assert program.sql("SELECT place(path) AS path FROM images ORDER BY 1") == [
        {"path": str(shelf / "beta" / name)} for name in ("ntfs.img", "plain.img")
    ]


@pytest.fixture
def read_only(moving: Program, shelf: Path) -> Iterator[Path]:
    """The shelf, where nothing can be written."""
    where = shelf.with_name("disc")
    where.mkdir()
    subprocess.run(["mount", "--bind", "-o", "ro", shelf, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def test_a_shelf_on_read_only_media(moving: Program, read_only: Path, tmp_path: Path) -> None:
    held = guests(moving)
    use(moving, read_only / "catalog.db")
    assert {status for _id, status, _path in entries(moving).values()} == {"ready"}
    assert {path for _i, _s, path in entries(moving).values() if path} >= {
        str(read_only / "beta" / "plain.img")
    }
    assert guests(moving) == held
    assert moving.sql("SELECT count(*) AS n FROM shelf") == [{"n": len(held)}]
    if os.path.exists("/dev/fuse"):
        mount = moving.mount_all(tmp_path / "mount")
        assert is_mounted(mount)
        assert (
            hashlib.sha256((mount / "beta" / "plain").read_bytes()).hexdigest()
            == held["beta/plain"]
        )
        moving.run("unmount", mount)
