"""What a mount shows of the catalog's rows."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

from ..database.shown import mount_entry
from ..errors import NameTakenError
from ..names import check_name
from ..records import LARGEST_INDEX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ..records import MountEntry
    from ..store import Catalog

log = logging.getLogger("imgcat.catalog")

_IDENTITY = 7
"""Columns of a row before the one that differs from file to file: when that was changed."""


def mount_entries(catalog: Catalog, only: Collection[int] | None = None) -> list[MountEntry]:
    """Return what a mount shows: all images, or those of the ids. Two statements."""
    return entries_of(catalog.mount_rows(), only)


def entries_of(
    rows: Iterable[tuple[Any, ...]], only: Collection[int] | None = None
) -> list[MountEntry]:
    """Return the entries of rows, as `Catalog.mount_rows` gives them, one for each image.

    A row with nonsense in it, as a failing disk may leave, is logged and left out.
    """
    wanted = None if only is None else frozenset(only)
    found = []
    for (image_id, *_identity), group in itertools.groupby(rows, key=lambda row: row[:_IDENTITY]):
        if wanted is not None and image_id not in wanted:
            continue
        try:
            found.append(_entry(list(group)))
        except NameTakenError as error:
            log.warning("image %s is left out: %s: rename it", image_id, error)
        except (ValueError, TypeError, AttributeError):
            log.warning("image %s: its row in the catalog is damaged: add it again", image_id)
    return found


def _entry(rows: list[tuple[Any, ...]]) -> MountEntry:
    """Return the entry of an image, checked."""
    times = [row[_IDENTITY] for row in rows]
    mtime = max((int(each) for each in times if each is not None), default=0)
    first = rows[0]
    entry = mount_entry(*first[:_IDENTITY], mtime, *first[_IDENTITY + 1 :])
    check_name(entry.name)
    numbers = (entry.size_bytes, entry.used_bytes)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError(numbers)
    if not isinstance(entry.content_key, int) or not 0 < entry.index_id <= LARGEST_INDEX:
        raise ValueError(entry.index_id)
    return entry
