"""Generations of file systems against a naive model, which keeps every file of every backup."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import random
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.database.check import check
from imgcat.catalog.database.transaction import driver_connection
from imgcat.catalog.files.asking import Backup, Backups
from imgcat.catalog.files.differing import Change, differences
from imgcat.catalog.files.finding import Wanted, find
from imgcat.catalog.files.history import history
from imgcat.catalog.files.patterns import parse_pattern
from imgcat.catalog.files.records import NewGeneration, TakenFrom
from imgcat.catalog.files.storing import store_generation
from imgcat.catalog.store import Catalog
from support.walked import File, walked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Tree = dict[bytes, File]

NAMES = [b"a", b"bee", b"Bee", b"sea.txt", b"dee.odt", b"caf\xc3\xa9", b"\xff\xfe", b"x y", b"*?["]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(str(tmp_path / "c.db"), create=True) as found:
        yield found


def store(catalog: Catalog, name: str, tree: Tree, *, uuid: str = "u", day: int = 1) -> None:
    new = NewGeneration(
        "ext4", uuid, f"2026-01-{day:02}T00:00:00Z", TakenFrom.NOW, snapshot_name=name
    )
    stored = store_generation(catalog, new, lambda: walked(tree))
    assert stored.files == len(tree)


def remove(catalog: Catalog, name: str) -> None:
    with catalog.database.writing() as connection:
        driver_connection(connection).execute(
            "DELETE FROM file_generations WHERE snapshot_name = ?", (name,)
        )
    catalog.purge()


def random_tree(rng: random.Random) -> Tree:
    tree: Tree = {}
    grow(rng, tree, 14)
    return tree


def grow(rng: random.Random, tree: Tree, count: int) -> None:
    for _ in range(count):
        above = rng.choice([b"", *(path for path in tree if stat.S_ISDIR(tree[path].mode))])
        path = above + b"/" + rng.choice(NAMES)
        if path in tree or path.count(b"/") > 4:
            continue
        kind = rng.choice([stat.S_IFREG] * 3 + [stat.S_IFDIR] * 2 + [stat.S_IFLNK])
        time = rng.choice([None, 0, -5, rng.randrange(3) << 40, (1 << 63) - 1])
        tree[path] = File(
            kind | rng.choice([0o644, 0o755]), rng.randrange(3), time, rng.randrange(9)
        )


def changed(rng: random.Random, tree: Tree) -> Tree:
    """Return a tree with files changed, removed, moved, and turned into others."""
    tree = dict(tree)
    for _ in range(rng.randrange(5)):
        if not tree:
            break
        path = rng.choice(sorted(tree))
        what = rng.randrange(4)
        before = tree[path]
        below = [each for each in tree if each.startswith(path + b"/")]
        if what == 0:
            tree[path] = before._replace(size=before.size + 1, inode=before.inode + 100)
        elif what == 1:
            # Only the number: that is no other version.
            tree[path] = before._replace(inode=before.inode + 1)
        else:
            for each in [path, *below]:
                del tree[each]
            if what == 3:
                tree[path] = File(rng.choice([stat.S_IFREG, stat.S_IFDIR]) | 0o600, 7, 7, 7)
    grow(rng, tree, rng.randrange(4))
    return tree


def what(file: File) -> tuple[int, int, int | None]:
    return file.mode, file.size, file.mtime_ns


class Model:
    """Every file of every backup, by file system."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.trees: dict[str, dict[str, Tree]] = {"u": {}, "v": {}}
        self.days: dict[str, int] = {}

    def compare(self, rng: random.Random) -> None:
        with self.catalog.database.reading() as connection:
            self.compare_files(connection)
            self.compare_names(connection)
            self.compare_rows(connection)
            self.compare_finds(connection, rng)
            self.compare_differences(connection, rng)
            self.compare_history(connection, rng)
        assert check(self.catalog.database) == []

    def all(self) -> dict[str, Tree]:
        return {name: tree for trees in self.trees.values() for name, tree in trees.items()}

    def compare_files(self, connection: sqlite3.Connection) -> None:
        found: dict[str, dict[bytes, tuple[int, int, int | None]]] = {n: {} for n in self.all()}
        for backup, path, type_name, mode, size, mtime_ns in connection.execute(
            "SELECT backup, path, type, mode, size_bytes, mtime_ns FROM files"
        ):
            raw = path.encode() if isinstance(path, str) else path
            kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
            assert raw not in found[backup]
            found[backup][raw] = (kinds[type_name] | mode, size, mtime_ns)
        assert found == {
            name: {path: what(file) for path, file in tree.items()}
            for name, tree in self.all().items()
        }

    def compare_names(self, connection: sqlite3.Connection) -> None:
        used = {part for tree in self.all().values() for path in tree for part in path.split(b"/")}
        found = [
            name.encode() if isinstance(name, str) else name
            for (name,) in connection.execute("SELECT name FROM file_names")
        ]
        assert sorted(found) == sorted(used - {b""})

    def compare_rows(self, connection: sqlite3.Connection) -> None:
        """No version takes two rows where one would do."""
        numbers: dict[int, list[int]] = {}
        for lineage, number in connection.execute(
            "SELECT lineage_id, number FROM file_generations ORDER BY 1, 2"
        ):
            numbers.setdefault(lineage, []).append(number)
        rows = connection.execute(
            "SELECT lineage_id, directory_id, name_id, mode, size_bytes, mtime_ns,"
            " first_generation, last_generation FROM file_versions"
            " ORDER BY lineage_id, directory_id, name_id, first_generation"
        ).fetchall()
        for (*one, _first, last), (*other, first, _last) in itertools.pairwise(rows):
            if one == other:
                assert any(last < number < first for number in numbers[one[0]])
        for lineage, *_rest, first, last in rows:
            there = [n for n in numbers[lineage] if n >= first and (last is None or n <= last)]
            assert there
            assert (last is None) == (there[-1] == numbers[lineage][-1])

    def compare_finds(self, connection: sqlite3.Connection, rng: random.Random) -> None:
        for pattern in (b"bee", b"*.txt", b"ee.", b"a", b"caf\xc3\xa9", b"*e?", b"/bee/*"):
            deleted = rng.random() < 0.5
            found = {
                (backup.name, version.path)
                for version in find(connection, parse_pattern(pattern), Wanted(deleted=deleted))
                for backup in version.backups
            }
            assert found == set(self.found(pattern.decode(), deleted=deleted)), pattern

    def found(self, pattern: str, *, deleted: bool) -> Iterator[tuple[str, bytes]]:
        for trees in self.trees.values():
            newest = max(trees, key=lambda name: self.days[name], default=None)
            for name, tree in trees.items():
                for path in tree:
                    text = path.decode(errors="surrogateescape").lower()
                    last = text.rpartition("/")[2]
                    if pattern.startswith("/"):
                        matches = text.count("/") == 2 and fnmatch.fnmatchcase(text, pattern)
                    elif "*" in pattern:
                        matches = fnmatch.fnmatchcase(last, pattern)
                    else:
                        matches = pattern in last
                    if matches and not (deleted and newest and path in trees[newest]):
                        yield name, path

    def compare_differences(self, connection: sqlite3.Connection, rng: random.Random) -> None:
        trees = self.all()
        backups = {each.name: each for each in Backups(connection).all}
        assert backups.keys() == trees.keys()
        for _ in range(6 if len(trees) > 1 else 0):
            old, new = rng.sample(sorted(trees), 2)
            self.compare_two(connection, backups[old], backups[new], trees[old], trees[new])

    def compare_two(
        self, connection: sqlite3.Connection, old: Backup, new: Backup, before: Tree, after: Tree
    ) -> None:
        added, removed, changed_ones = set(), set(), set()
        for each in differences(connection, old, new):
            if each.change in {Change.ADDED, Change.MOVED}:
                added.add(each.path)
            if each.change in {Change.REMOVED, Change.MOVED}:
                removed.add(each.old_path)
            if each.change is Change.MOVED:
                assert old.lineage_id == new.lineage_id
            if each.change is Change.CHANGED:
                changed_ones.add(each.path)
        assert added == after.keys() - before.keys()
        assert removed == before.keys() - after.keys()
        assert changed_ones == {
            path
            for path in before.keys() & after.keys()
            if what(before[path]) != what(after[path])
            and (
                not (stat.S_ISDIR(before[path].mode) and stat.S_ISDIR(after[path].mode))
                or before[path].mode != after[path].mode
            )
        }

    def compare_history(self, connection: sqlite3.Connection, rng: random.Random) -> None:
        paths = sorted({path for tree in self.all().values() for path in tree})
        for path in rng.sample(paths, min(4, len(paths))):
            expected = {}
            for uuid, trees in self.trees.items():
                by_version: dict[tuple[int, int, int | None], set[str]] = {}
                for name, tree in trees.items():
                    if path in tree:
                        by_version.setdefault(what(tree[path]), set()).add(name)
                if by_version:
                    expected[uuid] = by_version
            found = history(connection, path)
            assert len(found) == len(expected)
            for past in found:
                told = {v.row.what: {each.name for each in v.backups} for v in past.versions}
                assert told in expected.values()
                days = [self.days[version.newest.name] for version in past.versions]
                assert days == sorted(days, reverse=True)


