"""A volume group, as its metadata tell: physical volumes, and where logical ones lie. Pure.

Source: LVM2, lib/format_text/import_vsn1.c, lib/metadata/lv_manip.c and merge.c.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from ..superblocks.lvm import SECTOR
from .config_text import parse_text
from .fields import LARGEST, Fields
from .metadata_area import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_VOLUMES = 4096
"""Logical volumes of a group that are read."""

_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,126}")
_UUID = re.compile(r"[0-9A-Za-z]{6}(-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}")
_STRIPED = frozenset({"striped", "linear"})
_SNAPSHOT = "snapshot"
_LARGEST_SECTOR = LARGEST // SECTOR
_LARGEST_COUNT = (1 << 32) - 1


class PhysicalSpan(NamedTuple):
    """What a group uses of a physical volume. Units are bytes of that.

    Attributes:
        uuid: which one it is.
        start: where its first extent begins.
        stop: where its last one ends.
        is_missing: it was away when the group was written: what is on it may be old.
    """

    uuid: str
    start: int
    stop: int
    is_missing: bool


class Run(NamedTuple):
    """Bytes ``[start, stop)`` of a logical volume, from physical ones.

    Attributes:
        start: the first byte.
        stop: the byte after the last.
        stripe_size: bytes that are taken from each place in turn; all of a run with one place.
        places: UUID and byte of the physical volumes at which the run's bytes begin.
    """

    start: int
    stop: int
    stripe_size: int
    places: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume that users see.

    Attributes:
        name: its name.
        uuid: as LVM writes it.
        size: its bytes.
        runs: where they lie, ascending and without a gap; none of one that is refused.
        refusal: why it is not read, None of one that is.
    """

    name: str
    uuid: str
    size: int
    runs: tuple[Run, ...]
    refusal: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeGroup:
    """A volume group.

    Attributes:
        name: its name.
        uuid: as LVM writes it.
        seqno: how often its metadata were written.
        spans: its physical volumes, by UUID.
        volumes: its logical volumes, but for those that are hidden parts of others.
    """

    name: str
    uuid: str
    seqno: int
    spans: Mapping[str, PhysicalSpan]
    volumes: tuple[LogicalVolume, ...]


def read_group(text: str, offset: int) -> VolumeGroup:
    """Return the volume group that a metadata text describes.

    Args:
        text: the text.
        offset: where its area lies in the physical volume, for errors.

    Raises:
        CorruptImageError: it contradicts itself, or is no such text.
    """
    whole = Fields("metadata", parse_text(text, TEXT, offset), offset)
    groups = list(whole.sections())
    if len(groups) != 1:
        raise whole.error(f"it has {len(groups)} groups, not one")
    name, fields = groups[0]
    if fields.text("format", "lvm2") != "lvm2":
        raise fields.error(f"its format is {fields.text('format')!r}, not 'lvm2'")
    extent_size = SECTOR * fields.number("extent_size", 1, _LARGEST_COUNT)
    names = {
        each: _span(section, extent_size)
        for each, section in fields.section("physical_volumes").sections()
    }
    spans = {span.uuid: span for span in names.values()}
    if len(spans) < len(names):
        raise fields.error("two physical volumes have the same UUID")
    return VolumeGroup(
        _checked_name(fields, name),
        _uuid(fields),
        fields.number("seqno", 1, _LARGEST_COUNT),
        spans,
        tuple(_Volumes(fields.section("logical_volumes"), names, extent_size).visible()),
    )


def _span(fields: Fields, extent_size: int) -> PhysicalSpan:
    start = SECTOR * fields.number("pe_start", 1, _LARGEST_SECTOR)
    count = fields.number("pe_count", 0, _LARGEST_COUNT)
    stop = start + count * extent_size
    if stop > LARGEST:
        raise fields.error(f"its extents end at byte {stop}")
    return PhysicalSpan(_uuid(fields), start, stop, "MISSING" in fields.items("status"))


