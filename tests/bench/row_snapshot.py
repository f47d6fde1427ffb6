"""A snapshot with hashes: how fast, beside reading the blocks that are used?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cat
from measure import faster, gigabytes_a_second, interleaved, say, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("snapshot-hash",)

_FILES, _EACH = 1200, 2 << 20
_PIECE = 1 << 20
_DROP = Path("/proc/sys/vm/drop_caches")


def measure(bench: Bench) -> Iterator[Row]:
    """Make a volume of which most is used, and take a snapshot of it."""
    shop = bench.shop
    say("a snapshot with hashes")
    raw = shop.directory / "snapshot.raw"
    raw.touch()
    os.truncate(raw, 2600 << 20)
    shop.run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", raw)
    point = shop.make("snapshot.point")
    shop.run("mount", "-o", "loop", raw, point)
    for number in range(_FILES):
        with (point / f"file{number:04}").open("wb") as file:
            for _ in range(_EACH // _PIECE):
                file.write(os.urandom(_PIECE))
    shop.run("umount", point)
    used = raw.stat().st_blocks * 512
    number = 0

    def snapshot() -> float:
        nonlocal number
        number += 1
        _cold(raw)
        catalog = shop.directory / f"snapshot{number}.db"
        words = shop.imgcat(catalog, "snapshot", raw, "--hash", "--name", "s")
        return timed(lambda: shop.run(*words))

    def read() -> float:
        _cold(raw)
        return timed(lambda: cat(raw))

    taken = interleaved(3, {"snapshot": snapshot, "cat": read}, warm_up=False)
    yield faster(
        "snapshot-hash",
        f"`snapshot --hash` of an ext4 with {_FILES * _EACH >> 20} MiB in {_FILES} files, the page"
        " cache dropped, start of the program and all; beside it `cat` of what is stored",
        gigabytes_a_second(_FILES * _EACH / taken["snapshot"]),
        gigabytes_a_second(used / taken["cat"]),
        _FILES * _EACH / taken["snapshot"] / (used / taken["cat"]), 0.8,
    )  # fmt: skip
    raw.unlink()


def _cold(path: Path) -> None:
    os.sync()
    _DROP.write_text("3\n")
    assert path.exists()
