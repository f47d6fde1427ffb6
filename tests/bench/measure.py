"""What a row of the table is, and how its figures are taken."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTHING = "-"
"""Stands in a cell that has nothing to say."""

KB = 1000
MB = 1_000_000
GB = 1_000_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: what `--only` takes.
        what: what is measured, and beside whom.
        ours: our figure, with its unit.
        other: the figure of the one beside us.
        ratio: how many times better ours is; for memory, our share of theirs.
        wanted: what the ratio, or our figure, is to be.
        met: whether it is.
    """

    name: str
    what: str
    ours: str
    other: str
    ratio: str
    wanted: str
    met: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one or more processes, in bytes.

    `rss` counts a page once for each process that has it, `pss` divides it among them.
    """

    rss: int
    pss: int

    def __add__(self, other: Memory) -> Memory:
        """Return the sum."""
        return Memory(self.rss + other.rss, self.pss + other.pss)

    def __str__(self) -> str:
        """Return both figures in words."""
        return f"{megabytes(self.rss)} (PSS {megabytes(self.pss)})"


def faster(name: str, what: str, ours: str, other: str, ratio: float, wanted: float) -> Row:
    """Return the row of a ratio that is to be at least `wanted`."""
    digits = 0 if wanted >= 10 else 2
    return Row(name, what, ours, other, f"{ratio:.{digits}f}", f"≥ {wanted:g}", ratio >= wanted)


def limited(name: str, what: str, ours: str, wanted: str, *, met: bool) -> Row:
    """Return the row of a figure that is to stay below a limit, with nobody beside us."""
    return Row(name, what, ours, NOTHING, NOTHING, f"< {wanted}", met)


def say(text: str) -> None:
    """Tell what goes on, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def interleaved(
    rounds: int, actions: Mapping[str, Callable[[], float]], *, warm_up: bool = True
) -> dict[str, float]:
    """Take every action in turn, `rounds` times after a warm-up; return the medians by name.

    In turn, so that a machine that is faster or slower for a while is so for all of them.
    """
    for action in actions.values() if warm_up else ():
        action()
    figures: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            figures[name].append(action())
    for name, values in figures.items():
        say(f"  {name}: " + " ".join(f"{value:.4g}" for value in values))
    return {name: statistics.median(values) for name, values in figures.items()}


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def memory_of(pid: int) -> Memory:
    """Return the memory of a process as it is now."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    fields = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines}
    return Memory(fields["Rss:"], fields["Pss:"])


def peak_memory_of(pid: int) -> int:
    """Return the most bytes that a process ever had resident."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    message = f"process {pid} tells no peak memory"
    raise ValueError(message)


def seconds(value: float) -> str:
    """Return a time with three digits that count."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def megabytes(value: float) -> str:
    """Return a number of bytes in megabytes."""
    return f"{value / MB:,.0f} MB"


def gigabytes_a_second(value: float) -> str:
    """Return a throughput."""
    return f"{value / GB:.2f} GB/s"


def reads_a_second(value: float) -> str:
    """Return a number of requests in a second."""
    return f"{value:,.0f} /s"
