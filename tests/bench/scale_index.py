"""The index of files at scale: ``python tests/bench/scale_index.py``.

A hundred file systems with five generations of 100,000 files each, 50 million file-versions, go
into a catalog through what `imgcat index` writes with; then it is measured what they take, and how
long questions take. Names and directories are those of this machine's own files, so that their
lengths and how they repeat are real; file systems share 60 % of names, and 5 % of files change from
one generation to the next.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sqlite3
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imgcat.catalog.files.asking import Backups
from imgcat.catalog.files.differing import differences
from imgcat.catalog.files.finding import Wanted, find
from imgcat.catalog.files.history import history
from imgcat.catalog.files.patterns import parse_pattern
from imgcat.catalog.files.records import NewGeneration, TakenFrom
from imgcat.catalog.files.storing import store_generation
from imgcat.catalog.store import Catalog
from imgcat.filesystems.walking import WalkedDirectory
from machine import facts

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

SHARED, CHANGED = 0.6, 0.05
TOPS = ("/usr", "/etc", "/var", "/opt", "/home", "/root", "/lib")
FIRST = 1000
"""Rows that a search is asked for."""

MOST_BYTES, MOST_COMMAND, MOST_P99, MOST_HISTORY, MOST_DIFF = 20.0, 0.5, 0.05, 0.05, 1.0
MOST_BESIDE = 1.2


class Directory(NamedTuple):
    """A directory of the model: names of files, and of directories with their numbers."""

    files: list[bytes]
    directories: list[tuple[bytes, int]]


def real_tree(count: int) -> list[Directory]:
    """Return directories of this machine with `count` files in them, the root first."""
    tree = [Directory([], [])]
    left = count
    todo = [(top, 0) for top in TOPS if os.path.isdir(top) and not os.path.islink(top)]
    todo = [(path, _add(tree, 0, os.fsencode(path[1:]))) for path, _root in todo]
    while todo and left > 0:
        path, number = todo.pop()
        try:
            found = sorted(os.scandir(os.fsencode(path)), key=lambda each: each.name)
        except OSError:
            continue
        for each in found:
            if each.is_dir(follow_symlinks=False):
                todo.append((each.path, _add(tree, number, each.name)))
            elif left > 0:
                tree[number].files.append(each.name)
                left -= 1
    if left > 0:
        sys.exit(f"this machine has {left} files too few: install something, or ask for fewer")
    return tree


def _add(tree: list[Directory], above: int, name: bytes) -> int:
    tree.append(Directory([], []))
    tree[above].directories.append((name, len(tree) - 1))
    return len(tree) - 1


class Machine:
    """One file system of the model, which changes from generation to generation."""

    def __init__(self, tree: list[Directory], number: int) -> None:
        self._rng = random.Random(number)
        mark = f"{number:02x}".encode()
        self._tree = tree
        self._files: list[list[tuple[bytes, int, int, int]]] = []
        inode = 20
        for directory in tree:
            found = []
            for name in directory.files:
                inode += 1
                if self._rng.random() >= SHARED:
                    stem, dot, ending = name.partition(b".")
                    name = stem + b"-" + mark + dot + ending  # noqa: PLW2901
                found.append((name[-255:], inode, self._size(), self._time()))
            self._files.append(found)

    def _size(self) -> int:
        return int(2 ** self._rng.uniform(0, 21))

    def _time(self) -> int:
        return self._rng.randrange(1_500_000_000, 1_760_000_000) * 10**9 + self._rng.randrange(
            10**9
        )

    def change(self) -> None:
        """Change some of its files: most are written anew, some go and others come."""
        for files in self._files:
            for place, (name, inode, _size, _time) in enumerate(files):
                if self._rng.random() >= CHANGED:
                    continue
                if self._rng.random() < 0.2:
                    name = b"new-" + name[-251:]  # noqa: PLW2901
                files[place] = (name, inode, self._size(), self._time())

    def walked(self) -> Iterator[WalkedDirectory]:
        """Yield it as a walk over a real one does."""
        todo = [0]
        for number, here in enumerate(todo):
            files = {each[0]: each for each in self._files[here]}.values()
            inside = self._tree[here].directories
            todo += [each for _name, each in inside]
            yield WalkedDirectory(
                number,
                [each[0] for each in files] + [name for name, _each in inside],
                [each[1] for each in files] + [9_000_000 + each for _name, each in inside],
                [each[2] for each in files] + [4096] * len(inside),
                [each[3] for each in files] + [1_700_000_000 * 10**9] * len(inside),
                [stat.S_IFREG | 0o644] * len(files) + [stat.S_IFDIR | 0o755] * len(inside),
                [0] * (len(files) + len(inside)),
            )


def load(path: str, tree: list[Directory], lineages: int, generations: int) -> int:
    """Fill a catalog, and return how many file-versions it was told of."""
    told = 0
    with Catalog.open(path, create=True) as catalog:
        for number in range(lineages):
            machine = Machine(tree, number)
            for generation in range(generations):
                if generation:
                    machine.change()
                new = NewGeneration(
                    "ext4", f"uuid-{number}", f"2026-{generation + 1:02}-01T00:00:00Z",
                    TakenFrom.NOW, snapshot_name=f"m{number:03}-{generation}",
                )  # fmt: skip
                began = time.perf_counter()
                stored = store_generation(catalog, new, machine.walked)
                took = time.perf_counter() - began
                told += stored.files
                if number % 10 == 0:
                    say(
                        f"machine {number}, generation {generation}: {stored.files} files,"
                        f" {stored.added} new, {stored.files / took:,.0f} files/s"
                    )
    return told


def say(text: str) -> None:
    print(text, flush=True)


def _timed(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def _patterns(connection: sqlite3.Connection, rng: random.Random, count: int) -> list[bytes]:
    """Return parts and globs of names that there are, of three letters and more; and of none."""
    (most,) = connection.execute("SELECT max(id) FROM file_names").fetchone()
    found: list[bytes] = []
    while len(found) < count:
        row = connection.execute(
            "SELECT name FROM file_names WHERE id = ?", (rng.randrange(most) + 1,)
        ).fetchone()
        if row is None or not isinstance(row[0], str) or not row[0].isascii():
            continue
        name = row[0]
        length = rng.choice([3, 3, 3, 4, 5, 8])
        if len(name) < length or any(each in name for each in "*?[/"):
            continue
        start = rng.randrange(len(name) - length + 1)
        part = name[start : start + length]
        kind = rng.randrange(5)
        if kind == 0:
            part = "*" + name[-length:]
        elif kind == 1:
            part = name[:length] + "*"
        elif kind == 2:
            part = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))
        found.append(part.encode())
    return found


def ask(path: str, rng: random.Random) -> list[tuple[str, float, float, str]]:
    """Ask all kinds of questions; return what, the figure, what is wanted, and the unit."""
    rows = []
    with Catalog.open(path, write=False) as catalog:
        with catalog.database.reading() as connection:
            patterns = _patterns(connection, rng, 400)

        def first(pattern: bytes) -> int:
            count = 0
            with catalog.database.reading() as connection:
                for _version in find(connection, parse_pattern(pattern), Wanted()):
                    count += 1
                    if count == FIRST:
                        break
            return count

        times = {pattern: _timed(lambda p=pattern: first(p)) for pattern in patterns}
        took = sorted(times.values())
        worst = sorted(times, key=times.__getitem__)[-3:]
        say(f"slowest: {[(each, round(times[each], 3), first(each)) for each in worst]}")
        say(f"find: median {statistics.median(took) * 1000:.1f} ms of {len(took)} patterns")
        rows.append(("find, p99 in a process", took[int(len(took) * 0.99)], MOST_P99, "s"))
        with catalog.database.reading() as connection:
            backups = Backups(connection).all
            paths = [
                version.path for version in find(connection, parse_pattern(b"libc"), Wanted())
            ][:200:4]
        took = []
        for each in paths:
            with catalog.database.reading() as connection:
                took.append(_timed(lambda c=connection, p=each: history(c, p)))
        rows.append(("history, slowest", max(took), MOST_HISTORY, "s"))
        took = []
        for _ in range(8):
            first_one = rng.choice([each for each in backups if each.number < 5])
            second = next(
                each
                for each in backups
                if each.lineage_id == first_one.lineage_id and each.number == first_one.number + 1
            )
            with catalog.database.reading() as connection:
                took.append(
                    _timed(lambda c=connection, a=first_one, b=second: differences(c, a, b))
                )
        rows.append(("diff of two generations, slowest", max(took), MOST_DIFF, "s"))
    took = []
    for pattern in rng.sample(patterns, 12):
        words = [sys.executable, "-m", "imgcat", "--db", path, "find", os.fsdecode(pattern)]
        began = time.perf_counter()
        subprocess.run([*words, "--limit", str(FIRST)], stdout=subprocess.DEVNULL, check=False,
                       stderr=subprocess.DEVNULL)  # fmt: skip
        took.append(time.perf_counter() - began)
    rows.append(("find, slowest of 12 fresh commands", max(took), MOST_COMMAND, "s"))
    return rows


def sizes(path: str, told: int) -> float:
    """Say what the tables take, and return the bytes for each file-version."""
    total = os.path.getsize(path)
    connection = sqlite3.connect(path)
    for name, size in connection.execute(
        "SELECT name, sum(pgsize) FROM dbstat GROUP BY 1 ORDER BY 2 DESC LIMIT 9"
    ):
        say(f"  {name:<40} {size / 2**20:9.1f} MiB {size / told:6.2f} bytes a file-version")
    for table in ("file_versions", "file_names", "file_directories"):
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        say(f"  {count} rows in {table}")
    connection.close()
    return total / told


def removal(path: str, number: int) -> float:
    """Forget a generation in the middle, as `rm` does, and return how long that took."""
    from imgcat.catalog.database.transaction import driver_connection

    with Catalog.open(path) as catalog:
        began = time.perf_counter()
        with catalog.database.writing() as connection:
            driver_connection(connection).execute(
                "DELETE FROM file_generations WHERE snapshot_name = ?", (f"m{number:03}-2",)
            )
        catalog.purge()
        return time.perf_counter() - began


def beside_empty(path: str, place: Path) -> list[tuple[str, float, float, str]]:
    """Time `ls` and mounting with this catalog, beside one with nothing else in it."""
    image = place / "small.raw"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mke2fs", "-q", "-F", image], check=True)
    empty, mount = str(place / "empty.db"), place / "mount"
    for each in (path, empty):
        _run(each, "add", image)

    def mounted(catalog: str) -> float:
        took = _timed(lambda: _run(catalog, "mount-all", mount))
        _run(catalog, "unmount", mount)
        return took

    rows = []
    for what, measure in (
        ("ls", lambda catalog: _timed(lambda: _run(catalog, "ls"))),
        ("mount-all of one image", mounted),
    ):
        took = [(measure(path), measure(empty)) for _ in range(9)]
        ours, theirs = (statistics.median(each) for each in zip(*took, strict=True))
        say(f"{what}: {ours:.3f} s, with an empty catalog {theirs:.3f} s")
        rows.append((f"{what}, times that with an empty catalog", ours / theirs, MOST_BESIDE, ""))
    _run(path, "rm", "small")
    return rows


def _run(catalog: str, *words: object) -> None:
    command = [sys.executable, "-m", "imgcat", "--db", catalog, *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


_PAGE = """\
# The index of files at scale

