"""ls: what is listed, in which order, and how it fits the terminal."""

from __future__ import annotations

import os
import pty
import random
import re
import struct
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from support.partclone_writer import Recipe, write
from support.small_disk import SmallDisk

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

LONG = "x" * 245
NAMES = ("a", "b", "7", "[ab]", "wide-日本語の名前", "ctrl\x1bname", LONG)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shelf")
    rng = random.Random(4)
    for number, name in enumerate(NAMES):
        present = [rng.random() < 0.5 for _ in range(100 * (number + 1))]
        (place / f"{name}.img").write_bytes(write(Recipe(present=present)).image)
    SmallDisk(place / "laptop")
    return place


@pytest.fixture
def filled(program: Program, shelf: Path) -> Program:
    program.run("add", "-r", shelf)
    return program


def names(program: Program, *arguments: object) -> list[str]:
    return [each["name"] for each in program.json("ls", *arguments)]


def table(program: Program, *arguments: object) -> list[list[str]]:
    text = program.run("ls", *arguments).stdout
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_images_are_named_by_id_path_and_glob_and_a_name_comes_first(
    filled: Program, shelf: Path
) -> None:
    ids = {each["name"]: each["id"] for each in filled.json("ls")}
    assert names(filled, "a") == ["a"]
    assert names(filled, str(ids["b"])) == ["b"]
    # A name that is a number is that name, whatever id it is.
    assert names(filled, "7") == ["7"]
    assert ids["7"] != 7
    # A name that looks like a pattern is that name.
    assert names(filled, "[ab]") == ["[ab]"]
    assert sorted(names(filled, "laptop/*")) == ["laptop/sda.disk", "laptop/sda1", "laptop/sda2"]
    assert names(filled, shelf / "a.img") == ["a"]
    # Each once, in the order of the whole list.
    assert names(filled, "b", "a", "[a-b]*") == ["a", "b"]


def test_what_is_not_there_is_said(filled: Program, program: Program) -> None:
    said = filled.run("ls", "nowhere", "a", code=3)
    assert said.stderr == "imgcat: nowhere: no image has this name, id or path\n"
    assert " a " in said.stdout
    said = filled.run("ls", "--status", "damaged", code=3)
    assert (said.stdout, said.stderr) == ("", "imgcat: no image is like that\n")
    program.run("db", "create", "--db", program.home / "empty.db")
    said = program.run("ls", "--db", program.home / "empty.db")
    assert said.stderr == "imgcat: no images yet: `imgcat add IMAGE...` adds some\n"


def test_filters(filled: Program, shelf: Path) -> None:
    assert set(names(filled, "--format", "ntfsclone")) == {"laptop/sda2"}
    assert set(names(filled, "--format", "ntfsclone", "--format", "disk")) == {
        "laptop/sda2", "laptop/sda.disk",
    }  # fmt: skip
    away = shelf / "a.away"
    (shelf / "a.img").rename(away)
    try:
        assert names(filled, "--status", "missing") == ["a"]
        assert "a" not in names(filled, "--status", "ready")
        assert set(names(filled, "--status", "missing", "--status", "ready")) == set(names(filled))
    finally:
        away.rename(shelf / "a.img")


@pytest.mark.parametrize(
    ("column", "field"),
    [("id", "id"), ("name", "name"), ("size", "size_bytes"), ("used", "used_bytes"),
     ("stored", "stored_bytes"), ("format", "format"), ("added", "added_at")],
)  # fmt: skip
def test_sorting(filled: Program, column: str, field: str) -> None:
    rows = filled.json("ls", "--sort", column)
    assert [each[field] for each in rows] == sorted(each[field] for each in rows)
    rows = filled.json("ls", f"--sort=-{column}")
    assert [each[field] for each in rows] == sorted((each[field] for each in rows), reverse=True)


def test_what_has_nothing_to_sort_by_comes_last(filled: Program) -> None:
    filled.run("verify", "b")
    for sort in ("verified", "-verified"):
        assert names(filled, f"--sort={sort}")[0] == "b"
    assert names(filled, "--sort=path")[-1] == "laptop/sda.disk"
    assert filled.run("ls", "--sort", "colour", code=2).stderr.count("colour") == 1


