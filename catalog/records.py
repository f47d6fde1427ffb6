"""What the catalog hands out: frozen records, free of any database."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from ..formats.index.kind import IndexKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..formats.composed.segments import Stripes

READY = "ready"
STALE = "stale"
MISSING = "missing"
DAMAGED = "damaged"
FAILED = "failed"
NEEDS_REPACK = "needs-repack"
LIVE = "live"
"""A block device: written behind our back, so never ready, and nothing of it is kept."""

AWAY = frozenset({MISSING, STALE})
"""What an image is whose files are not there, or are others; they may come back as they were."""

READABLE = frozenset({READY, DAMAGED, LIVE})
"""What an image is of which at least something can be read."""

LARGEST_INDEX = (1 << 24) - 1
"""The last id of an index: inode numbers of a mount have 24 bits for what they stand for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """One file of an image, as it was when it was scanned.

    `mode`, `uid` and `gid` are its permission bits and owners; `mtime_ns` counts nanoseconds
    since 1970; `stream` numbers the streams of an image, of which most have one. `role` is
    ``image``, or ``data`` where the image keeps its data in a file beside it.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    mode: int
    uid: int
    gid: int
    stream: int = 0
    role: str = "image"


@dataclasses.dataclass(frozen=True, slots=True)
class BadRange:
    """Damage that verification found.

    Attributes:
        start: first guest byte that is in doubt; None where it is none, but the image's structure.
        stop: guest byte after the last, or None.
        detail: what is wrong.
    """

    start: int | None
    stop: int | None
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRow:
    """One image, as `imgcat ls` lists it. Times are UTC, ISO 8601; sizes are bytes.

    `sealed_at` tells since when there are hashes of all that is stored, None where there are none.
    `path` is None of an image that has no file of its own, being made of others, or a part of one;
    `parent` then names the image that it is a part of. `status_before` and `detail_before` tell
    what an image was that is missing or stale.
    """

    id: int
    name: str
    path: str | None
    format: str
    format_version: str
    creator: str | None
    fs_type: str
    size_bytes: int
    block_size: int
    used_bytes: int
    stored_bytes: int
    compression: str | None
    volume_count: int
    checksum: str
    content: str
    status: str
    status_detail: str | None
    added_at: str
    scanned_at: str
    verified_at: str | None
    verify_result: str | None
    verify_detail: str | None
    parent: str | None
    sealed_at: str | None
    status_before: str | None
    detail_before: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRecord:
    """All that the catalog knows of one image, but for its index.

    Attributes:
        row: the columns that `imgcat ls` lists.
        volumes: its files, in order.
        index_id: its index; changes when a scan finds another image.
        index_kind: ``rank``, ``ranges`` or ``full``.
        digest: over the hashes of all that is stored, None where there are none.
        bad_ranges: what the last verification found.
        streams: its compressed streams.
        segments: what it is made of, where that is other images; of a difference, its parent.
        looked_at: when it was looked for a partition table and file systems; None if never.
    """

    row: ImageRow
    total_blocks: int
    used_blocks: int
    scan_seconds: float
    warnings: tuple[str, ...]
    header: Mapping[str, Any]
    layout: Mapping[str, int]
    fingerprint: bytes
    volumes: tuple[Volume, ...]
    index_id: int
    index_kind: str
    digest: bytes | None
    bad_ranges: tuple[BadRange, ...]
    streams: tuple[StreamSpec, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    looked_at: str | None = None

    @property
    def is_composed(self) -> bool:
        """Whether it has no bytes of its own, but is made of other images."""
        return self.index_kind == IndexKind.SEGMENTS

    @property
    def is_difference(self) -> bool:
        """Whether what it does not store is another image's, its parent's."""
        return self.index_kind == IndexKind.MAP and any(not s.is_holder for s in self.segments)


class SegmentRow(NamedTuple):
    """Guest bytes ``[start, stop)`` of an image that is made of others.

    Attributes:
        start: the first guest byte.
        stop: the guest byte after the last.
        child_name: what the child is called, also when it is gone; None of literal bytes.
        child_id: the image that it is; None where it is none any more, or never was.
        child_offset: the guest byte of the child that `start` is; None of literal bytes, and where
            the child's files are meant, as of a snapshot.
        child_key: the content key that the child had; None where there is none.
        stripes: where its bytes are taken from several places of the child in turn; `child_offset`
            then counts the bytes that these give.
    """

    start: int
    stop: int
    child_name: str | None
    child_id: int | None
    child_offset: int | None
    child_key: int | None
    stripes: Stripes | None = None

    @property
    def is_holder(self) -> bool:
        """Whether it says whose files have the image's bytes, as of a snapshot."""
        return self.child_name is not None and self.child_offset is None


