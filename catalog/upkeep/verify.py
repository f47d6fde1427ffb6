"""Verifying catalogued images, and recording what was found."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from ...formats.clonezilla.sums import SumOutcome
from ...formats.errors import FormatError
from ...formats.index.rank_chunk import ChunkMissingError
from ...formats.passes import verify as formats_verify
from ...formats.progress import Stage
from ...formats.sources.sealed import NOT_AS_SEALED
from ...formats.sources.sealing import SealingSource
from ..database.moment import utc_now
from ..errors import ImageChangedError, ImageNotFoundError, NeedsRepackError
from ..opening.open import open_image
from ..records import DAMAGED, LIVE, READY, BadRange
from . import stages
from .seals import Seal, broken_pages
from .stages import KeptStage, VerifyStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ...formats.clonezilla.sums import SumResult
    from ...formats.finding import Finding
    from ...formats.progress import Progress
    from ...formats.sources.byte_source import ByteSource
    from ..opening.open import OpenImage
    from ..records import ImageRecord, OpenSpec, SegmentRow
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


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyRun:
    """How verifications run.

    Attributes:
        progress: told the stored bytes that are done.
        jobs: threads; as many as there are processors if None.
        done: reports of images that were verified just before, by id; takes the new ones.
        until: tells whether it is to end, wherever it is; then what was found so far is kept, and
            the next one goes on from there, if the format allows.
        sums: what came of comparing files with checksums beside them, by their paths.
    """

    progress: Progress | None = None
    jobs: int | None = None
    done: dict[int, VerifyReport] = dataclasses.field(default_factory=dict)
    until: Callable[[], bool] | None = None
    sums: Mapping[str, SumResult] = dataclasses.field(default_factory=dict)


def verify_image(catalog: Catalog, image_id: int, run: VerifyRun | None = None) -> VerifyReport:
    """Check every checksum of an image, else its structure, and record the result.

    In a catalog that was opened without the right to write, nothing is recorded. Of an image that
    is made of others, those are verified and recorded, each once; what is wrong with one, or cannot
    be read, is told by its name and its guest bytes of the whole.

    Args:
        catalog: where the image is; it is written to.
        image_id: the image.
        run: how.

    Raises:
        VerifyStoppedError: `run.until` has ended it.
        ImageNotFoundError: there is no such image.
        ImageChangedError: its files are not the ones that were scanned, or changed meanwhile.
        OSError: the operating system could not read; nothing is recorded.
        CatalogError: the catalog could not be read or written.
    """
    run = run or VerifyRun()
    record = catalog.get(image_id)
    if record.is_composed:
        report = _verify_parts(catalog, record, run)
    else:
        report = _verify_files(catalog, image_id, run)
    run.done[image_id] = report
    return report


def _verify_files(catalog: Catalog, image_id: int, run: VerifyRun) -> VerifyReport:
    image = open_image(catalog, image_id, at_any_cost=True)
    try:
        looking = _Looking(catalog, image, run)
        looking.look()
        changed = image.stored.changed_file()
        if changed is not None:
            raise ImageChangedError(f"{changed}: was changed while it was verified")
    finally:
        image.close()
    found, count = looking.found, looking.count
    summed = _summed(image.spec, run.sums)
    if isinstance(summed, list):
        found, count = found + summed, count + len(summed)
    words = summed if isinstance(summed, str) else None
    result = _Result(tuple(found[:_MOST_RECORDED]), count, looking.seal, words)
    return _record(catalog, image_id, image.spec.index_id, result)


def _summed(spec: OpenSpec, sums: Mapping[str, SumResult]) -> list[BadRange] | str | None:
    """Return what is wrong by the checksums beside an image's files, or which of them are right."""
    results = [sums.get(os.path.abspath(volume.path)) for volume in spec.volumes]
    wrong = [
        BadRange(None, None, f"{each.file_name}: {each.name}: {each.detail}")
        for each in results
        if each is not None and each.outcome is not SumOutcome.OK
    ]
    if wrong:
        return wrong
    names = {each.file_name for each in results if each is not None}
    # Of an image in several files, all of them.
    return ", ".join(sorted(names)) if names and None not in results else None