class _Volumes:
    """The logical volumes of a group, of which the hidden ones count for what is whose part."""

    def __init__(self, fields: Fields, spans: Mapping[str, PhysicalSpan], extent_size: int) -> None:
        self._fields = dict(fields.sections())
        self._section = fields
        self._spans = spans
        self._extent_size = extent_size
        self._refusals: dict[str, str] = {}
        self._others: list[tuple[str, str, Fields]] = []
        # They are not marked as visible, but users see them.
        self._snapshots: set[str] = set()

    def visible(self) -> Iterator[LogicalVolume]:
        """Yield those that users see.

        Raises:
            CorruptImageError: they contradict themselves, or lie over each other.
        """
        runs = {name: self._runs(name, fields) for name, fields in self._fields.items()}
        self._check_apart(runs)
        for name, kind, segment in self._others:
            self._note_parts(name, kind, segment)
        shown = [
            name
            for name, each in self._fields.items()
            if "VISIBLE" in each.items("status") or name in self._snapshots
        ]
        if len(shown) > MOST_VOLUMES:
            raise self._section.error(f"{len(shown)} are more than {MOST_VOLUMES}")
        for name in shown:
            fields = self._fields[name]
            refusal = self._refusals.get(name)
            found = tuple(runs[name]) if refusal is None else ()
            size = runs[name][-1].stop
            yield LogicalVolume(_checked_name(fields, name), _uuid(fields), size, found, refusal)

    def _runs(self, name: str, fields: Fields) -> list[Run]:
        """Return the runs of a volume, one at least.

        That of a segment which is not read has no places, and the volume is then refused.
        """
        segments = [each for _name, each in fields.sections()]
        if not segments or len(segments) != fields.number("segment_count", 0, _LARGEST_COUNT):
            raise fields.error(f"it has {len(segments)} segments, which is not segment_count")
        segments.sort(key=lambda each: each.number("start_extent", 0, _LARGEST_COUNT))
        found: list[Run] = []
        end = 0
        for segment in segments:
            start = segment.number("start_extent") * self._extent_size
            if start != end:
                raise segment.error(f"it begins at byte {start}, and {end} would be next")
            count = segment.number("extent_count", 1, _LARGEST_COUNT)
            end = start + count * self._extent_size
            if end > LARGEST:
                raise segment.error(f"it ends at byte {end}")
            kind = segment.text("type", "striped")
            if kind in _STRIPED:
                found.append(self._striped(name, segment, start, count))
            else:
                self._refuse(name, f"is of type {kind}")
                self._others.append((name, kind, segment))
                found.append(Run(start, end, 0, ()))
        return found

    def _striped(self, name: str, segment: Fields, start: int, count: int) -> Run:
        width = segment.number("stripe_count", 1, _LARGEST_COUNT, default=1)
        items = segment.items("stripes")
        if len(items) != 2 * width or count % width:
            raise segment.error(
                f"{count} extents, {width} stripes and a list of {len(items)} do not agree"
            )
        each = count // width * self._extent_size
        stripe_size = each
        if width > 1:
            stripe_size = SECTOR * segment.number("stripe_size", 1, _LARGEST_COUNT)
            if each % stripe_size:
                raise segment.error(f"its columns are no multiple of {stripe_size} bytes")
        places = []
        for where, first in zip(items[::2], items[1::2], strict=True):
            if not isinstance(where, str) or not isinstance(first, int) or first < 0:
                raise segment.error(f"a stripe is at {first!r:.40} of {where!r:.80}")
            span = self._spans.get(where)
            if span is None:
                if where not in self._fields:
                    raise segment.error(f"it lies on {where!r:.80}, which is not in the group")
                self._refuse(name, f"lies on the volume {where}")
                return Run(start, start + each * width, 0, ())
            place = span.start + first * self._extent_size
            if place + each > span.stop:
                raise segment.error(f"it ends behind the last extent of {where}")
            places.append((span.uuid, place))
        return Run(start, start + each * width, stripe_size, tuple(places))

    def _refuse(self, name: str, why: str) -> None:
        self._refusals.setdefault(name, why)

    def _note_parts(self, name: str, kind: str, segment: Fields) -> None:
        """Refuse what a segment uses as its part: its bytes are none of a volume by themselves.

        A snapshot keeps what its origin was, which itself is as it is, if nothing is merged into
        it; so is what a thin volume goes back to outside of its pool.
        """
        for key, value in segment.strings():
            if value not in self._fields or key in {"type", "tags", "external_origin"}:
                continue
            if kind != _SNAPSHOT:
                self._refuse(value, f"is a part of {name}, of type {kind}")
            elif key == "merging_store":
                self._snapshots.add(value)
                self._refuse(value, "is a snapshot that is being merged")
                self._refuse(segment.text("origin"), "is being merged with a snapshot")
            elif key == "cow_store":
                self._snapshots.add(value)
                self._refuse(value, f"is a snapshot of {segment.text('origin')}")

    def _check_apart(self, runs: Mapping[str, Sequence[Run]]) -> None:
        """Check that no two runs share a byte of a physical volume.

        Raises:
            CorruptImageError: two do.
        """
        taken = sorted(
            (uuid, place, place + (run.stop - run.start) // len(run.places), name)
            for name, each in runs.items()
            for run in each
            for uuid, place in run.places
        )
        for (uuid, _start, stop, name), (uuid2, start2, _stop2, name2) in itertools.pairwise(taken):
            if uuid == uuid2 and start2 < stop:
                raise self._section.error(f"{name} and {name2} lie over each other on {uuid}")


def _checked_name(fields: Fields, name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise fields.error(f"{name!r:.150} cannot be a name")
    return name


def _uuid(fields: Fields) -> str:
    uuid = fields.text("id")
    if _UUID.fullmatch(uuid) is None:
        raise fields.error(f"{uuid!r:.80} cannot be a UUID")
    return uuid
