"""find, history and diff over five backups of a volume that changes, against its mounts.

What they say is compared with `find` and `diff -r` on mounts of the backups themselves, or on what
mtools takes out of them where the kernel has no driver.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import ntfs
from support.files_inside import loop_mounted
from support.ntfs import ntfs_3g
from support.program import Program
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterable, Iterator
    from pathlib import Path

GENERATIONS = 5

_ODD = {"ext4": b"caf\xe9\n", "ntfs": "café".encode(), "vfat": b"long name of a file.text"}


class Shelf(NamedTuple):
    """Backups of a volume, and what was in each: a directory that outlives its mount."""

    kind: str
    images: list[Path]
    trees: list[Path]


def _write(path: bytes, text: str, day: int) -> None:
    with open(path, "w") as opened:
        opened.write(text)
    # Two seconds are what FAT has of a time, and the clock here may be in any zone.
    moment = 1_700_000_000 + day * 86_400
    os.utime(path, (moment, moment))


class _Changes:
    """Changes what is in a directory: created, changed, renamed, deleted, of another type, again.

    Args:
        top: the directory.
        kind: the file system that it is for.
    """

    def __init__(self, top: Path, kind: str) -> None:
        self._top = os.fsencode(top)
        self._kind = kind

    def make(self, number: int) -> None:
        """Change the directory into what backup `number` shall have."""
        (self._first, self._second, self._third, self._fourth, self._fifth)[number]()

    def _at(self, name: str | bytes) -> bytes:
        return os.path.join(self._top, os.fsencode(name))

    def _first(self) -> None:
        at = self._at
        for name in ("docs", "docs/deep", "docs/deep/er", "home", "old"):
            os.mkdir(at(name))
        for count in range(30):
            _write(at(f"docs/file{count:02}.txt"), f"{count}\n" * count, 1)
        _write(at("docs/deep/er/thesis.odt"), "thesis\n" * 100, 1)
        _write(at("home/comes and goes"), "here\n", 1)
        _write(at("old/becomes a directory"), "file\n", 1)
        _write(at(b"home/" + _ODD[self._kind]), "odd\n", 1)
        if self._kind != "vfat":
            os.link(at("docs/file01.txt"), at("home/hard link"))

    def _second(self) -> None:
        at = self._at
        _write(at("docs/file05.txt"), "five, changed\n", 2)
        os.rename(at("docs/file06.txt"), at("home/file06 moved.txt"))
        os.remove(at("home/comes and goes"))
        _write(at("docs/new in two"), "new\n", 2)
        os.remove(at("old/becomes a directory"))
        os.mkdir(at("old/becomes a directory"))
        _write(at("old/becomes a directory/inside"), "inside\n", 2)

    def _third(self) -> None:
        at = self._at
        os.rename(at("docs/deep"), at("deep moved"))
        _write(at("home/comes and goes"), "here again, other\n", 3)
        shutil.rmtree(at("old"))
        _write(at("old"), "a file now\n", 3)
        if self._kind == "ext4":
            os.symlink("docs", at("link"))
            os.chmod(at("docs/file07.txt"), 0o600)

    def _fourth(self) -> None:
        at = self._at
        _write(at("home/comes and goes"), "here\n", 1)
        for count in range(10, 20):
            os.remove(at(f"docs/file{count}.txt"))
        if self._kind != "vfat":
            os.remove(at("docs/file01.txt"))
        if self._kind == "ext4":
            os.remove(at("link"))
            os.mkdir(at("link"))
            _write(at("link/in"), "in\n", 4)

    def _fifth(self) -> None:
        at = self._at
        os.rename(at("deep moved"), at("docs/deep"))
        os.remove(at(b"home/" + _ODD[self._kind]))
        _write(at("docs/file15.txt"), "fifteen again\n", 5)


def _mounted(kind: str, raw: Path, point: Path) -> contextlib.AbstractContextManager[Path]:
    return loop_mounted(raw, point) if kind == "ext4" else ntfs_3g(raw, point)


def _of_mounts(kind: str, place: Path) -> Shelf:
    """Change one volume by its mount, and copy it each time."""
    raw = place / "volume.raw"
    raw.touch()
    if kind == "ext4":
        os.truncate(raw, 24 * MIB)
        quiet("mke2fs", "-q", "-F", "-t", "ext4", raw)
    else:
        ntfs.make(raw, size=24 * MIB)
    shelf = Shelf(kind, [], [])
    for number in range(GENERATIONS):
        with _mounted(kind, raw, place / "mount") as top:
            _Changes(top, kind).make(number)
        image = place / f"backup{number}.img"
        shutil.copyfile(raw, image)
        with _mounted(kind, image, place / "mount") as top:
            tree = place / f"tree{number}"
            quiet("cp", "-a", top, tree)
        shelf.images.append(image)
        shelf.trees.append(tree)
    return shelf


def _of_mtools(place: Path) -> Shelf:
    """Fill a FAT anew each time: its serial number stays."""
    shelf = Shelf("vfat", [], [])
    source = place / "source"
    source.mkdir()
    for number in range(GENERATIONS):
        _Changes(source, "vfat").make(number)
        image = place / f"backup{number}.img"
        image.touch()
        os.truncate(image, 40 * MIB)
        quiet("mkfs.vfat", "-F", "16", "-i", "cafe0001", image)
        for name in sorted(os.listdir(source)):
            quiet("mcopy", "-s", "-m", "-Q", "-i", image, source / name, "::/")
        tree = place / f"tree{number}"
        tree.mkdir()
        quiet("mcopy", "-s", "-m", "-n", "-i", image, "::/*", tree)
        shelf.images.append(image)
        shelf.trees.append(tree)
    return shelf


@pytest.fixture(scope="module", params=["ext4", "ntfs", "vfat"])
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    place = tmp_path_factory.mktemp(request.param)
    return _of_mtools(place) if request.param == "vfat" else _of_mounts(request.param, place)


class Fact(NamedTuple):
    """What `find` says of a file."""

    kind: str
    size: int
    seconds: int


_KINDS = {"f": "file", "d": "directory", "l": "symlink"}


def _facts(tree: Path) -> dict[bytes, Fact]:
    told = subprocess.run(
        ["find", tree, "-mindepth", "1", "-printf", r"%P\0%y\0%s\0%T@\0"],
        capture_output=True, check=True,
    ).stdout.split(b"\0")[:-1]  # fmt: skip
    found = {}
    for path, kind, size, moment in zip(*[iter(told)] * 4, strict=True):
        found[b"/" + path] = Fact(_KINDS[kind.decode()], int(size), int(float(moment)))
    # Of a volume's own, `find` on a copy of what is in it does not tell all.
    return found


def _is_own(path: bytes) -> bool:
    return path == b"/lost+found"


def _raw(shown: str) -> bytes:
    return re.sub(
        rb"\\(?:x([0-9a-f]{2})|(\\))",
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\",
        shown.encode(),
    )


def _indexed(program: Program, shelf: Shelf, order: tuple[int, ...]) -> None:
    program.run("add", *shelf.images)
    for number in order:
        taken = f"2026-01-0{number + 1}T12:00:00+00:00"
        program.run("index", f"backup{number}", "--taken-at", taken)


def _json(program: Program, *words: object, code: int = 0) -> Any:
    return json.loads(program.run(*words, "--json", code=code).stdout)


def _seconds(moment: str | None) -> int | None:
    import datetime as dt

    return None if moment is None else int(dt.datetime.fromisoformat(moment).timestamp())


def _compare_find(program: Program, facts: dict[str, dict[bytes, Fact]]) -> None:
    found: dict[str, dict[bytes, Fact]] = {name: {} for name in facts}
    for each in _json(program, "find", "*"):
        for backup in each["backups"]:
            path = _raw(each["path"])
            assert path not in found[backup["name"]], path
            fact = Fact(each["type"], each["size"], _seconds(each["modified"]) or 0)
            found[backup["name"]][path] = fact
    for name, tree in facts.items():
        expected = {p: f for p, f in tree.items() if not _is_own(p)}
        told = {p: f for p, f in found[name].items() if not _is_own(p)}
        assert told.keys() == expected.keys()
        for path, fact in expected.items():
            if fact.kind == "directory":
                # A copy of a directory is as large as its file system makes it.
                assert told[path].kind == "directory"
            else:
                assert told[path] == fact, path


def _compare_diff(
    program: Program,
    trees: dict[str, Path],
    facts: dict[str, dict[bytes, Fact]],
    pairs: Iterable[tuple[str, str]],
) -> None:
    for old, new in pairs:
        told = _json(program, "diff", old, new)
        by_change = collections.defaultdict(set)
        for each in told:
            by_change[each["change"]].add(_raw(each["path"]))
            if each["change"] == "moved":
                by_change["added"].add(_raw(each["path"]))
                by_change["removed"].add(_raw(each["old_path"]))
        only_old, only_new, differ = _by_diff(trees[old], trees[new])
        before, after = facts[old], facts[new]
        assert by_change["added"] == after.keys() - before.keys()
        assert by_change["removed"] == before.keys() - after.keys()
        # diff tells of a directory, and not of what is in it; and of files of other types twice.
        assert only_old <= by_change["removed"] | by_change["changed"]
        assert only_new <= by_change["added"] | by_change["changed"]
        assert differ <= by_change["changed"], (old, new)
        for path in by_change["changed"] - differ:
            other_mode = (
                os.lstat(os.fsencode(trees[old]) + path).st_mode
                != os.lstat(os.fsencode(trees[new]) + path).st_mode
            )
            assert other_mode or before[path] != after[path]


def _by_diff(old: Path, new: Path) -> tuple[set[bytes], set[bytes], set[bytes]]:
    told = subprocess.run(
        ["diff", "-rq", "--no-dereference", old, new],
        capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert told.returncode in {0, 1}
    only_old, only_new, differ = set(), set(), set()
    tops = os.fsencode(old), os.fsencode(new)
    left, right = map(re.escape, tops)
    pair = re.compile(
        rb"(?:Files|Symbolic links) " + left + rb"(/.+) and " + right + rb"\1 differ"
        rb"|File " + left + rb"(/.+) is a .+ while file " + right + rb"\2 is a .+",
        re.DOTALL,
    )  # fmt: skip
    # A name may have a line feed in it.
    for line in re.split(
        rb"\n(?=Only in |Files |Symbolic |File )", told.stdout.removesuffix(b"\n")
    ):
        if match := re.fullmatch(rb"Only in (.+?): (.+)", line, re.DOTALL):
            for top, found in zip(tops, (only_old, only_new), strict=True):
                if match[1] == top or match[1].startswith(top + b"/"):
                    found.add(match[1][len(top) :] + b"/" + match[2])
        elif match := pair.fullmatch(line):
            differ.add(match[1] or match[2])
        else:
            assert not line, line
    return only_old, only_new, differ


def _compare_history(program: Program, facts: dict[str, dict[bytes, Fact]]) -> None:
    for path in (b"/home/comes and goes", b"/docs/file05.txt", b"/old", b"/docs/file15.txt"):
        (past,) = _json(program, "history", os.fsdecode(path))
        found = [
            ({each["name"] for each in version["backups"]}, version["type"], version["size"])
            for version in past["versions"]
        ]
        having = [name for name in sorted(facts) if path in facts[name]]
        expected: dict[tuple[Any, ...], set[str]] = {}
        for name in having:
            fact = facts[name][path]
            key = (fact.kind, None) if fact.kind == "directory" else fact
            expected.setdefault(tuple(key), set()).add(name)
        # A directory has a version for each time that something in it came or went.
        files = [names for names, kind, _size in found if kind != "directory"]
        assert sorted(map(sorted, files)) == sorted(
            sorted(names) for key, names in expected.items() if key[0] != "directory"
        )
        assert set().union(*(names for names, _kind, _size in found)) == set(having)
        assert past["deleted"] == (path not in facts[max(facts)])
        newest = [max(names) for names, _kind, _size in found]
        assert newest == sorted(newest, reverse=True)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 0, 4, 2, 1)])
def test_what_is_told_is_what_the_mounts_show(
    tmp_path: Path, shelf: Shelf, order: tuple[int, ...]
) -> None:
    facts = {f"backup{number}": _facts(tree) for number, tree in enumerate(shelf.trees)}
    trees = {f"backup{number}": tree for number, tree in enumerate(shelf.trees)}
    with Program(tmp_path / "home") as program:
        _indexed(program, shelf, order)
        _compare_find(program, facts)
        # Of each two, one way round.
        pairs = itertools.combinations(sorted(trees), 2)
        _compare_diff(
            program, trees, facts, (two[:: 1 - 2 * (n % 2)] for n, two in enumerate(pairs))
        )
        _compare_history(program, facts)
        for gone in (order[2], order[0], order[4]):
            program.run("rm", "-y", f"backup{gone}")
            del facts[f"backup{gone}"], trees[f"backup{gone}"]
            _compare_find(program, facts)
            if len(facts) > 1:
                _compare_diff(program, trees, facts, [(min(facts), max(facts))])
            assert program.run("db", "check").stdout == "ok\n"


@pytest.fixture
def told(tmp_path: Path, shelf: Shelf) -> Iterator[Program]:
    with Program(tmp_path / "home") as program:
        _indexed(program, shelf, tuple(range(GENERATIONS)))
        yield program


def test_the_command_that_is_told_gets_that_version(
    told: Program, shelf: Shelf, tmp_path: Path
) -> None:
    for number, pattern in enumerate(("thesis.odt", "comes and goes", "fifteen", "file15")):
        code = 3 if pattern == "fifteen" else 0
        for version in _json(told, "find", pattern, code=code):
            place = tmp_path / f"got{number}"
            place.mkdir(exist_ok=True)
            words = version["command"].replace("imgcat ", "", 1)
            subprocess.run(
                f"{told_command()} {words}", shell=True, check=True, cwd=place,
                env=told.environment, capture_output=True,
            )  # fmt: skip
            name = os.path.basename(version["path"])
            newest = int(version["image"].removeprefix("backup"))
            expected = shelf.trees[newest] / version["path"].lstrip("/")
            assert (place / name).read_bytes() == expected.read_bytes()
            shutil.rmtree(place)


def told_command() -> str:
    import shlex

    from support.program import COMMAND

    return shlex.join(COMMAND)


def test_another_type_is_told_by_name(told: Program, shelf: Shelf) -> None:
    kinds = {"old/becomes a directory": ("backup0", "backup1"), "old": ("backup1", "backup2")}
    if shelf.kind == "ext4":
        kinds["link"] = ("backup2", "backup3")
    names = {"regular file": "file", "directory": "directory", "symbolic link": "symlink"}
    for path, pair in kinds.items():
        # GNU's own words, of the files as the mounts had them.
        before, after = (
            names[quiet("stat", "-c", "%F", shelf.trees[int(each[-1])] / path).strip()]
            for each in pair
        )
        said = told.run("diff", *pair, "-q").stdout
        (line,) = [line for line in said.splitlines() if f" /{path}" in line.partition(":")[0]
                   and line.startswith("changed")]  # fmt: skip
        assert line.startswith(f"changed   /{path}: type changed ({before} -> {after})  # ")
        (found,) = [each for each in _json(told, "diff", *pair) if each["path"] == f"/{path}"]
        assert (found["old"]["type"], found["new"]["type"]) == (before, after)


def test_what_is_not_in_the_newest_backup(told: Program, shelf: Shelf) -> None:
    facts = [_facts(tree) for tree in shelf.trees]
    ever = {path for tree in facts for path in tree if tree[path].kind == "file"}
    found = {_raw(each["path"]) for each in _json(told, "find", "*", "--deleted", "--type", "f")}
    newest = {path for path, fact in facts[-1].items()}
    assert found == {path for path in ever - newest if not _is_own(path)}


def test_only_what_is_wanted(told: Program, shelf: Shelf) -> None:
    found = _json(told, "find", "*.txt", "--size", "+40", "--image", "backup1", "--type", "f")
    tree = shelf.trees[1]
    expected = subprocess.run(
        ["find", tree, "-name", "*.txt", "-size", "+39c", "-type", "f", "-printf", r"/%P\0"],
        capture_output=True, check=True,
    ).stdout.split(b"\0")[:-1]  # fmt: skip
    assert sorted(_raw(each["path"]) for each in found) == sorted(expected)
    assert {each["image"] for each in found} == {"backup1"}
    late = _json(told, "find", "*", "--newer", "2023-11-17T12:00:00+00:00", "--type", "f")
    moment = 1_700_222_400
    assert {_raw(each["path"]) for each in late} == {
        path
        for tree in shelf.trees
        for path, fact in _facts(tree).items()
        if fact.kind == "file" and fact.seconds > moment
    }


def test_a_hash_is_that_of_the_file(told: Program, shelf: Shelf) -> None:
    import hashlib

    for _again in range(2):
        (past,) = _json(told, "history", "/home/comes and goes", "--hash")
        for version in past["versions"]:
            number = int(version["image"].removeprefix("backup"))
            data = (shelf.trees[number] / "home" / "comes and goes").read_bytes()
            assert version["sha256"] == hashlib.sha256(data).hexdigest()
    kept = told.run("sql", "SELECT count(*) AS n FROM file_hashes")
    assert str(len(past["versions"])) in kept.stdout
