"""How fast is a plain copy through the page cache?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cat
from measure import faster, gigabytes_a_second, interleaved, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench import Bench
    from measure import Row

NAMES = ("buffered",)

_ROUNDS = 5


def measure(bench: Bench) -> Iterator[Row]:
    """Let `dd` read the whole of an image, from us and from the peer, in turn."""
    stage = bench.read_stage
    say("buffered dd, bytes a second")

    def copying(path: Path) -> Callable[[], float]:
        size = path.stat().st_size

        def copy() -> float:
            _forget_page_cache()
            cat(stage.images[0])
            began = time.perf_counter()
            bench.shop.run("dd", f"if={path}", "of=/dev/null", "bs=1M")
            return size / (time.perf_counter() - began)

        return copy

    rates = interleaved(_ROUNDS, {"ours": copying(stage.ours[0]), "peer": copying(stage.peer[0])})
    ours, peer = rates.values()
    yield faster(
        "buffered",
        "`dd bs=1M` of a whole mounted image, the image in the page cache and the mounted file "
        "not; beside it `imagebackup`",
        gigabytes_a_second(ours), gigabytes_a_second(peer), ours / peer, 2,
    )  # fmt: skip


def _forget_page_cache() -> None:
    """Drop what the page cache holds and need not write, of every file."""
    Path("/proc/sys/vm/drop_caches").write_text("1\n", encoding="ascii")
