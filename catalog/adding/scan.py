"""Scanning the files of an image for the catalog: touches no catalog."""

from __future__ import annotations

import dataclasses
import os
import stat
import time
from typing import TYPE_CHECKING

from ...formats.codecs.seek_points import SPAN_BUDGET
from ...formats.errors import CorruptImageError
from ...formats.files import detect
from ...formats.passes.chain import Chain
from ...formats.passes.look_inside import Inside, look_inside
from ...formats.passes.scan import scan_files
from ..errors import ImageChangedError
from ..names import USUAL_NAMES, NameSource
from ..opening.freshness import Freshness, compare, volume_from_stat
from ..records import DAMAGED, LIVE, NEEDS_REPACK, READY, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...formats.codecs.seek_points import StreamIndex
    from ...formats.files.image_files import StoredFiles
    from ...formats.files.parents import FoundParent
    from ...formats.progress import Progress
    from ...formats.reader import ImageReader, JsonValue, Scan


@dataclasses.dataclass(frozen=True, slots=True)
class How:
    """How a file is scanned.

    Attributes:
        spacing: plain bytes between two seek points of a compressed one.
        is_raw: take it for the partition's bytes as they are.
        or_raw: take it for them where it begins like no image that is known.
        verify: look at the checksums too, where that needs no pass of its own.
        strict: refuse what would only be warned about.
        by_geometry: take the size of a VHD from cylinders, heads and sectors.
        allowed: directories into which the names of backing and data files may lead, beside the
            image's own.
        by_id: tells where a VHD with a UUID lies; None if that is not known.
        names: what a new image is called.
    """

    spacing: int | None = None
    is_raw: bool = False
    or_raw: bool = False
    verify: bool = False
    strict: bool = False
    by_geometry: bool = False
    allowed: tuple[str, ...] = ()
    by_id: Callable[[str], str | None] = lambda _id: None
    names: NameSource = USUAL_NAMES


USUAL = How()

DISKS = frozenset({"raw", "qcow2", "vhd"})
"""Formats that may hold a whole disk."""

_NOTHING = Inside()

_NEAR = 128 << 10
"""Of what can only be decoded from its beginning on, no more than this is looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file and what its scan found, not yet in the catalog.

    Attributes:
        path: the file; of several, the first.
        volumes: all files.
        scan: what was found.
        seconds: how long that took.
        streams: of a compressed one, its seek points.
        parent: what it is a difference to.
        parent_id: the id that this has in the catalog, once it is there.
        inside: its partition table and file systems.
        is_live: it is a block device, and others may write to it.
    """

    path: str
    volumes: tuple[Volume, ...]
    scan: Scan
    seconds: float
    streams: tuple[StreamIndex, ...] = ()
    parent: FoundParent | None = None
    parent_id: int | None = None
    inside: Inside = _NOTHING
    is_live: bool = False

    @property
    def status(self) -> str:
        """What the image's status is after this scan."""
        if self.scan.info.damage:
            return DAMAGED
        if self.is_live:
            return LIVE
        return NEEDS_REPACK if self.largest_span > SPAN_BUDGET else READY

    @property
    def status_detail(self) -> str | None:
        """Why the status is what it is, and what to do."""
        if self.scan.info.damage is None and self.largest_span > SPAN_BUDGET:
            return (
                f"a read may have to decode {self.largest_span >> 20} MiB of {self.compression} "
                f"before it gets to its bytes: `imgcat repack` makes it fast to read"
            )
        return self.scan.info.damage

    @property
    def fs_type(self) -> str:
        """What it holds: as the image says, and of a raw or virtual disk as was found."""
        said = self.scan.info.fs_type
        if not self.may_be_disk:
            return said
        found = self.inside.file_system
        return found.type if found else "disk" if self.inside.table else said

    @property
    def warnings(self) -> list[str]:
        """What is odd about the image itself."""
        return [*self.scan.info.warnings, *self.inside.warnings]

    @property
    def may_be_disk(self) -> bool:
        """Whether it is of a format that may hold a whole disk."""
        return self.scan.info.format in DISKS

    @property
    def largest_span(self) -> int:
        """Most plain bytes that a read may have to decode."""
        return max((stream.largest_span for stream in self.streams), default=0)

    @property
    def compression(self) -> str | None:
        """The codec, None where the files are plain."""
        return self.streams[0].codec if self.streams else None


