"""Let the peer open one image and index it, and print how many seconds that took.

Started by the peer's interpreter, as ``peer_index.py IMAGE``; it is all that `vpartclone` does
before it mounts.
"""

from __future__ import annotations

import sys
import time

from imagebackup.partclone import PartClone  # type: ignore[import-not-found]


def main() -> None:
    """Do as the module says."""
    path = sys.argv[1]
    began = time.perf_counter()
    with open(path, "rb") as file:
        image = PartClone(file, path)
        image.buildBlockIndex()
        sys.stdout.write(f"{time.perf_counter() - began!r}\n")


if __name__ == "__main__":
    main()
