"""One reading process: O_DIRECT reads of one size, at given offsets in turn.

Started as ``reader.py FILE SIZE SECONDS COUNT`` with the offsets, a line each and an empty line
after them, on standard input. Says ``ready``, waits for a line, reads until the time is up (or
COUNT reads are done, where that is not 0), and prints the reads and the seconds they took.
Imports as little as it can, to be ready soon.
"""

from __future__ import annotations

import itertools
import mmap
import os
import sys
import time


def main() -> None:
    """Do as the module says."""
    path, size, limit, count = sys.argv[1], *map(float, sys.argv[2:5])
    offsets = [int(line) for line in iter(sys.stdin.readline, "\n")]
    # O_DIRECT asks for aligned memory; an anonymous mapping begins at a page.
    buffer = mmap.mmap(-1, int(size))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    _say("ready")
    sys.stdin.readline()
    done = 0
    began = now = time.perf_counter()
    for offset in itertools.cycle(offsets):
        if os.preadv(fd, [buffer], offset) != size:
            sys.exit(f"{path}: short read at {offset}")
        done += 1
        now = time.perf_counter()
        if now - began >= limit or done == count:
            break
    os.close(fd)
    _say(f"{done} {now - began!r}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
