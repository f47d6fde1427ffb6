"""ntfsclone: scan an image once, then open it from what the scan returned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from ..clusters import StoredClusters, StoredClustersReader
from ..errors import CorruptImageError, TruncatedImageError
from ..fingerprint import hash_samples
from ..index.ranges import RangeBuilder
from ..reader import ImageInfo, Scan
from . import layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..index.ranges import RangeIndexLike, RangeList
    from ..reader import ImageReader, JsonValue, Progress
    from ..source import ByteSource

NAME = "ntfsclone"

_BUFFER_SIZE = 1 << 20
_FEW = 8
"""Clusters that are looked at one by one before numpy looks at all that follow."""


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Read the image once from its beginning to its end, and find where each cluster lies.

    Args:
        source: the stored bytes.
        progress: told the bytes that are done.

    Raises:
        FormatError: the image cannot be read; one whose data is cut off can, and says so.
        OSError: the operating system could not read.
    """
    header = read_header(source)
    walk = _Walk(source, header, progress)
    walk.run()
    ranges = walk.builder.finish()
    size = header.device_size
    known = -(-size // header.cluster_size)
    damage = None
    if walk.cut_off_at is not None:
        known = min(known, walk.position)
        damage = (
            f"truncated at {source.size} bytes: clusters from {known} on are missing, "
            f"guest bytes [{known * header.cluster_size}, {size})"
        )
    clusters = StoredClusters(size, header.cluster_size, 1, known, source.size)
    return Scan(
        ImageInfo(
            format=NAME,
            format_version=header.version,
            creator=None,
            fs_type="NTFS",
            size=size,
            block_size=header.cluster_size,
            total_blocks=-(-size // header.cluster_size),
            used_blocks=ranges.cluster_count,
            checksum="none",
            header=_header_fields(header, walk),
            layout=clusters.to_json(),
            fingerprint=fingerprint(source),
            content="metadata" if walk.is_metadata else "full",
            missing=None if damage is None else (known * header.cluster_size, size),
            damage=damage,
            warnings=tuple(_warnings(source, header, walk, ranges)),
        ),
        chunks=None,
        ranges=ranges,
    )


def fingerprint(source: ByteSource) -> bytes:
    """Return the fingerprint that `scan` would give, from a few reads.

    Raises:
        FormatError: the image cannot be read any more.
        OSError: the operating system could not read.
    """
    header = read_header(source)
    hasher = xxhash.xxh3_128()
    hasher.update(source.read_at(0, header.data_offset))
    hash_samples(source, header.data_offset, hasher)
    return hasher.digest()


def open_reader(
    source: ByteSource, fields: Mapping[str, int], index: RangeIndexLike
) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the range index.
    """
    return StoredClustersReader(source, StoredClusters.from_json(fields), index)


def read_header(source: ByteSource) -> layout.Header:
    """Read and parse the header; see `layout.parse_header` for what it raises."""
    header = layout.parse_header(source.read_at(0, min(source.size, layout.HEADER_SIZE)))
    if header.data_offset > source.size:
        raise TruncatedImageError(
            "ntfsclone.header",
            46,
            f"data at {header.data_offset}, but the file ends at {source.size}",
        )
    return header


@dataclasses.dataclass
class _Walk:
    """One pass over the commands of an image.

    Attributes:
        offset: where the next command lies in the image.
        position: the cluster that it is for.
        negative_gaps: how many gaps lead back; only images of metadata have them, and rescued ones.
        is_metadata: the first command is a gap. The first cluster holds the boot sector, which
            belongs to a file system's first clusters in use; only saving metadata begins elsewhere,
            with the master file table.
        cut_off_at: where the image ends too early, None where it is whole.
    """

    source: ByteSource
    header: layout.Header
    progress: Progress | None
    negative_gaps: int = 0
    is_metadata: bool = False
    cut_off_at: int | None = None

    def __post_init__(self) -> None:
        self.builder = RangeBuilder(self.header.cluster_size + 1)
        self.offset = self.header.data_offset
        self.position = 0
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._octets = np.frombuffer(self._buffer, np.uint8)
        self._base = 0
        self._filled = 0

    def run(self) -> None:
        """Go over all commands.

        Raises:
            CorruptImageError: a command cannot be.
            TruncatedImageError: the image is cut off, and what is missing cannot be told.
        """
        while not self._is_at_end():
            at = self._load(1)
            if at is None:
                self._end_early()
                return
            command = self._buffer[at]
            if command == layout.DATA:
                if not self._take_clusters(at):
                    self._end_early()
                    return
            elif command == layout.GAP:
                if not self._take_gap():
                    self._end_early()
                    return
            else:
                raise CorruptImageError(
                    "ntfsclone.command",
                    self.offset,
                    f"0x{command:02x} is none, for cluster {self.position}",
                )

    def _is_at_end(self) -> bool:
        """Tell whether nothing more belongs to the image."""
        count = self.header.cluster_count
        return self.position > count or (
            self.position == count
            and not self.header.has_backup_boot
            and self.offset >= self.source.size
        )

    def _end_early(self) -> None:
        if self.negative_gaps or self.is_metadata:
            raise TruncatedImageError(
                "ntfsclone.command",
                self.offset,
                f"the file ends at cluster {self.position} of {self.header.cluster_count}, and its "
                "clusters are not in order: which ones are missing cannot be told",
            )
        self.cut_off_at = self.offset

    def _load(self, size: int) -> int | None:
        """Return where the next `size` bytes lie in the buffer, None if the image ends before."""
        at = self.offset - self._base
        if at + size <= self._filled:
            return at
        length = min(_BUFFER_SIZE, self.source.size - self.offset)
        if length < size:
            return None
        self.source.readv((self._view[:length],), self.offset)
        self._base, self._filled = self.offset, length
        if self.progress is not None:
            self.progress(self.offset)
        return 0

    def _take_gap(self) -> bool:
        at = self._load(layout.GAP_SIZE)
        if at is None:
            return False
        count = layout.parse_gap(self._view[at : at + layout.GAP_SIZE], self.offset)
        target = self.position + count
        if not 0 <= target <= self.header.cluster_count:
            raise CorruptImageError(
                "ntfsclone.gap",
                self.offset,
                f"of {count} clusters leads from cluster {self.position} to {target}, outside of "
                f"the {self.header.cluster_count} that there are",
            )
        if self.offset == self.header.data_offset:
            self.is_metadata = True
        if count < 0:
            self.negative_gaps += 1
        self.position = target
        self.offset += layout.GAP_SIZE
        return True

    def _take_clusters(self, at: int) -> bool:
        """Take the clusters that follow each other; False where not even one is whole."""
        header = self.header
        stride = header.cluster_size + 1
        # Of the last cluster, and of the backup boot sector beyond it, only a part may be stored.
        whole = min(
            header.device_size // header.cluster_size - self.position,
            header.cluster_count + 1 - self.position,
            (self.source.size - self.offset) // stride,
        )
        if whole <= 0:
            size = header.record_size(self.position)
            if self.source.size - self.offset - 1 < size:
                return False
            if size:
                self.builder.add(self.position, 1, self.offset + 1)
            count, length = 1, size + 1
        else:
            count = min(whole, self._count_commands(at, stride))
            self.builder.add(self.position, count, self.offset + 1)
            length = count * stride
        self.position += count
        self.offset += length
        return True

    def _count_commands(self, at: int, stride: int) -> int:
        """Return how many clusters follow each other from `at` on, as far as the buffer goes."""
        buffer, filled = self._buffer, self._filled
        stop = min(filled, at + _FEW * stride)
        count = 1
        at += stride
        while at < stop:
            if buffer[at] != layout.DATA:
                return count
            count += 1
            at += stride
        if at >= filled:
            return count
        others = self._octets[at:filled:stride] != layout.DATA
        first = int(others.argmax())
        return count + (first if others[first] else len(others))


def _warnings(
    source: ByteSource, header: layout.Header, walk: _Walk, ranges: RangeList
) -> list[str]:
    found = []
    if walk.is_metadata:
        found.append("holds the metadata of the file system only: the data of files read as zeros")
    elif walk.cut_off_at is None:
        stored = ranges.cluster_count
        if not header.used_clusters <= stored <= header.used_clusters + 1:
            found.append(f"the header counts {header.used_clusters} clusters, {stored} are stored")
    if walk.cut_off_at is None and walk.offset < source.size:
        found.append(f"{source.size - walk.offset} bytes follow the image's end")
    return found


def _header_fields(header: layout.Header, walk: _Walk) -> dict[str, JsonValue]:
    return {
        "image_format": header.version,
        "cluster_size": header.cluster_size,
        "device_size": header.device_size,
        "clusters": header.cluster_count,
        "clusters_in_use": header.used_clusters,
        "data_offset": header.data_offset,
        "backup_boot_sector": header.has_backup_boot,
        "negative_gaps": walk.negative_gaps,
    }
