"""Scan one image, and print how many seconds that took.

Started as ``scan_once.py IMAGE``, in a process of its own for each time.
"""

from __future__ import annotations

import sys
import time

from imgcat.formats import probe


def main() -> None:
    """Do as the module says."""
    with probe.open_files(sys.argv[1]) as stored:
        began = time.perf_counter()
        probe.scan(stored.source)
        sys.stdout.write(f"{time.perf_counter() - began!r}\n")


if __name__ == "__main__":
    main()