@pytest.mark.parametrize("seed", range(12))
def test_generations_are_what_a_naive_model_says(catalog: Catalog, seed: int) -> None:
    """In any order of indexing, and after any of them is removed."""
    rng = random.Random(seed)
    model = Model(catalog)
    days = rng.sample(range(1, 29), 14)
    current = {"u": random_tree(rng), "v": random_tree(rng)}
    for number, day in enumerate(days):
        uuid = rng.choice("uuuv")
        trees = model.trees[uuid]
        if trees and rng.random() < 0.3:
            name = rng.choice(sorted(trees))
            remove(catalog, name)
            del trees[name]
        else:
            # Now and then what was there long before comes again.
            base = rng.choice([current[uuid], *trees.values()])
            current[uuid] = changed(rng, base)
            name = f"s{number}"
            store(catalog, name, current[uuid], uuid=uuid, day=day)
            trees[name] = current[uuid]
            model.days[name] = day
        model.compare(rng)
    for uuid in "uv":
        for name in list(model.trees[uuid]):
            remove(catalog, name)
            del model.trees[uuid][name]
    model.compare(rng)
    with catalog.database.asking() as connection:
        for table, rows in (("versions", 0), ("names", 0), ("directories", 1), ("lineages", 0)):
            (count,) = connection.execute(f"SELECT count(*) FROM file_{table}").fetchone()
            assert count == rows, table


def test_what_has_not_changed_costs_no_row(catalog: Catalog) -> None:
    tree = random_tree(random.Random(3))
    store(catalog, "one", tree)
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection:
        before = connection.execute("SELECT * FROM file_versions").fetchall()
        store(catalog, "two", {path: each._replace(inode=1) for path, each in tree.items()}, day=2)
        assert connection.execute("SELECT * FROM file_versions").fetchall() == before
        names = connection.execute("SELECT count(*) FROM file_names").fetchone()
        store(catalog, "other", tree, uuid="v")
        assert connection.execute("SELECT count(*) FROM file_names").fetchone() == names