def test_columns(filled: Program) -> None:
    rows = table(filled, "--columns", "name,id,parent,checksum", "a", "b")
    assert rows[0] == ["NAME", "ID", "PARENT", "CHECKSUM"]
    assert [row[0] for row in rows[1:]] == ["a", "b"]
    assert rows[1][3] == "crc32"
    filled.run("ls", "--columns", "name,nonsense", code=2)


def test_the_date_of_a_verification_and_what_it_was_worth(filled: Program) -> None:
    filled.run("verify", "a", "laptop/sda2")
    rows = table(filled, "--columns", "name,verified", "a", "b", "laptop/sda2")
    day = filled.json("ls", "a")[0]["verified_at"][:10]
    assert rows[1:] == [
        ["a", f"{day} ok (every crc32)"], ["b", "-"], ["laptop/sda2", f"{day} ok (structure only)"],
    ]  # fmt: skip


def test_totals_count_bytes_once(filled: Program) -> None:
    rows = filled.json("ls")
    stored = sum(each["stored_bytes"] for each in rows if each["path"])
    last = filled.run("ls", "--totals").stdout.splitlines()[-1]
    assert last.startswith(f"{len(rows)} images: ")
    assert last.endswith(f"{stored / 1024:.0f}K stored")
    assert filled.sql("SELECT stored_bytes FROM totals") == [{"stored_bytes": stored}]


def test_everything_can_be_verified(filled: Program) -> None:
    assert filled.sql("SELECT never_verified AS n FROM totals") == [{"n": len(NAMES) + 2}]
    filled.run("verify", "--all")
    assert filled.sql("SELECT never_verified AS n FROM totals") == [{"n": 0}]


def on_terminal(program: Program, columns: int, *arguments: str, **variables: str) -> str:
    """Return what the program writes to a terminal of so many columns."""
    import fcntl
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in program.environment.items() if key != "COLUMNS"} | {
        "TERM": "xterm",
        **variables,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "imgcat", *arguments], stdout=follower, stdin=follower,
        env=environment,
    ) as process:  # fmt: skip
        os.close(follower)
        written = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:
                break
            if not piece:
                break
            written += piece
        process.wait(60)
    os.close(leader)
    return written.decode().replace("\r\n", "\n")


COLOUR = re.compile(r"\x1b\[\d*m")


def cells(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_table_fits_the_terminal(filled: Program, columns: int) -> None:
    text = on_terminal(filled, columns, "ls")
    lines = COLOUR.sub("", text).splitlines()
    assert len(lines) == 1 + len(NAMES) + 3
    assert max(map(cells, lines)) <= columns
    assert "\x1b" not in COLOUR.sub("", text)
    assert "ctrl\\x1bname" in text if columns > 40 else True
    assert "NAME" in lines[0]
    assert ("PATH" in lines[0]) == (columns >= 80)
    assert ("COMPRESSION" in lines[0]) == (columns >= 200)
    # A long name loses its middle; a short one nothing.
    assert re.search(r"x…x", text)
    assert re.search(r"^ *\d+  a  ", "\n".join(lines), re.MULTILINE)


def test_nothing_is_cut_where_there_is_no_terminal(filled: Program) -> None:
    text = filled.run("ls").stdout
    assert LONG in text
    assert "…" not in text
    assert "\x1b" not in text


def test_colours_are_of_a_terminal_that_wants_them(filled: Program) -> None:
    assert COLOUR.search(on_terminal(filled, 100, "ls"))
    assert not COLOUR.search(on_terminal(filled, 100, "ls", NO_COLOR="1"))
    assert not COLOUR.search(on_terminal(filled, 100, "ls", TERM="dumb"))


def test_by_format_and_what_is_wrong_where_more_is_said(filled: Program) -> None:
    formats = {each["name"]: each["format"] for each in filled.json("ls")}
    assert len(set(formats.values())) >= 2
    for wanted in set(formats.values()):
        listed = {each["name"] for each in filled.json("ls", "--format", wanted)}
        assert listed == {name for name, found in formats.items() if found == wanted}
    (path,) = {each["path"] for each in filled.json("ls", "a")}
    os.unlink(path)
    quiet, said = filled.run("ls").stderr, filled.run("ls", "-v").stderr
    assert quiet == ""
    assert f"imgcat: a: missing: {path} is not there" in said
