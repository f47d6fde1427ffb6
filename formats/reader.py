"""What every format gives: `ImageInfo` from its scan, and an `ImageReader` to read with.

A format is a room with two doors. ``scan(source)`` reads what it must, once. ``open_reader(source,
layout, index)`` builds a reader from what the scan returned, and does not touch the image until
data is read.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from .index.kind import IndexKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .extent import Extent
    from .index.map_chunk import MapChunk
    from .index.ranges import RangeList
    from .index.rank_chunk import RankChunk
    from .index.stored import StoredIndex

JsonValue = str | int | bool | None
"""What a header field becomes in the catalog. Integers may exceed 64 bits nowhere."""


class ParentName(NamedTuple):
    """What an image says of the one that it is a difference to.

    Attributes:
        names: how it is called there, the best first; file names or paths as they are stored.
        format: the format that it has, as the image calls it; None where it does not say.
        id: the UUID that it must have; None where any will do.
    """

    names: tuple[str, ...]
    format: str | None = None
    id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image says of itself, and what its scan found.

    Attributes:
        format: the format's name, e.g. ``partclone``.
        format_version: the version of the format, e.g. ``0002``.
        creator: the program version that wrote the image, or None where the image does not say.
        fs_type: the file system as the image names it, e.g. ``EXTFS``.
        size: guest bytes; exactly what a restore writes to a device.
        block_size: bytes in a block.
        total_blocks: blocks that the bitmap describes; their bytes may be fewer than `size`.
        used_blocks: blocks that are stored, counted.
        used_bytes: guest bytes in them; the last one may be cut off.
        checksum: name of the data checksum, lower case, ``none`` where there is none.
        header: every field of the header, in the header's order.
        layout: what `open_reader` needs, beside the source and the index.
        fingerprint: 16 bytes that differ when header, bitmap or sampled data differ.
        content: ``full``, or ``metadata`` where the data of files were left out on purpose.
        missing: guest bytes ``[start, stop)`` from the first to the last block whose stored bytes
            are cut off; None where every block is there.
        damage: what is wrong with the stored bytes, None where nothing is known to be.
        warnings: what is odd, but harms no read.
        parent: what it is a difference to; None where it is whole by itself.
    """

    format: str
    format_version: str
    creator: str | None
    fs_type: str
    size: int
    block_size: int
    total_blocks: int
    used_blocks: int
    used_bytes: int
    checksum: str
    header: Mapping[str, JsonValue]
    layout: Mapping[str, int]
    fingerprint: bytes
    content: str = "full"
    missing: tuple[int, int] | None = None
    damage: str | None = None
    warnings: tuple[str, ...] = ()
    parent: ParentName | None = None

    def to_dict(self) -> dict[str, JsonValue]:
        """Return all of it as JSON has it: ``json.dumps`` takes it. `fingerprint` is in hex."""
        parent = None
        if self.parent is not None:
            parent = {**self.parent._asdict(), "names": list(self.parent.names)}
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {
            "header": dict(self.header),
            "layout": dict(self.layout),
            "fingerprint": self.fingerprint.hex(),
            "missing": None if self.missing is None else list(self.missing),
            "warnings": list(self.warnings),
            "parent": parent,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    """The result of a scan: what the image is, and its index.

    Attributes:
        info: what the image is.
        chunks: the rank index of a format with a bitmap, else None.
        ranges: the range index of a format without one, else None.
        map_chunks: the map of a format that keeps clusters in any order, else None.
        is_right: every checksum was looked at in passing, and nothing is wrong.
        snapshots: earlier states that the same files hold, by name.

    Where all are None every block is stored, and no index is needed.
    """

    info: ImageInfo
    chunks: tuple[RankChunk, ...] | None
    ranges: RangeList | None = None
    is_right: bool = False
    map_chunks: tuple[MapChunk, ...] | None = None
    snapshots: tuple[tuple[str, Scan], ...] = ()

    @property
    def index_kind(self) -> IndexKind:
        """Which kind of index it is."""
        if self.map_chunks is not None:
            return IndexKind.MAP
        if self.ranges is not None:
            return IndexKind.RANGES
        return IndexKind.FULL if self.chunks is None else IndexKind.RANK

    def stored_index(self) -> StoredIndex:
        """Return the index as a reader takes it, kept in memory."""
        # Imported where needed: who only lists images does without numpy.
        from .index.stored import StoredIndex

        return StoredIndex.in_memory(
            self.index_kind, self.info.total_blocks, self.chunks, self.ranges,
            self.map_chunks or (),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class ImageStream:
    """An image that is being read. Iterate over it once.

    Attributes:
        format: the format's name.
        format_version: its version.
        fs_type: the file system.
        size: guest bytes.
        block_size: bytes in a block or cluster.
        header: the parsed header, as the format's `layout` has it; of partimage, its headers.
        blocks: what iterating over it gives.
    """

    format: str
    format_version: str
    fs_type: str
    size: int
    block_size: int
    header: Any
    blocks: Iterator[tuple[int, bytes]]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield (guest offset, bytes) of what is stored, up to 1 MiB at once.

        Raises:
            FormatError: the stream ends too early, or a structure cannot be.
            OSError: it cannot be read.
        """
        return self.blocks


class ImageReader(Protocol):
    """Random access to the guest bytes of one image, from any number of threads at once."""

    @property
    def size(self) -> int:
        """Number of guest bytes."""

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield adjacent, non-empty extents that cover guest bytes ``[start, stop)`` exactly.

        Raises:
            ValueError: not ``0 <= start <= stop <= size``.
        """

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the guest bytes from `offset` on. It may block.

        Raises:
            ValueError: the range is not inside ``[0, size)``.
            FormatError: the stored bytes cannot give them.
            OSError: the operating system could not read.
        """

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` if that needs no waiting; else return False, `view` then undefined."""

    def close(self) -> None:
        """Close the source."""


def read_bytes(reader: ImageReader, offset: int, length: int) -> bytes:
    """Return guest bytes ``[offset, offset + length)``, all of which must be inside the image."""
    data = bytearray(length)
    reader.read_into(memoryview(data), offset)
    return bytes(data)


class _HasExtents(Protocol):
    """A reader, or what a reader is made of."""

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield adjacent extents; see `ImageReader`."""


class _KnowsRanges(Protocol):
    """One that can tell what is stored without where, which takes far less time."""

    def stored_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ascending, non-empty guest ranges ``[start, stop)`` that are not zeros."""


def stored_ranges(reader: _HasExtents, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield ascending, non-empty guest ranges inside ``[start, stop)`` of what is not ZERO.

    Neighbours may touch. An image with a checksum behind every block has an extent for each block;
    whoever does not ask where they lie need not go over all of them.

    Raises:
        ValueError: not ``0 <= start <= stop <= size``.
    """
    if hasattr(reader, "stored_ranges"):
        return cast("_KnowsRanges", reader).stored_ranges(start, stop)
    extents = reader.extents(start, stop)
    return ((each.start, each.stop) for each in extents if each.is_stored)


def check_range(start: int, stop: int, size: int) -> None:
    """Check that guest bytes ``[start, stop)`` are inside of an image.

    Raises:
        ValueError: not ``0 <= start <= stop <= size``.
    """
    if not 0 <= start <= stop <= size:
        message = f"[{start}, {stop}) is not inside [0, {size})"
        raise ValueError(message)
