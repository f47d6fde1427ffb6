"""Let the peer open one image and index it, and print how many seconds that took.

Started by the peer's interpreter, as ``peer_index.py IMAGE``; it is all that its programs do
before they mount.
"""

from __future__ import annotations

import sys
import time

from imagebackup.ntfsclone import NtfsClone  # type: ignore[import-not-found]
from imagebackup.partclone import PartClone  # type: ignore[import-not-found]


def main() -> None:
    """Do as the module says."""
    path = sys.argv[1]
    began = time.perf_counter()
    with open(path, "rb") as file:
        kind = NtfsClone if file.peek(1)[:1] == b"\0" else PartClone
        image = kind(file, path)
        image.buildBlockIndex(progress_bar=False)
        sys.stdout.write(f"{time.perf_counter() - began!r}\n")


if __name__ == "__main__":
    main()
