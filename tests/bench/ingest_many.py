"""Add every image of a directory to a new catalog, in one process.

Started as ``ingest_many.py CATALOG DIRECTORY``.
"""

from __future__ import annotations

import os
import sys

from imgcat.catalog.adding.add import add_file
from imgcat.catalog.store import Catalog


def main() -> None:
    """Do as the module says."""
    path, directory = sys.argv[1:]
    with Catalog.open(path, create=True) as catalog:
        for name in sorted(os.listdir(directory)):
            add_file(catalog, os.path.join(directory, name))


if __name__ == "__main__":
    main()
