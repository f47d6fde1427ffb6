"""Measure imgcat beside its peer and print the table: ``python tests/bench/run.py``.

Works as root in a scratch directory, and removes that at the end, whatever happens. The exit code
is 0 also where a figure is missed (the table says so); 1 where one could not be taken.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import machine
import report
import row_add
import row_buffered
import row_containers_add
import row_containers_beside
import row_containers_fleet
import row_containers_memory
import row_containers_read
import row_disks
import row_files
import row_index
import row_ls
import row_mount
import row_nbd
import row_ntfsclone
import row_partimage
import row_random
import row_read
import row_repack
import row_sealed
import row_snapshot
import row_verify
import row_version
from bench import Bench
from measure import say, seconds
from workshop import Workshop

if TYPE_CHECKING:
    from measure import Row

_QUESTIONS = (
    row_mount, row_read, row_buffered, row_random, row_verify, row_add, row_ntfsclone,
    row_partimage, row_ls, row_version, row_containers_add, row_containers_read,
    row_containers_memory, row_containers_fleet, row_containers_beside, row_repack, row_sealed,
    row_disks, row_nbd, row_files, row_index,
    row_snapshot,
)  # fmt: skip
_NAMES = [name for question in _QUESTIONS for name in question.NAMES]


def main() -> int:
    """Run the program and return its exit code."""
    options = _options()
    if os.geteuid() != 0:
        sys.exit("the page cache is dropped and file systems are mounted: run it as root")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    began = time.monotonic()
    wanted = set(options.only or _NAMES)
    rows: list[Row] = []
    complete = True
    with Workshop(options.work) as shop:
        bench = Bench(shop, options.peer)
        for question in _QUESTIONS:
            if wanted.isdisjoint(question.NAMES):
                continue
            try:
                rows.extend(row for row in question.measure(bench) if row.name in wanted)
            except Exception:  # noqa: BLE001 - the other questions are still asked
                traceback.print_exc()
                say(f"not measured: {', '.join(question.NAMES)}")
                complete = False
        facts = machine.facts(bench.peer if bench.has_peer else None)
    say(f"done in {seconds(time.monotonic() - began)}")
    sys.stdout.write(report.as_text(rows, facts))
    if options.markdown and complete:
        options.markdown.write_text(report.as_markdown(rows, facts), encoding="utf-8")
    return 0 if complete else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure imgcat beside its peer.")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR",
        help="where the scratch directory is made (8 GB)",
    )  # fmt: skip
    parser.add_argument(
        "--peer", type=Path, metavar="DIR",
        help="a virtual environment that has imagebackup; without it, one is made",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", choices=_NAMES, metavar="ROW", help=f"of {', '.join(_NAMES)}"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page there")
    return parser.parse_args()


def _stop(number: int, _frame: object) -> NoReturn:
    say(f"stopping: {signal.Signals(number).name}")
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
