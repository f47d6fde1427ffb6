"""Recording what `stat` tells of the files of images, so that every question has one answer."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ..errors import CatalogError
from ..opening.freshness import Observed, observed_status
from ..records import AWAY, MISSING
from ..store import Catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..records import ImageRow, Volume

_BUSY_SECONDS = 0.2
"""What is only looked at does not wait for those who write."""


def observe(catalog: Catalog) -> tuple[list[tuple[ImageRow, tuple[Volume, ...]]], Observed]:
    """Return every image with its files, and what they are now, which is recorded too.

    Where the catalog cannot be written just now, only what is returned is of now.

    Raises:
        CatalogError: the catalog could not be read.
    """
    listed = catalog.list_images()
    parts = catalog.parts()
    found = {
        row.id: status
        for row, volumes in listed
        if row.path is not None and (status := observed_status(row, volumes)) != row.status
    }
    if found and _record(catalog.path, listed, found):
        listed, parts = catalog.list_images(), catalog.parts()
    return listed, Observed(listed, parts)


def _record(
    path: str, listed: Sequence[tuple[ImageRow, Sequence[Volume]]], found: dict[int, str]
) -> bool:
    """Record statuses that differ from those in the catalog; tell whether that could be done."""
    details = {row.id: _detail(row, volumes, found.get(row.id)) for row, volumes in listed}
    with (
        contextlib.suppress(CatalogError),
        Catalog.open(path, busy_seconds=_BUSY_SECONDS) as writing,
    ):
        writing.set_statuses({each: (found[each], details[each]) for each in found})
        return True
    return False


def _detail(row: ImageRow, volumes: Sequence[Volume], status: str | None) -> str | None:
    """Return why an image has a status."""
    if status == MISSING:
        gone = (volume.path for volume in volumes if not os.path.exists(volume.path))
        return f"{next(gone, row.path)} is not there"
    if status in AWAY:
        return f"{row.path} was changed since it was scanned: rescan it"
    return row.detail_before
