"""Add one image to a catalog that is open and empty, and print how many seconds that took.

Started as ``ingest_once.py CATALOG IMAGE``, in a process of its own for each time.
"""

from __future__ import annotations

import sys
import time

from imgcat.catalog.adding.add import add_file
from imgcat.catalog.store import Catalog


def main() -> None:
    """Do as the module says."""
    path, image = sys.argv[1:]
    with Catalog.open(path, create=True) as catalog:
        began = time.perf_counter()
        add_file(catalog, image)
        sys.stdout.write(f"{time.perf_counter() - began!r}\n")


if __name__ == "__main__":
    main()
