"""How fast are small direct reads all over an image, by one reader and by two?"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from images import BLOCK_SIZE, used_offsets
from measure import faster, interleaved, reads_a_second, say
from reading import Job, reads_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench import Bench
    from measure import Row

NAMES = ("random-one", "random-two")

_ROUNDS = 15
_SECONDS = 0.6
_COUNT = 60_000
_WANTED = 0.9


def measure(bench: Bench) -> Iterator[Row]:
    """Read with us and from the zero handler, with one reader and with two, in turn."""
    stage = bench.read_stage
    stage.warm()
    used = used_offsets(stage.images[0], BLOCK_SIZE)
    orders = [random.Random(seed).choices(used, k=_COUNT) for seed in range(2)]
    say("random 4 KiB direct reads, reads a second")

    def reading(paths: Sequence[Path]) -> Callable[[], float]:
        jobs = [Job(path, BLOCK_SIZE, order) for path, order in zip(paths, orders, strict=False)]
        return lambda: reads_together(jobs, _SECONDS)

    rates = interleaved(
        _ROUNDS,
        {
            "ours": reading(stage.ours[:1]),
            "zeros": reading(stage.zeros[:1]),
            "ours, two": reading(stage.ours),
            "zeros, two": reading(stage.zeros),
        },
    )
    ours, zeros, ours_two, zeros_two = rates.values()
    yield faster(
        "random-one",
        "4 KiB O_DIRECT at random used blocks, one reader; beside it the zero handler",
        reads_a_second(ours), reads_a_second(zeros), ours / zeros, _WANTED,
    )  # fmt: skip
    yield faster(
        "random-two", "The same, two readers on two images",
        reads_a_second(ours_two), reads_a_second(zeros_two), ours_two / zeros_two, _WANTED,
    )  # fmt: skip
