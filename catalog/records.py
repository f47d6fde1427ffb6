"""What the catalog hands out: frozen records, free of any database."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

READY = "ready"
STALE = "stale"
MISSING = "missing"
DAMAGED = "damaged"
FAILED = "failed"
NEEDS_REPACK = "needs-repack"


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """One file of an image, as it was when it was scanned.

    `mode`, `uid` and `gid` are its permission bits and owners; `mtime_ns` counts nanoseconds
    since 1970.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    mode: int
    uid: int
    gid: int


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
    """One image, as `imgcat ls` lists it. Times are UTC, ISO 8601; sizes are bytes."""

    id: int
    name: str
    path: str
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


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRecord:
    """All that the catalog knows of one image, but for its index.

    Attributes:
        row: the columns that `imgcat ls` lists.
        volumes: its files, in order.
        index_id: its index; changes when a scan finds another image.
        index_kind: ``rank``, ``ranges`` or ``full``.
        index_rows: rows of the index.
        index_bytes: bytes of the index in the catalog.
        bad_ranges: what the last verification found.
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
    index_rows: int
    index_bytes: int
    bad_ranges: tuple[BadRange, ...]
    streams: tuple[StreamCost, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class MountEntry:
    """What a mount needs to show an image: its name and what `stat` tells.

    `index_id` and `mtime_ns` together say whether the bytes behind the name are still the same.
    """

    image_id: int
    name: str
    size_bytes: int
    used_bytes: int
    index_id: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int


@dataclasses.dataclass(frozen=True, slots=True)
class StreamSpec:
    """A compressed stream of an image.

    Attributes:
        id: its key; never used again.
        codec: the codec's name.
        library: what made its seek points.
        volume_count: how many of the image's files make it, after those of the one before.
        plain_bytes: bytes in the plain stream.
        span_bytes: most plain bytes between two seek points.
        index_version: version of what its seek points mean.
    """

    id: int
    codec: str
    library: str
    volume_count: int
    plain_bytes: int
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
class OpenSpec:
    """What opening an image for reading needs."""

    image_id: int
    name: str
    path: str
    format: str
    layout: Mapping[str, int]
    fingerprint: bytes
    volumes: tuple[Volume, ...]
    index_id: int
    index_kind: str
    total_blocks: int
    streams: tuple[StreamSpec, ...] = ()
