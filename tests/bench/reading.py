"""Starting reading processes together, and adding up what they achieve."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = Path(__file__).with_name("reader.py")
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


def reads_together(jobs: Sequence[Job], seconds: float) -> float:
    """Let a process for each job read for so long, all at once; return their reads a second."""
    return sum(count / taken for count, taken in _run(jobs, seconds, 0))


def read_all(job: Job) -> None:
    """Let one process read every offset once."""
    _run([job], _FOREVER, len(job.offsets))


def _run(jobs: Sequence[Job], seconds: float, count: int) -> list[tuple[int, float]]:
    processes = [_start(job, seconds, count) for job in jobs]
    try:
        for process in processes:
            _expect(process, "ready")
        for process in processes:
            _input(process).write("go\n")
            _input(process).flush()
        return [_result(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _start(job: Job, seconds: float, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", _PROGRAM, job.path, str(job.size), str(seconds), str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    _input(process).write("".join(f"{offset}\n" for offset in job.offsets) + "\n")
    _input(process).flush()
    return process


def _input(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdin is not None
    return process.stdin


def _expect(process: subprocess.Popen[str], said: str) -> None:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if line != said:
        message = f"a reader said {line!r}, not {said!r}"
        raise RuntimeError(message)


def _result(process: subprocess.Popen[str]) -> tuple[int, float]:
    assert process.stdout is not None
    count, taken = process.stdout.readline().split()
    return int(count), float(taken)
