"""Scan one image, and print how many seconds that took.

Started as ``scan_once.py IMAGE``, in a process of its own for each time.
"""

from __future__ import annotations

import sys
import time

from imgcat.formats import registry
from imgcat.formats.files import detect


def main() -> None:
    """Do as the module says."""
    with detect.open_files(sys.argv[1]) as stored:
        began = time.perf_counter()
        registry.scan(stored.source)
        sys.stdout.write(f"{time.perf_counter() - began!r}\n")


if __name__ == "__main__":
    main()
