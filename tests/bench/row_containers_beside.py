"""Does a plain image stay as quick while a compressed one is read by somebody else?"""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING

from bench import cat
from compressed import ZSTD
from images import BLOCK_SIZE, MIB, save_filled, used_offsets
from measure import faster, interleaved, say
from reading import Tour, latencies_together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("beside", "beside-slow")

_SIZE = 96 << 20
_FILL = 80 << 20
_ROUNDS = 5
_SECONDS = 1.5
_COUNT = 20_000
_WANTED = 0.5
_SLOW_WANTED = 0.25


def measure(bench: Bench) -> Iterator[Row]:
    """Read the plain one at random, with and without the other being read, in turn."""
    shop = bench.shop
    compressed = bench.compressed_images[ZSTD].path
    plain = save_filled(shop, "plain", _SIZE, _FILL)
    catalog, point = shop.directory / "beside.db", shop.make("beside.ours")
    shop.run(*shop.imgcat(catalog, "add", plain, compressed))
    pid = shop.mount_all(catalog, point)
    sizes = {path.stat().st_size: path for path in point.iterdir()}
    plain_path, compressed_path = sizes[min(sizes)], sizes[max(sizes)]
    cat(plain)
    cat(compressed)
    used = used_offsets(plain, BLOCK_SIZE)
    small = Tour(
        BLOCK_SIZE,
        [(plain_path, offset) for offset in random.Random(1).choices(used, k=_COUNT)],
    )
    large = Tour(MIB, [(compressed_path, n * MIB) for n in range(max(sizes) // MIB)])
    last: dict[str, list[float]] = {"alone": [], "beside": []}

    def reading(name: str, *tours: Tour) -> float:
        taken = latencies_together(tours, _SECONDS)
        last[name] += taken[0]
        if len(taken) > 1:
            say(f"  meanwhile {len(taken[1]) / _SECONDS:.0f} MiB/s of the other")
        return statistics.median(taken[0])

    say("4 KiB direct reads of a plain image, seconds for each")
    alone, beside = interleaved(
        _ROUNDS,
        {
            "alone": lambda: reading("alone", small),
            "beside": lambda: reading("beside", small, large),
        },
    ).values()
    shop.unmount(point, pid)
    plain.unlink()
    yield faster(
        "beside",
        "4 KiB O_DIRECT at random of a plain image, while a process reads a zstd image in order; "
        "beside it the same without. Median",
        _microseconds(beside), _microseconds(alone), alone / beside, _WANTED,
    )  # fmt: skip
    slow_beside, slow_alone = (_slow(last[name]) for name in ("beside", "alone"))
    yield faster(
        "beside-slow", "The same, 99th percentile",
        _microseconds(slow_beside), _microseconds(slow_alone), slow_alone / slow_beside,
        _SLOW_WANTED,
    )  # fmt: skip


def _slow(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


def _microseconds(value: float) -> str:
    return f"{value * 1e6:.0f} µs"
