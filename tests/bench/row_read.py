"""How fast are large direct reads, by one reader and by two?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from images import MIB, used_offsets
from measure import faster, gigabytes_a_second, interleaved, say
from reading import Job, reads_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench import Bench
    from measure import Row

NAMES = ("read-zero", "read-peer", "read-two")

_ROUNDS = 15
_SECONDS = 0.6


def measure(bench: Bench) -> Iterator[Row]:
    """Read one image with each, and two with us, in turn."""
    stage = bench.read_stage
    stage.warm()
    offsets = used_offsets(stage.images[0], MIB)
    say(f"1 MiB direct reads over {len(offsets)} MiB of used blocks, bytes a second")

    def reading(*paths: Path) -> Callable[[], float]:
        jobs = [Job(path, MIB, offsets) for path in paths]
        return lambda: MIB * reads_together(jobs, _SECONDS)

    rates = interleaved(
        _ROUNDS,
        {
            "ours": reading(stage.ours[0]),
            "zeros": reading(stage.zeros[0]),
            "peer": reading(stage.peer[0]),
            "ours, two": reading(*stage.ours),
        },
    )
    ours, zeros, peer, two = rates.values()
    yield faster(
        "read-zero",
        "1 MiB O_DIRECT, one after the other over used blocks; beside it a pyfuse3 handler that "
        "returns zeros",
        gigabytes_a_second(ours), gigabytes_a_second(zeros), ours / zeros, 0.85,
    )  # fmt: skip
    yield faster(
        "read-peer", "The same; beside it the mount of `imagebackup`",
        gigabytes_a_second(ours), gigabytes_a_second(peer), ours / peer, 15,
    )  # fmt: skip
    yield faster(
        "read-two", "The same by two processes on two images at once; beside it one process",
        gigabytes_a_second(two), gigabytes_a_second(ours), two / ours, 1.2,
    )  # fmt: skip