def scan_file(path: str, progress: Progress | None = None, how: How = USUAL) -> ScannedFile:
    """Scan the image in a file, and in its other volumes. Touches no catalog; for any thread.

    Args:
        path: the image's file; of several volumes, any.
        progress: told the stored bytes that are done.
        how: how it is scanned.

    Raises:
        FormatError: the file is no image, or one that cannot be read.
        ImageChangedError: it was changed while it was scanned.
        OSError: the operating system could not read it.
    """
    began = time.monotonic()
    chain = Chain(how.allowed, how.by_id)
    with detect.open_files(os.path.abspath(path), is_raw=how.is_raw, allowed=how.allowed) as stored:
        volumes = _volumes(stored)
        scan = scan_files(
            stored, progress, spacing=how.spacing, is_raw=how.is_raw, or_raw=how.or_raw,
            verify=how.verify, by_geometry=how.by_geometry,
        )  # fmt: skip
        streams = stored.indexes
        # Found once: what is looked into is what is written.
        parent = chain.parent_of(volumes[0].path, scan)
        reader = chain.open_reader(volumes[0].path, stored, scan, parent)
        inside = _look_inside(reader, scan, streams)
        for file, volume in zip(stored.files, volumes, strict=True):
            size = file.size if file.size != file.stat.st_size else None
            if compare(volume, os.stat(file.path), size) is not Freshness.FRESH:
                raise ImageChangedError(
                    f"{file.path}: was changed while it was scanned: try again later"
                )
    scanned = ScannedFile(
        volumes[0].path,
        volumes,
        scan,
        time.monotonic() - began,
        streams,
        parent,
        inside=inside,
        is_live=any(stat.S_ISBLK(file.stat.st_mode) for file in stored.files),
    )
    odd = [*scan.info.warnings, *inside.all_warnings()]
    if how.strict and odd:
        raise CorruptImageError("image", 0, "; ".join(odd))
    return scanned


def _look_inside(reader: ImageReader, scan: Scan, streams: Sequence[StreamIndex]) -> Inside:
    """Return what is inside of an image that was just scanned; closes the reader."""
    spans = (index.largest_span for index in streams)
    limit = _NEAR if max(spans, default=0) > SPAN_BUDGET else None
    try:
        return look_inside(reader, is_disk=scan.info.format in DISKS, limit=limit)
    finally:
        # It closes the files too, which are not read any more.
        reader.close()


def _volumes(stored: StoredFiles) -> tuple[Volume, ...]:
    """Return what is to be remembered of the files of an image, as they are now."""
    numbers = (number for number, count in enumerate(stored.stream_volumes) for _ in range(count))
    return tuple(
        volume_from_stat(
            file.path, file.stat, file.size, number,
            "data" if number in stored.data_streams else "image",
        )
        for file, number in zip(stored.files, numbers, strict=True)
    )  # fmt: skip


def moved(scanned: ScannedFile, path: str) -> ScannedFile:
    """Return a scan as one of the same file under its other name.

    Raises:
        OSError: it is not there.
    """
    path = os.path.abspath(path)
    volume = volume_from_stat(path, os.stat(path))
    return dataclasses.replace(scanned, path=path, volumes=(volume,))


def with_header(scanned: ScannedFile, header: Mapping[str, JsonValue]) -> ScannedFile:
    """Return a scan that tells the header of the image before, of which it is another form."""
    info = dataclasses.replace(scanned.scan.info, header=dict(header))
    return dataclasses.replace(scanned, scan=dataclasses.replace(scanned.scan, info=info))
