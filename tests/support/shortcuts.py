"""What other tests test with the program itself, done quickly for those that need it done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imgcat.catalog.adding.add import add_file
from imgcat.catalog.opening.freshness import Observed
from imgcat.catalog.store import Catalog

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program


def catalogue(program: Program, *paths: Path) -> None:
    """Add images to the program's catalog, in this order."""
    with Catalog.open(str(program.catalog), create=True) as catalog:
        for path in paths:
            add_file(catalog, str(path))


def statuses(program: Program) -> dict[str, str]:
    """Return the status of every image, as it is listed, by name."""
    with Catalog.open(str(program.catalog), write=False) as catalog:
        listed = catalog.list_images()
        observed = Observed(listed, catalog.parts())
        return {row.name: observed.status(row.id) for row, _volumes in listed}


def daemon_pid(program: Program, mount: Path) -> int:
    """Return the process id of the daemon that was the last to serve `mount`."""
    for record in (program.home / "run" / "imgcat").iterdir():
        facts = json.loads(record.read_text())
        if facts["mount_point"] == str(mount):
            return int(facts["pid"])
    raise AssertionError(f"nobody has served {mount}")