class FileSystemRow(NamedTuple):
    """The file system in an image; see `formats.superblocks`. `written_at` is UTC, ISO 8601."""

    type: str
    uuid: str | None
    label: str | None
    block_size: int | None
    size_bytes: int | None
    features: tuple[str, ...]
    journal: str
    is_dirty: bool
    written_at: str | None
    detail: Mapping[str, Any]


class WorkerFailureRow(NamedTuple):
    """A reader of a file system that died, hung or talked nonsense.

    Attributes:
        failed_at: when, UTC, ISO 8601.
        fs_type: the file system, as blkid has it.
        question: what it was asked.
        ending: what became of it, in words.
    """

    failed_at: str
    fs_type: str
    question: str
    ending: str


class TableRow(NamedTuple):
    """The partition table of a disk: ``gpt`` or ``mbr``, its id, and bytes in a sector."""

    scheme: str
    uuid: str | None
    sector_size: int

    @property
    def words(self) -> str:
        """What it is, in words."""
        known = self.uuid or "without an id"
        return f"{self.scheme}, {known}, sectors of {self.sector_size} bytes"


class PartitionRow(NamedTuple):
    """A partition: bytes ``[start, stop)`` of a disk.

    `image_id` and `image` are the image that it is, `fs_type` what that holds; None of one that
    only holds others, and of one whose image is not in the catalog.
    """

    number: int
    start: int
    stop: int
    type: str
    type_name: str | None
    uuid: str | None
    label: str | None
    is_bootable: bool
    is_container: bool
    image_id: int | None
    image: str | None
    fs_type: str | None


class LogicalVolumeRow(NamedTuple):
    """A logical volume of LVM2 that lies in an image: the image that it is, what that holds."""

    image_id: int
    image: str
    group: str
    name: str
    uuid: str
    size_bytes: int
    fs_type: str


class InsideRows(NamedTuple):
    """What is known to be inside of an image."""

    file_system: FileSystemRow | None
    table: TableRow | None
    partitions: tuple[PartitionRow, ...]
    logical_volumes: tuple[LogicalVolumeRow, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class MountEntry:
    """What a mount needs to show an image: its name and what `stat` tells.

    But for who may read it: that is looked up where its files are; see `opening.permissions`.

    Attributes:
        image_id: the image.
        name: its name.
        size_bytes: guest bytes.
        used_bytes: guest bytes that are stored.
        index_id: its index, another one whenever what it holds was scanned anew.
        content_key: a random number that no other content has, in this or any other catalog.
        is_live: it is a block device: nothing that was read may be kept.
        mtime_ns: when the newest of its files was changed.
        file_system: the type of the file system in it, as blkid has it; None where none was found.
        has_content: whether it has what files hold, not only how they are called.
    """

    image_id: int
    name: str
    size_bytes: int
    used_bytes: int
    index_id: int
    content_key: int
    is_live: bool
    mtime_ns: int
    file_system: str | None = None
    has_content: bool = True


class ImageFiles(NamedTuple):
    """The files that an image's bytes come from.

    Attributes:
        paths: those that hold it, and the images that it is made of.
        copied: those of which the catalog keeps the bytes: they need not be there any more.
    """

    paths: tuple[str, ...]
    copied: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class StreamSpec:
    """A compressed stream of an image.

    Attributes:
        id: its key; never used again.
        codec: the codec's name.
        library: what made its seek points.
        plain_bytes: bytes in the plain stream.
        trusted_bytes: those of them from the beginning that can be relied on: all, if it is whole.
        span_bytes: most plain bytes between two seek points.
        index_version: version of what its seek points mean.
    """

    id: int
    codec: str
    library: str
    plain_bytes: int
    trusted_bytes: int
    span_bytes: int
    index_version: int


@dataclasses.dataclass(frozen=True, slots=True)
class StreamCost:
    """What a compressed stream's seek points are and take in the catalog."""

    codec: str
    library: str
    plain_bytes: int
    stored_bytes: int
    span_bytes: int
    index_version: int
    point_count: int
    catalog_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class ImageCost:
    """What an image takes in the catalog.

    Attributes:
        index_rows: rows of the index.
        index_bytes: bytes of the index.
        streams: what each of its compressed streams takes.
    """

    index_rows: int
    index_bytes: int
    streams: tuple[StreamCost, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class OpenSpec:
    """What opening an image for reading needs."""

    image_id: int
    name: str
    format: str
    size_bytes: int
    layout: Mapping[str, int]
    fingerprint: bytes
    volumes: tuple[Volume, ...]
    index_id: int
    index_kind: str
    content_key: int
    total_blocks: int
    is_sealed: bool
    streams: tuple[StreamSpec, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
