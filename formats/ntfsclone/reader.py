"""ntfsclone: scan an image once, then open it from what the scan returned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from ..errors import CorruptImageError, TruncatedImageError
from ..index.ranges import RangeBuilder
from ..reader import ImageInfo, Scan
from ..sources.fingerprint import hash_samples
from ..sources.prefetch import Piece, Pieces, PieceStream
from ..stored.clusters import StoredClusters, StoredClustersReader
from . import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..index.ranges import RangeList
    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..reader import ImageReader, JsonValue
    from ..sources.byte_source import ByteSource

    OpenPieces = Callable[[ByteSource, int], PieceStream]

NAME = "ntfsclone"

_HASHED_HEADER = 4096
"""Bytes before the data that are looked at: a header that is no header may say 4 GiB."""

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
    return walk_through(source, Pieces, progress)


def walk_through(
    source: ByteSource,
    open_pieces: OpenPieces,
    progress: Progress | None = None,
    look: Callable[[Piece], None] | None = None,
) -> Scan:
    """Do as `scan`, and show every piece of the image to `look`, in order, the rest included.

    Args:
        source: the stored bytes. Their size need only be right when the last piece was taken, if
            somebody looks.
        open_pieces: gives the pieces of a source from an offset on.
        progress: told the bytes that are done.
        look: is shown every piece.
    """
    header = read_header(source)
    with open_pieces(source, header.data_offset) as pieces:
        walk = _Walk(source, header, pieces, progress, look)
        walk.run()
        if look is not None:
            walk.look_at_the_rest()
    if walk.offset > source.size:
        raise TruncatedImageError(
            "ntfsclone.data", source.size, "the stream ends inside of a cluster"
        )
    ranges = walk.builder.finish()
    return Scan(_info(source, header, walk, ranges), chunks=None, ranges=ranges)


def _info(source: ByteSource, header: layout.Header, walk: _Walk, ranges: RangeList) -> ImageInfo:
    """Return what is known of an image of which everything was seen."""
    size = header.device_size
    known = -(-size // header.cluster_size)
    missing = damage = None
    if walk.cut_off_at is not None and walk.position * header.cluster_size < size:
        known = walk.position
        missing = known * header.cluster_size, size
        damage = (
            f"truncated at {source.size} bytes: clusters from {known} on are missing, "
            f"guest bytes [{missing[0]}, {size})"
        )
    return ImageInfo(
        format=NAME,
        format_version=header.version,
        creator=None,
        fs_type="NTFS",
        size=size,
        block_size=header.cluster_size,
        total_blocks=-(-size // header.cluster_size),
        used_blocks=ranges.cluster_count,
        used_bytes=_used_bytes(header, ranges),
        checksum="none",
        header=_header_fields(header, walk),
        layout=StoredClusters(size, header.cluster_size, 1, known, source.size).to_json(),
        fingerprint=fingerprint(source),
        content="metadata" if walk.is_metadata else "full",
        missing=missing,
        damage=damage,
        warnings=tuple(_warnings(source, header, walk, ranges)),
    )


def fingerprint(source: ByteSource) -> bytes:
    """Return the fingerprint that `scan` would give, from a few reads.

    Raises:
        FormatError: the image cannot be read any more.
        OSError: the operating system could not read.
    """
    header = read_header(source)
    hasher = xxhash.xxh3_128()
    hasher.update(source.read_at(0, min(header.data_offset, _HASHED_HEADER)))
    hash_samples(source, header.data_offset, hasher)
    return hasher.digest()


def open_reader(source: ByteSource, fields: Mapping[str, int], index: StoredIndex) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the index of the scan.
    """
    return StoredClustersReader(source, StoredClusters.from_json(fields), index.range_index())


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
        negative_gaps: how many gaps lead back.
        begins_with_gap: the first command is a gap.
        rewound_to: the cluster that the last gap back leads to.
        since_rewound: clusters that are stored since then.
        cut_off_at: where the image ends too early, None where it is whole.
    """

    source: ByteSource
    header: layout.Header
    pieces: PieceStream
    progress: Progress | None
    look: Callable[[Piece], None] | None
    negative_gaps: int = 0
    begins_with_gap: bool = False
    rewound_to: int = 0
    since_rewound: int = 0
    cut_off_at: int | None = None

    def __post_init__(self) -> None:
        self.builder = RangeBuilder(self.header.cluster_size + 1)
        self.offset = self.header.data_offset
        self.position = 0
        self._piece = Piece(self.offset, 0, 0, bytearray())
        self._octets = np.frombuffer(self._piece.buffer, np.uint8)

    @property
    def is_metadata(self) -> bool:
        """Whether only metadata was saved. To be asked at the end.

        The first cluster holds the boot sector, and a full image begins with it; saving metadata
        begins with the master file table. With `--ignore-fs-check`, a full image has suspect
        clusters before all others, and then begins anew.
        """
        began_anew = self.rewound_to == 0 and self.since_rewound >= self.header.used_clusters
        return self.begins_with_gap and not (self.negative_gaps and began_anew)

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
            command = self._piece.buffer[at]
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
        if self.position != count or self.header.has_backup_boot:
            return self.position > count
        # An old image ends here; but one may go on, and what does is taken.
        at = self._load(1)
        if at is not None and self._piece.buffer[at] == layout.DATA:
            return self.source.size - self.offset - 1 < self.header.record_size(count)
        at = self._load(layout.GAP_SIZE)
        if at is None or self._piece.buffer[at] != layout.GAP:
            return True
        count_field = self._piece.buffer[at + 1 : at + layout.GAP_SIZE]
        gap = int.from_bytes(count_field, "little", signed=True)
        return not -count <= gap < 0

    def _end_early(self) -> None:
        if self.negative_gaps or self.begins_with_gap:
            raise TruncatedImageError(
                "ntfsclone.command",
                self.offset,
                f"the file ends at cluster {self.position} of {self.header.cluster_count}, and its "
                "clusters are not in order: which ones are missing cannot be told",
            )
        self.cut_off_at = self.offset

    def _load(self, size: int) -> int | None:
        """Return where the next `size` bytes lie in the piece, None if the image ends before."""
        while self.offset >= self._piece.offset + self._piece.length:
            piece = self.pieces.take()
            if piece is None:
                return None
            self._piece = piece
            self._octets = np.frombuffer(piece.buffer, np.uint8)
            if self.look is not None:
                self.look(piece)
            if self.progress is not None:
                self.progress(piece.offset)
        at = self.offset - self._piece.offset
        return at if at + size <= self._piece.filled else None

    def look_at_the_rest(self) -> None:
        """Show to `look` what follows the last command."""
        while (piece := self.pieces.take()) is not None:
            if self.look is not None:
                self.look(piece)

    def _take_gap(self) -> bool:
        at = self._load(layout.GAP_SIZE)
        if at is None:
            return False
        count = layout.parse_gap(bytes(self._piece.buffer[at : at + layout.GAP_SIZE]), self.offset)
        target = self.position + count
        if not 0 <= target <= self.header.cluster_count:
            raise CorruptImageError(
                "ntfsclone.gap",
                self.offset,
                f"of {count} clusters leads from cluster {self.position} to {target}, outside of "
                f"the {self.header.cluster_count} that there are",
            )
        if self.offset == self.header.data_offset:
            self.begins_with_gap = True
        if count < 0:
            self.negative_gaps += 1
            self.rewound_to, self.since_rewound = target, 0
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
        self.since_rewound += count
        self.offset += length
        return True

    def _count_commands(self, at: int, stride: int) -> int:
        """Return how many clusters follow each other from `at` on, as far as the piece goes."""
        buffer, filled = self._piece.buffer, self._piece.length
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


def _used_bytes(header: layout.Header, ranges: RangeList) -> int:
    """Return the guest bytes that are stored: of the last cluster, as far as the device goes."""
    used = ranges.cluster_count * header.cluster_size
    last, within = divmod(header.device_size, header.cluster_size)
    is_cut_off = within and any(ranges.overlapping(last, last + 1))
    return used - header.cluster_size + within if is_cut_off else used


def _warnings(
    source: ByteSource, header: layout.Header, walk: _Walk, ranges: RangeList
) -> list[str]:
    found = []
    if walk.is_metadata:
        found.append("holds the metadata of the file system only: the data of files read as zeros")
    elif walk.cut_off_at is None and not walk.negative_gaps:
        stored = ranges.cluster_count
        if not header.used_clusters <= stored <= header.used_clusters + 1:
            found.append(f"the header counts {header.used_clusters} clusters, {stored} are stored")
    if walk.cut_off_at is not None and walk.position == header.cluster_count:
        found.append("ends before the backup boot sector")
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
