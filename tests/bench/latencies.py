"""One reading process that takes the time of every read: O_DIRECT, one size, one file or several.

Started as ``latencies.py SIZE SECONDS COUNT`` with ``OFFSET PATH``, a line each and an empty line
after them, on standard input. Says ``ready``, waits for a line, reads until the time is up (or
COUNT reads are done, where that is not 0), and prints the seconds that each took, as JSON.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import sys
import time


def main() -> None:
    """Do as the module says."""
    size, limit, count = int(sys.argv[1]), *map(float, sys.argv[2:4])
    places = [line[:-1].split(" ", 1) for line in iter(sys.stdin.readline, "\n")]
    files = {
        path: os.open(path, os.O_RDONLY | os.O_DIRECT) for path in {path for _, path in places}
    }
    reads = [(files[path], int(offset)) for offset, path in places]
    # O_DIRECT asks for aligned memory; an anonymous mapping begins at a page.
    buffer = mmap.mmap(-1, size)
    _say("ready")
    sys.stdin.readline()
    taken: list[float] = []
    stop = time.perf_counter() + limit
    for file, offset in itertools.cycle(reads):
        began = time.perf_counter()
        if os.preadv(file, [buffer], offset) != size:
            sys.exit(f"short read at {offset}")
        now = time.perf_counter()
        taken.append(now - began)
        if now >= stop or len(taken) == count:
            break
    _say(json.dumps(taken))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
