"""A snapshot with hashes: how fast, beside reading the blocks that are used?"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from bench import cat
from measure import faster, gigabytes_a_second, interleaved, say, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench import Bench
    from measure import Row

NAMES = ("snapshot-hash",)

_SMALL, _FEW = 200, (1 << 12, 40 << 10)
"""Small files in each of the directories, and how small."""

_LARGE, _MANY = 20, 2 << 20
"""Large files in each, and how large."""

_DIRECTORIES = 100


def measure(bench: Bench) -> Iterator[Row]:
    """Make a volume of which most is used, and take a snapshot of it."""
    shop = bench.shop
    say("a snapshot with hashes")
    raw = shop.directory / "snapshot.raw"
    raw.touch()
    os.truncate(raw, 6 << 30)
    shop.run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", raw)
    point = shop.make("snapshot.point")
    shop.run("mount", "-o", "loop", raw, point)
    try:
        _fill(point)
    finally:
        shop.run("umount", point)
    used = raw.stat().st_blocks * 512
    small = shop.directory / "small.raw"
    small.touch()
    os.truncate(small, 8 << 20)
    shop.run("mke2fs", "-q", "-F", "-t", "ext4", small)
    catalog = shop.directory / "snapshot.db"
    # The catalog is there, and so is what Python has compiled.
    shop.run(*shop.imgcat(catalog, "snapshot", small, "--hash", "--name", "small"))
    number = 0

    def snapshot() -> float:
        nonlocal number
        number += 1
        _forget(raw)
        words = shop.imgcat(catalog, "snapshot", raw, "--hash", "--name", f"s{number}")
        return timed(lambda: shop.run(*words))

    def read() -> float:
        _forget(raw)
        return timed(lambda: cat(raw))

    taken = interleaved(5, {"snapshot": snapshot, "cat": read}, warm_up=False)
    yield faster(
        "snapshot-hash",
        f"`snapshot --hash` of an ext4 with {used >> 20} MiB in {_DIRECTORIES * (_SMALL + _LARGE)}"
        " files, which the page cache does not have, from the start of the program to its end;"
        " beside it `cat` of what is stored",
        gigabytes_a_second(used / taken["snapshot"]),
        gigabytes_a_second(used / taken["cat"]),
        taken["cat"] / taken["snapshot"], 0.8,
    )  # fmt: skip
    raw.unlink()


def _fill(point: Path) -> None:
    random.seed(1)
    for directory in range(_DIRECTORIES):
        place = point / f"directory{directory:03}"
        place.mkdir()
        for number in range(_SMALL + _LARGE):
            size = _MANY if number < _LARGE else random.randint(*_FEW)
            (place / f"file{number:04}").write_bytes(os.urandom(size))


def _forget(path: Path) -> None:
    """Have the page cache let go of a file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
