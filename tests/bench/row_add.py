"""What does the largest image cost: to add, and to serve?"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from images import BLOCK_SIZE, random_used_blocks, write_sparse
from measure import (
    MB,
    faster,
    interleaved,
    limited,
    megabytes,
    memory_of,
    peak_memory_of,
    say,
    seconds,
    timed,
)
from peers import mounted_file
from reading import Job, read_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench
    from measure import Row

NAMES = ("add", "add-command", "add-memory", "serve-memory")

_TOTAL_BLOCKS = 1 << 28
_ROUNDS = 5
_PEAKS = 3
_READS = 20_000
_TIMES = 20
_PEAK_LIMIT = 300 * MB
_SERVE_LIMIT = 200 * MB
_HERE = Path(__file__).parent


def measure(bench: Bench) -> Iterator[Row]:
    """Add the image with us, open and index it with the peer, in turn; then read it."""
    image = bench.shop.directory / "terabyte.img"
    write_sparse(image, _TOTAL_BLOCKS)
    yield from _times(bench, image)
    peak = statistics.median(_peak(bench, image) for _ in range(_PEAKS))
    yield limited(
        "add-memory", "Peak resident memory of `imgcat add` of that image",
        megabytes(peak), megabytes(_PEAK_LIMIT), met=peak < _PEAK_LIMIT,
    )  # fmt: skip
    yield _serve(bench, image)
    image.unlink()


def _times(bench: Bench, image: Path) -> Iterator[Row]:
    shop = bench.shop
    say("an image of 2^28 blocks, seconds")

    def ours() -> float:
        catalog = _new_catalog(bench)
        return float(shop.run(sys.executable, _HERE / "ingest_once.py", catalog, image))

    def our_command() -> float:
        command = shop.imgcat(_new_catalog(bench), "add", image)
        return timed(lambda: shop.run(*command))

    def peer() -> float:
        return float(shop.run(bench.peer.python, _HERE / "peer_index.py", image))

    def peer_command() -> float:
        return timed(peer)

    inside, peer_inside, outside, peer_outside = interleaved(
        _ROUNDS,
        {"ours": ours, "peer": peer, "our command": our_command, "peer's command": peer_command},
    ).values()
    yield faster(
        "add",
        "Adding an image of 2^28 blocks (1 TiB) to an open, empty catalog; beside it "
        "`imagebackup` opens and indexes it (a fresh process each time, imports not counted)",
        seconds(inside), seconds(peer_inside), peer_inside / inside, _TIMES,
    )  # fmt: skip
    yield faster(
        "add-command",
        "The same as whole processes: `imgcat add`, and a Python that does only that",
        seconds(outside), seconds(peer_outside), peer_outside / outside, _TIMES,
    )  # fmt: skip


def _new_catalog(bench: Bench) -> Path:
    """Return the path of a catalog that is not there yet."""
    directory = bench.shop.directory
    for path in directory.glob("terabyte.db*"):
        path.unlink()
    return directory / "terabyte.db"


def _peak(bench: Bench, image: Path) -> int:
    command = bench.shop.imgcat(_new_catalog(bench), "add", image)
    return int(bench.shop.run(sys.executable, "-I", "-S", _HERE / "peak.py", *command))


def _serve(bench: Bench, image: Path) -> Row:
    shop = bench.shop
    catalog, point = _new_catalog(bench), shop.make("terabyte.ours")
    shop.run(*shop.imgcat(catalog, "add", image))
    pid = shop.mount_all(catalog, point)
    offsets = random_used_blocks(image, _READS)
    read_all(Job(mounted_file(image, point), BLOCK_SIZE, offsets))
    memory, peak = memory_of(pid), peak_memory_of(pid)
    shop.unmount(point, pid)
    say(f"  the daemon: {memory}, at most {megabytes(peak)}")
    return limited(
        "serve-memory", f"Resident memory of the daemon after {_READS:,} random reads all over it",
        megabytes(memory.rss), megabytes(_SERVE_LIMIT), met=memory.rss < _SERVE_LIMIT,
    )  # fmt: skip
