"""Starting reading processes together, and what they achieve."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PROGRAM = Path(__file__).with_name("reader.py")
_LATENCIES = Path(__file__).with_name("latencies.py")
_FOREVER = 600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What one process reads.

    Attributes:
        path: the mounted file.
        size: bytes in a read.
        offsets: where, in turn, from the beginning again at the end.
    """

    path: Path
    size: int
    offsets: Sequence[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Tour:
    """What one process reads of one file or several, with the time of each read taken.

    Attributes:
        size: bytes in a read.
        places: files and offsets, in turn, from the beginning again at the end.
    """

    size: int
    places: Sequence[tuple[Path, int]]


def reads_together(jobs: Sequence[Job], seconds: float) -> float:
    """Let a process for each job read for so long, all at once; return their reads a second."""
    return sum(count / taken for count, taken in _run(jobs, seconds, 0))


def reads_once(job: Job) -> float:
    """Let one process read every offset once; return its reads a second."""
    ((count, taken),) = _run([job], _FOREVER, len(job.offsets))
    return count / taken


def read_all(job: Job) -> None:
    """Let one process read every offset once."""
    _run([job], _FOREVER, len(job.offsets))


def latencies_together(tours: Sequence[Tour], seconds: float, count: int = 0) -> list[list[float]]:
    """Let a process for each tour read for so long, all at once; return what each read took.

    Args:
        tours: what they read.
        seconds: after so long they end.
        count: or after so many reads, where it is not 0.
    """
    processes = [
        _start(
            (_LATENCIES, tour.size, seconds, count),
            (f"{offset} {path}" for path, offset in tour.places),
        )
        for tour in tours
    ]
    return [json.loads(line) for line in _together(processes)]


def _run(jobs: Sequence[Job], seconds: float, count: int) -> list[tuple[int, float]]:
    processes = [
        _start((_PROGRAM, job.path, job.size, seconds, count), map(str, job.offsets))
        for job in jobs
    ]
    results = (line.split() for line in _together(processes))
    return [(int(done), float(taken)) for done, taken in results]


def _start(program: Sequence[object], lines: Iterable[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", *map(str, program)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    _input(process).write("".join(f"{line}\n" for line in lines) + "\n")
    _input(process).flush()
    return process


def _together(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Let all go at once, when all are ready, and return the line that each says at its end."""
    try:
        for process in processes:
            _expect(process, "ready")
        for process in processes:
            _input(process).write("go\n")
            _input(process).flush()
        return [_output(process).readline() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _input(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdin is not None
    return process.stdin


def _output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _expect(process: subprocess.Popen[str], said: str) -> None:
    line = _output(process).readline().strip()
    if line != said:
        message = f"a reader said {line!r}, not {said!r}"
        raise RuntimeError(message)
