"""Verifying catalogued images, and recording what was found."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ...formats.errors import UnsupportedFeatureError
from ...formats.passes import verify as formats_verify
from ..database.moment import utc_now
from ..errors import ImageChangedError
from ..opening import composed as disks
from ..opening.open import open_image
from ..records import BadRange

if TYPE_CHECKING:
    from ...formats.progress import Progress
    from ..records import ImageRecord
    from ..store import Catalog

OK = "ok"
BAD = "bad"

_MOST_RECORDED = 10_000
"""Bad ranges that are kept of one image; all are counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        image_id: the image.
        name: its name.
        bad_ranges: the damage, in the order of the image; the first 10,000.
        bad_count: how many there are.
        detail: the result in words.
    """

    image_id: int
    name: str
    bad_ranges: tuple[BadRange, ...]
    bad_count: int
    detail: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.bad_count == 0


def verify_image(
    catalog: Catalog,
    image_id: int,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
) -> VerifyReport:
    """Check every checksum of an image, else its structure, and record the result.

    Args:
        catalog: where the image is; it is written to.
        image_id: the image.
        progress: told the stored bytes that are done.
        jobs: threads; as many as there are processors if None.

    Raises:
        ImageNotFoundError: there is no such image.
        ImageChangedError: its files are not the ones that were scanned, or changed meanwhile.
        OSError: the operating system could not read; nothing is recorded.
        UnsupportedFeatureError: it is a disk, which has no bytes of its own to verify.
        CatalogError: the catalog could not be read or written.
    """
    if catalog.get(image_id).row.format == disks.FORMAT:
        raise UnsupportedFeatureError("disk", 0, "is made of its partitions: verify those")
    image = open_image(catalog, image_id, at_any_cost=True)
    found: list[BadRange] = []
    count = 0
    try:
        before = [file.current_stat() for file in image.stored.files]
        for finding in formats_verify.verify(
            image.spec.format,
            image.stored.source,
            image.spec.layout,
            image.index,
            progress=progress,
            jobs=jobs,
        ):
            count += 1
            if len(found) < _MOST_RECORDED:
                found.append(BadRange(*finding))
        for file, status in zip(image.stored.files, before, strict=True):
            now = file.current_stat()
            if (now.st_mtime_ns, now.st_size) != (status.st_mtime_ns, status.st_size):
                raise ImageChangedError(f"{file.path}: was changed while it was verified")
    finally:
        image.close()
    return _record(catalog, image_id, image.spec.index_id, found, count)


def record_right(catalog: Catalog, record: ImageRecord) -> VerifyReport:
    """Record that nothing is wrong with an image, as its scan has found; see `Ingested.is_right`.

    Raises:
        ImageNotFoundError: it was removed meanwhile.
        ImageChangedError: it was scanned anew meanwhile.
        CatalogError: the catalog could not be read or written.
    """
    return _record(catalog, record.row.id, record.index_id, [], 0)


def _record(
    catalog: Catalog, image_id: int, index_id: int | None, found: list[BadRange], count: int
) -> VerifyReport:
    # Imported when there is something to write: loading SQLAlchemy takes a while.
    from ..database import writing

    record = catalog.get(image_id)
    name = record.row.name
    report = VerifyReport(image_id, name, tuple(found), count, _detail(record.row.checksum, count))
    if record.index_id != index_id:
        raise ImageChangedError(f"{name}: was scanned anew while it was verified")
    with catalog.database.writing() as connection:
        writing.replace_bad_ranges(connection, image_id, report.bad_ranges)
        writing.update_image(
            connection,
            image_id,
            verified_at=utc_now(),
            verify_result=OK if report.ok else BAD,
            verify_detail=report.detail,
        )
    return report


def _detail(checksum: str, count: int) -> str:
    what = "structure, there are no checksums" if checksum == "none" else f"every {checksum}"
    if count == 0:
        return f"right: {what}"
    return f"{count} bad {'place' if count == 1 else 'places'} found; checked: {what}"