class _Looking:
    """Looks at all of an image's files, from where the last one has ended.

    Attributes:
        found: the damage, the first of it.
        count: how much there is.
        seal: the hashes of all that is stored, None where there are none.
    """

    def __init__(self, catalog: Catalog, image: OpenImage, run: VerifyRun) -> None:
        self.found: list[BadRange] = []
        self.count = 0
        self.seal: Seal | None = None
        self._catalog = catalog
        self._image = image
        self._run = run
        self._begin = self._reached = 0
        self._sealing: SealingSource | None = None
        record = catalog.get(image.spec.image_id)
        # What may be written at any time is never the same for two halves.
        self._may_stop = run.until is not None and record.row.status != LIVE

    def look(self) -> None:
        """Look, and end in the middle if that is wanted.

        Raises:
            As `verify_image`.
        """
        begin = self._begin = self._go_on()
        known = set(self.found)
        stage = Stage(begin, self._note, is_right=not self.count)
        try:
            for finding in self._findings(stage):
                bad = BadRange(*finding)
                if begin and bad in known:
                    # It lies where both have looked.
                    continue
                self.count += 1
                if len(self.found) < _MOST_RECORDED:
                    self.found.append(bad)
        except _EndError:
            self._keep()
            name = self._image.spec.name
            raise VerifyStoppedError(name, self._reached) from None

    def _findings(self, stage: Stage) -> Iterator[Finding]:
        image = self._image
        if self._sealing is None:
            yield from _checked(image, image.stored.source, self._run, stage)
            return
        yield from _checked(image, self._sealing, self._run, stage)
        hashes = self._sealing.finish()
        if hashes is None:
            return
        if image.spec.is_sealed:
            yield from broken_pages(self._catalog, image, hashes)
        self.seal = Seal(self._sealing.size, hashes)

    def _go_on(self) -> int:
        """Take what the last one has kept, if it fits; return where to begin."""
        image, run = self._image, self._run
        if not image.spec.streams:
            self._sealing = SealingSource(image.stored.source, run.jobs or os.cpu_count() or 1)
        kept = stages.load(self._catalog, image.spec) if self._may_stop else None
        if kept is None:
            return 0
        if self._sealing is not None:
            if kept.done is None or kept.hashes is None:
                return 0
            if not self._sealing.go_on(kept.done, kept.hashes):
                return 0
        self.found, self.count = list(kept.found), kept.bad_count
        return kept.reached

    def _note(self, position: int) -> None:
        self._reached = position
        # However little time there is, it gets on.
        if (
            position > self._begin
            and self._may_stop
            and self._run.until is not None
            and self._run.until()
        ):
            raise _EndError

    def _keep(self) -> None:
        changed = self._image.stored.changed_file()
        if changed is not None:
            raise ImageChangedError(f"{changed}: was changed while it was verified")
        if not self._catalog.database.write:
            return
        done, hashes = (None, None) if self._sealing is None else self._sealing.so_far()
        stage = KeptStage(self._reached, self.count, tuple(self.found), done, hashes)
        stages.save(self._catalog, self._image.spec, stage)


class _EndError(Exception):
    """A verification is to end where it is."""


def _checked(
    image: OpenImage, source: ByteSource, run: VerifyRun, stage: Stage
) -> Iterator[Finding]:
    return formats_verify.verify(
        image.spec.format,
        source,
        image.spec.layout,
        image.index,
        progress=run.progress,
        jobs=run.jobs,
        stage=stage,
    )


def _verify_parts(catalog: Catalog, record: ImageRecord, run: VerifyRun) -> VerifyReport:
    found: list[BadRange] = []
    before = 0
    is_known = True
    for segment in record.segments:
        if segment.child_name is None:
            continue
        report, reason = None, "is not in the catalog"
        if segment.child_id is not None:
            tell = None if run.progress is None else _shifted(run.progress, before)
            part = dataclasses.replace(run, progress=tell)
            report, reason, is_settled = _verify_part(catalog, segment.child_id, part)
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
    result = _Result(tuple(kept), len(found))
    return _record(catalog, record.row.id, record.index_id, result)


def _verify_part(
    catalog: Catalog, image_id: int, run: VerifyRun
) -> tuple[VerifyReport | None, str, bool]:
    """Return the report of a part, or why there is none, and whether it would be so again."""
    if image_id in run.done:
        return run.done[image_id], "", True
    try:
        report = verify_image(catalog, image_id, run)
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
        if segment.stripes is not None:
            shift = segment.start - offset
            pieces = segment.stripes.among(offset, segment.stop - shift, bad.start, bad.stop)
            yield from (BadRange(a + shift, b + shift, detail) for a, b in pieces)
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
    return _record(catalog, record.row.id, record.index_id, _Result())


@dataclasses.dataclass(frozen=True, slots=True)
class _Result:
    """What a verification has found: see `VerifyReport`.

    Attributes:
        found: the damage.
        count: how much there is.
        seal: the hashes of all that is stored, None where there are none.
        summed: the files of checksums that are right.
    """

    found: tuple[BadRange, ...] = ()
    count: int = 0
    seal: Seal | None = None
    summed: str | None = None


def _record(catalog: Catalog, image_id: int, index_id: int | None, result: _Result) -> VerifyReport:
    # Imported when there is something to write: loading SQLAlchemy takes a while.
    from ..database import composing, reading, writing
    from ..database.transaction import driver_connection

    record = catalog.get(image_id)
    name = record.row.name
    count, seal = result.count, result.seal
    detail = _detail(record, count, result.summed)
    report = VerifyReport(image_id, name, result.found, count, detail)
    if not catalog.database.write:
        return report
    with catalog.database.writing() as connection:
        if reading.record_of_id(driver_connection(connection), image_id).index_id != index_id:
            raise ImageChangedError(f"{name}: was scanned anew while it was verified")
        # Of what has no file of its own, or may be written at any time, no hash is kept.
        may_be_sealed = record.row.path is not None and record.row.status != LIVE
        if seal is not None and report.ok and index_id is not None and may_be_sealed:
            writing.insert_seal(connection, index_id, seal.size, seal.hashes)
        writing.replace_bad_ranges(connection, image_id, report.bad_ranges)
        writing.delete_stage(connection, image_id)
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


def _detail(record: ImageRecord, count: int, summed: str | None = None) -> str:
    """Return a verdict in words; `summed` names the files of checksums that are right."""
    checksum = record.row.checksum
    what = "structure, there are no checksums" if checksum == "none" else f"every {checksum}"
    if summed is not None:
        what = f"{summed}, and structure" if checksum == "none" else f"{what}, and {summed}"
    if record.is_composed:
        what = "every part"
    if record.is_difference:
        what += f", without its parent {record.segments[0].child_name}"
    if count == 0:
        return f"right: {what}"
    return f"{count} bad {'place' if count == 1 else 'places'} found; checked: {what}"
