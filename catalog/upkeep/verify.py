"""Verifying catalogued images, and recording what was found."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from ...formats.errors import FormatError
from ...formats.index.rank_chunk import ChunkMissingError
from ...formats.passes import verify as formats_verify
from ...formats.sources.sealed import NOT_AS_SEALED
from ...formats.sources.sealing import SealingSource
from ..database.moment import utc_now
from ..errors import ImageChangedError, ImageNotFoundError, NeedsRepackError
from ..opening.open import open_image
from ..records import DAMAGED, LIVE, READY, BadRange
from .seals import Seal, broken_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.finding import Finding
    from ...formats.progress import Progress
    from ...formats.sources.byte_source import ByteSource
    from ..opening.open import OpenImage
    from ..records import ImageRecord, SegmentRow
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
    done: dict[int, VerifyReport] | None = None,
) -> VerifyReport:
    """Check every checksum of an image, else its structure, and record the result.

    Of an image that is made of others, those are verified and recorded, each once; what is wrong
    with one, or cannot be read, is told by its name and its guest bytes of the whole.

    Args:
        catalog: where the image is; it is written to.
        image_id: the image.
        progress: told the stored bytes that are done.
        jobs: threads; as many as there are processors if None.
        done: reports of images that were verified just before, by id; takes the new ones.

    Raises:
        ImageNotFoundError: there is no such image.
        ImageChangedError: its files are not the ones that were scanned, or changed meanwhile.
        OSError: the operating system could not read; nothing is recorded.
        CatalogError: the catalog could not be read or written.
    """
    done = {} if done is None else done
    record = catalog.get(image_id)
    if record.is_composed:
        report = _verify_parts(catalog, record, progress, jobs, done)
    else:
        report = _verify_files(catalog, image_id, progress, jobs)
    done[image_id] = report
    return report


def _verify_files(
    catalog: Catalog, image_id: int, progress: Progress | None, jobs: int | None
) -> VerifyReport:
    image = open_image(catalog, image_id, at_any_cost=True)
    found: list[BadRange] = []
    count = 0
    seal = None
    try:
        for finding in _findings(catalog, image, progress, jobs):
            if isinstance(finding, Seal):
                seal = finding
                continue
            count += 1
            if len(found) < _MOST_RECORDED:
                found.append(BadRange(*finding))
        changed = image.stored.changed_file()
        if changed is not None:
            raise ImageChangedError(f"{changed}: was changed while it was verified")
    finally:
        image.close()
    return _record(catalog, image_id, image.spec.index_id, found, count, seal)


def _findings(
    catalog: Catalog, image: OpenImage, progress: Progress | None, jobs: int | None
) -> Iterator[Finding | Seal]:
    """Yield what is wrong with an image's files, and the hashes of all that is stored."""
    if image.spec.streams:
        yield from _checked(image, image.stored.source, progress, jobs)
        return
    sealing = SealingSource(image.stored.source, jobs or os.cpu_count() or 1)
    yield from _checked(image, sealing, progress, jobs)
    hashes = sealing.finish()
    if hashes is None:
        return
    if image.spec.is_sealed:
        yield from broken_pages(catalog, image, hashes)
    yield Seal(sealing.size, hashes)


def _checked(
    image: OpenImage, source: ByteSource, progress: Progress | None, jobs: int | None
) -> Iterator[Finding]:
    return formats_verify.verify(
        image.spec.format, source, image.spec.layout, image.index, progress=progress, jobs=jobs
    )


def _verify_parts(
    catalog: Catalog,
    record: ImageRecord,
    progress: Progress | None,
    jobs: int | None,
    done: dict[int, VerifyReport],
) -> VerifyReport:
    found: list[BadRange] = []
    before = 0
    is_known = True
    for segment in record.segments:
        if segment.child_name is None:
            continue
        report, reason = None, "is not in the catalog"
        if segment.child_id is not None:
            tell = None if progress is None else _shifted(progress, before)
            report, reason, is_settled = _verify_part(catalog, segment.child_id, tell, jobs, done)
            is_known = is_known and is_settled
            before += _stored_bytes(catalog, segment.child_id)
        if report is None:
            found.append(BadRange(segment.start, segment.stop, f"{segment.child_name}: {reason}"))
        else:
            found += _of_segment(segment, report)
    kept = found[:_MOST_RECORDED]
    if not is_known:
        # The system would not read a part just now: that is no damage to be remembered.
        detail = _detail(record, len(found))
        return VerifyReport(record.row.id, record.row.name, tuple(kept), len(found), detail)
    return _record(catalog, record.row.id, record.index_id, kept, len(found))


