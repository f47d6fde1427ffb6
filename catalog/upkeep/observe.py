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
    from collections.abc import Iterable, Mapping, Sequence

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
    found = look_at(listed)
    if record_look(catalog.path, listed, found):
        listed, parts = catalog.list_images(), catalog.parts()
    own = {image_id: status for image_id, (status, _detail) in found.items()}
    return listed, Observed(listed, parts, own)


def look_at(
    listed: Iterable[tuple[ImageRow, Sequence[Volume]]],
) -> dict[int, tuple[str, str | None]]:
    """Return what `stat` tells of the images that have files, and why, by id. Asks no catalog."""
    found = {}
    for row, volumes in listed:
        if row.path is not None:
            status = observed_status(row, volumes)
            changed = status != row.status
            found[row.id] = status, _detail(row, volumes, status) if changed else None
    return found


def record_look(
    path: str,
    listed: Iterable[tuple[ImageRow, Sequence[Volume]]],
    found: Mapping[int, tuple[str, str | None]],
) -> bool:
    """Record what images were found to be, where it is not as recorded; tell whether it was.

    Args:
        path: the catalog's file.
        listed: the images as they are recorded.
        found: what `look_at` has returned of them.
    """
    known = {row.id: row.status for row, _volumes in listed}
    news = {image_id: each for image_id, each in found.items() if each[0] != known[image_id]}
    if not news:
        return False
    with (
        contextlib.suppress(CatalogError),
        Catalog.open(path, busy_seconds=_BUSY_SECONDS) as writing,
    ):
        writing.set_statuses(news)
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
