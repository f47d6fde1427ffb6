"""Every file into the catalog: how fast, beside a walk over a kernel's mount?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from measure import faster, interleaved, limited, megabytes, say, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row
    from workshop import Workshop

NAMES = ("index", "index-next", "index-memory", "index-ntfs")

_MANY, _FEW, _OF_NTFS = 200_000, 50_000, 50_000
_PER_DIRECTORY = 40
_FIRST_RATE, _NEXT_RATE = 50_000, 80_000
_CHANGED = 50
"""One file in so many is written anew for the next generation."""

_MOST_MEMORY = 400_000_000
_PEAK = Path(__file__).parent / "peak.py"
_UUID = "7d4f5a9e-0f61-4a58-8a4c-2f4a3c1f9b11"


def measure(bench: Bench) -> Iterator[Row]:
    """Make a volume, and one after changes; index both; and a small one, for its memory."""
    shop = bench.shop
    first, following = _volumes(shop, "files", _MANY)
    kernel = shop.make("files.kernel")
    number = 0

    def catalog_with(*images: Path) -> Path:
        nonlocal number
        number += 1
        catalog = shop.directory / f"index{number}.db"
        shop.run(*shop.imgcat(catalog, "add", *images))
        return catalog

    def index(catalog: Path, name: str) -> float:
        return timed(lambda: shop.run(*shop.imgcat(catalog, "index", name)))

    def first_one() -> float:
        return index(catalog_with(first), "files")

    def next_one() -> float:
        catalog = catalog_with(first, following)
        index(catalog, "files")
        return index(catalog, "files-next")

    def walk(raw: Path) -> float:
        def run() -> None:
            shop.run("mount", "-o", "loop,ro", raw, kernel)
            try:
                shop.run("find", kernel, "-printf", r"%p %s %m %T@ %i\n")
            finally:
                shop.run("umount", kernel)

        return timed(run)

    say(f"an index of {_MANY:,} files")
    taken = interleaved(3, {"first": first_one, "next": next_one, "find": lambda: walk(first)})
    for name, what, key, wanted in (
        ("index", "`index` of an ext4 with", "first", _FIRST_RATE),
        ("index-next", "`index` of the next backup of it, 2 % changed, with", "next", _NEXT_RATE),
    ):
        rate, beside = _MANY / taken[key], _MANY / taken["find"]
        say(f"  {name}: {rate:,.0f} files/s, wanted {wanted:,}")
        yield faster(
            name,
            f"{what} {_MANY:,} files, start of the program and all: the ratio is to {wanted:,}"
            " files/s; beside it `find -printf` over a kernel's mount",
            f"{rate:,.0f} files/s", f"{beside:,.0f} files/s", rate / wanted, 1,
        )  # fmt: skip
    yield from _memory(shop, catalog_with(first))
    first.unlink()
    following.unlink()
    yield _ntfs(shop)


def _ntfs(shop: Workshop) -> Row:
    raw, point = shop.directory / "windows.raw", shop.make("windows.point")
    raw.touch()
    os.truncate(raw, 1 << 30)
    shop.run("mkntfs", "-q", "-F", "-Q", raw)
    shop.run("ntfs-3g", raw, point)
    try:
        _fill(point, _OF_NTFS)
    finally:
        shop.run("umount", point)
    number = 0

    def index() -> float:
        nonlocal number
        number += 1
        catalog = shop.directory / f"windows{number}.db"
        shop.run(*shop.imgcat(catalog, "add", raw))
        return timed(lambda: shop.run(*shop.imgcat(catalog, "index", "windows")))

    def walk() -> float:
        def run() -> None:
            shop.run("ntfs-3g", "-o", "ro", raw, point)
            try:
                shop.run("find", point, "-printf", r"%p %s %m %T@ %i\n")
            finally:
                shop.run("umount", point)

        return timed(run)

    say(f"an index of {_OF_NTFS:,} files of NTFS")
    taken = interleaved(3, {"ours": index, "theirs": walk})
    ours, theirs = _OF_NTFS / taken["ours"], _OF_NTFS / taken["theirs"]
    raw.unlink()
    return faster(
        "index-ntfs",
        f"`index` of an NTFS with {_OF_NTFS:,} files, start of the program and all; beside it"
        " `find -printf` over a mount by ntfs-3g",
        f"{ours:,.0f} files/s", f"{theirs:,.0f} files/s", ours / theirs, 1,
    )  # fmt: skip


def _memory(shop: Workshop, many: Path) -> Iterator[Row]:
    small, _next = _volumes(shop, "few", _FEW)
    few = shop.directory / "few.db"
    shop.run(*shop.imgcat(few, "add", small))

    def peak(catalog: Path, name: str) -> int:
        command = [sys.executable, _PEAK, *shop.imgcat(catalog, "index", name)]
        told = subprocess.run([*map(str, command)], capture_output=True, check=True, text=True)
        return int(told.stdout)

    small_peak, large_peak = peak(few, "few"), peak(many, "files")
    yield limited(
        "index-memory",
        f"Memory of `index`, of {_MANY:,} files; of {_FEW:,} files it is {megabytes(small_peak)}",
        megabytes(large_peak), megabytes(_MOST_MEMORY), met=large_peak < _MOST_MEMORY,
    )  # fmt: skip
    small.unlink()


def _volumes(shop: Workshop, name: str, count: int) -> tuple[Path, Path]:
    """Make a volume with some files, and a copy of it in which one in `_CHANGED` is another."""
    raw = shop.directory / f"{name}.raw"
    raw.touch()
    os.truncate(raw, 2 << 30)
    inodes = str(count + count // _PER_DIRECTORY + 2000)
    shop.run("mke2fs", "-q", "-F", "-t", "ext4", "-N", inodes, "-U", _UUID, raw)
    point = shop.make(f"{name}.point")
    shop.run("mount", "-o", "loop", raw, point)
    paths = _fill(point, count)
    shop.run("umount", point)
    following = shop.directory / f"{name}-next.raw"
    shop.run("cp", "--sparse=always", raw, following)
    shop.run("mount", "-o", "loop", following, point)
    for path in paths[::_CHANGED]:
        path.write_bytes(b"changed")
    shop.run("umount", point)
    return raw, following


def _fill(point: Path, count: int) -> list[Path]:
    """Make empty files in a mounted volume."""
    paths = []
    for number in range(count):
        above = point / f"project {number // 4000}" / f"directory {number // _PER_DIRECTORY}"
        if not number % _PER_DIRECTORY:
            above.mkdir(parents=True)
        paths.append(above / f"file-{number:06}.txt")
        paths[-1].touch()
    return paths
