"""Looking at the files of catalogued images again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...formats.errors import FormatError
from ...formats.raw import reader as raw
from ..errors import ImageChangedError
from ..opening.freshness import Freshness, freshness
from ..records import FAILED, MISSING, ImageRecord
from .put import Ingested, Outcome, needs_scan, put
from .scan import scan_file

if TYPE_CHECKING:
    from ..store import Catalog


def rescan(catalog: Catalog, image_id: int) -> Ingested:
    """Look at the files of an image and mend its entry.

    Raises:
        ImageNotFoundError: there is no such image.
        CatalogError: the catalog could not be written.
    """
    record = catalog.get(image_id)
    state = freshness(record.volumes)
    if state is Freshness.MISSING:
        paths = (volume.path for volume in record.volumes)
        gone = next((path for path in paths if not os.path.exists(path)), record.row.path)
        return _set_status(catalog, record, MISSING, f"{gone} is not there", Outcome.MISSING)
    if not needs_scan(record) and record.row.status != MISSING:
        return Ingested(Outcome.UNCHANGED, record)
    try:
        scanned = scan_file(record.row.path, is_raw=record.row.format == raw.NAME)
    except (FormatError, OSError, ImageChangedError) as error:
        return _set_status(catalog, record, FAILED, str(error), Outcome.FAILED)
    ingested = put(catalog, scanned)
    catalog.purge_unused_indexes()
    return ingested


def _set_status(
    catalog: Catalog, record: ImageRecord, status: str, detail: str, outcome: Outcome
) -> Ingested:
    if (record.row.status, record.row.status_detail) != (status, detail):
        catalog.set_status(record.row.id, status, detail)
    return Ingested(outcome, catalog.get(record.row.id))