def _verify_part(
    catalog: Catalog,
    image_id: int,
    progress: Progress | None,
    jobs: int | None,
    done: dict[int, VerifyReport],
) -> tuple[VerifyReport | None, str, bool]:
    """Return the report of a part, or why there is none, and whether it would be so again."""
    if image_id in done:
        return done[image_id], "", True
    try:
        report = verify_image(catalog, image_id, progress=progress, jobs=jobs, done=done)
    except (ImageChangedError, ImageNotFoundError, NeedsRepackError, FormatError) as error:
        return None, str(error), True
    except (OSError, ChunkMissingError) as error:
        return None, str(error), False
    return report, "", True


def _of_segment(segment: SegmentRow, report: VerifyReport) -> Iterator[BadRange]:
    """Yield what is wrong with a part, as ranges of the image that it is a part of."""
    offset = segment.child_offset or 0
    for bad in report.bad_ranges:
        detail = f"{segment.child_name}: {bad.detail}"
        if bad.start is None or bad.stop is None:
            yield BadRange(segment.start, segment.stop, detail)
            continue
        start = max(segment.start, segment.start + bad.start - offset)
        stop = min(segment.stop, segment.start + bad.stop - offset)
        if start < stop:
            yield BadRange(start, stop, detail)


def _stored_bytes(catalog: Catalog, image_id: int) -> int:
    try:
        return catalog.get(image_id).row.stored_bytes
    except ImageNotFoundError:
        return 0


def _shifted(progress: Progress, before: int) -> Progress:
    return lambda done: progress(before + done)


def record_right(catalog: Catalog, record: ImageRecord) -> VerifyReport:
    """Record that nothing is wrong with an image, as its scan has found; see `Ingested.is_right`.

    Raises:
        ImageNotFoundError: it was removed meanwhile.
        ImageChangedError: it was scanned anew meanwhile.
        CatalogError: the catalog could not be read or written.
    """
    return _record(catalog, record.row.id, record.index_id, [], 0)


def _record(
    catalog: Catalog,
    image_id: int,
    index_id: int | None,
    found: list[BadRange],
    count: int,
    seal: Seal | None = None,
) -> VerifyReport:
    # Imported when there is something to write: loading SQLAlchemy takes a while.
    from ..database import composing, reading, writing
    from ..database.transaction import driver_connection

    record = catalog.get(image_id)
    name = record.row.name
    report = VerifyReport(image_id, name, tuple(found), count, _detail(record, count))
    with catalog.database.writing() as connection:
        if reading.record_of_id(driver_connection(connection), image_id).index_id != index_id:
            raise ImageChangedError(f"{name}: was scanned anew while it was verified")
        # Of what has no file of its own, or may be written at any time, no hash is kept.
        may_be_sealed = record.row.path is not None and record.row.status != LIVE
        if seal is not None and report.ok and index_id is not None and may_be_sealed:
            writing.insert_seal(connection, index_id, seal.size, seal.hashes)
        writing.replace_bad_ranges(connection, image_id, report.bad_ranges)
        values: dict[str, object] = {
            "verified_at": utc_now(),
            "verify_result": OK if report.ok else BAD,
            "verify_detail": report.detail,
        }
        was_broken = record.row.status == DAMAGED and NOT_AS_SEALED in str(record.row.status_detail)
        if report.ok and was_broken:
            # Its file was put back.
            values |= {"status": READY, "status_detail": None}
        writing.update_image(connection, image_id, **values)
        if was_broken:
            composing.refresh_above(connection, [image_id])
    return report


def _detail(record: ImageRecord, count: int) -> str:
    checksum = record.row.checksum
    what = "structure, there are no checksums" if checksum == "none" else f"every {checksum}"
    if record.is_composed:
        what = "every part"
    if record.is_difference:
        what += f", without its parent {record.segments[0].child_name}"
    if count == 0:
        return f"right: {what}"
    return f"{count} bad {'place' if count == 1 else 'places'} found; checked: {what}"