Written by `make scale`. {lineages} file systems with {generations} backups of each, of
{files:,} files: {told:,} file-versions. The tree is that of the machine's own files; {shared:.0%}
of names are shared between file systems, and {changed:.0%} of files change from one backup to the
next. It is written by what `imgcat index` writes with. A *fresh command* is one from the start of
the program to its end, for the first {first:,} rows; patterns are parts and globs of names, of
three letters and more, and some that no file has.

{facts}

| What | Figure | At most | Met |
|---|--:|--:|---|
{rows}
"""


def as_page(rows: list[tuple[str, float, float, str]], told: int, options: Namespace) -> str:
    """Return the page that is kept."""
    return _PAGE.format(
        lineages=options.lineages, generations=options.generations, files=options.files,
        told=told, shared=SHARED, changed=CHANGED, first=FIRST,
        facts="\n".join(f"- {name}: {fact}" for name, fact in facts(None).items()),
        rows="\n".join(
            f"| {what} | {figure:.3f} {unit} | {wanted:g} {unit} |"
            f" {'yes' if figure <= wanted else 'no'} |"
            for what, figure, wanted, unit in rows
        ),
    )  # fmt: skip


def main() -> int:
    """Run it, and return 0 if every figure is what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, help="Write the page that is kept there.")
    parser.add_argument("--lineages", type=int, default=100)
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--catalog", help="Keep it, or ask one that was kept.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = options.catalog or str(Path(directory) / "catalog.db")
        if os.path.exists(path):
            with sqlite3.connect(path) as connection:
                (told,) = connection.execute(
                    "SELECT sum(file_count) FROM file_generations"
                ).fetchone()
        else:
            tree = real_tree(options.files)
            began = time.perf_counter()
            told = load(path, tree, options.lineages, options.generations)
            took = time.perf_counter() - began
            say(f"{told} file-versions in {took:.0f} s: {told / took:,.0f} files/s")
        rows = [("bytes a file-version", sizes(path, told), MOST_BYTES, "bytes")]
        rows += ask(path, random.Random(1))
        rows += beside_empty(path, Path(directory))
        rows.append(("rm of one generation in the middle", removal(path, 0), 5.0, "s"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(("memory of all this", peak, 400.0, "MiB"))
    if options.markdown is not None:
        options.markdown.write_text(as_page(rows, told, options), encoding="utf-8")
    missed = 0
    for what, figure, wanted, unit in rows:
        is_met = figure <= wanted
        missed += not is_met
        say(f"{'met   ' if is_met else 'missed'} {what}: {figure:.3f} {unit} (at most {wanted:g})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
