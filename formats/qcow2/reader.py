"""QCOW2: scan an image once, then open it from what the scan returned."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from ..codecs.decoded_pieces import DecodedPieces
from ..errors import CorruptImageError, TruncatedImageError, UnsupportedFeatureError
from ..reader import ImageInfo, ParentName, Scan
from ..sources.fingerprint import hash_samples
from ..sources.joined import JoinedSource
from ..stored.mapped import MappedClusters, MappedReader
from . import clusters, layout
from .tables import Tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..index.map_chunk import MapChunk
    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..reader import ImageReader, JsonValue
    from ..sources.byte_source import ByteSource

NAME = "qcow2"

_HASHED_L1 = 1 << 20
_LARGEST_SNAPSHOT_TABLE = 64 << 20
_MOST_SNAPSHOT_TABLES = 1 << 30
"""Bytes of tables of snapshots that are read of any image; of a larger one, four times its size."""

_MOST_SNAPSHOT_MAPS = 128 << 20
"""Bytes of the maps of all snapshots of an image: they are in memory until they are written."""


class _Mapped(NamedTuple):
    """What tables say: the map, and what of it is stored."""

    chunks: tuple[MapChunk, ...]
    total_units: int
    stored_units: int
    stored_bytes: int


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Read the tables once, and make a map of them.

    Args:
        source: the stored bytes; behind them those of the data file, where it has one.
        progress: told the stored bytes that are done.

    Raises:
        UnsupportedFeatureError: it is encrypted, or its data file is not at hand.
        FormatError: it cannot be read.
        OSError: the operating system could not read.
    """
    header = read_header(source)
    image, data = _image_and_data(source, header)
    snapshots = read_snapshots(image, header)
    _check_legal(header, snapshots)
    mapped = _map(image, header, header.l1_offset, header.l1_size, header.size, data)
    if progress is not None:
        progress(source.size)
    geometry = MappedClusters(
        size=header.size,
        unit_size=header.unit_size,
        cluster_size=header.cluster_size,
        data_stop=source.size,
        compression=header.compression,
        has_parent=int(header.backing_file is not None),
    )
    info = ImageInfo(
        format=NAME,
        format_version=str(header.version),
        creator=None,
        fs_type="disk",
        size=header.size,
        block_size=header.unit_size,
        total_blocks=mapped.total_units,
        used_blocks=min(mapped.stored_units, mapped.total_units),
        used_bytes=mapped.stored_bytes,
        checksum="none",
        header=_fields(header, snapshots),
        layout=geometry.to_json(),
        fingerprint=fingerprint(source),
        warnings=tuple(_warnings(header)),
        parent=_parent(header),
    )
    scan = Scan(info, chunks=None, map_chunks=mapped.chunks)
    return _with_snapshots(scan, image, header, snapshots)


def _map(
    image: ByteSource,
    header: layout.Header,
    l1_offset: int,
    l1_size: int,
    size: int,
    data: ByteSource | None,
) -> _Mapped:
    """Return what the tables of a disk, or of one of its snapshots, say."""
    tables = Tables(image, header, l1_offset, l1_size, size, None if data is None else data.size)
    chunks = []
    stored_units, last_is_stored = 0, False
    for found in tables.chunks():
        chunks.append(found.chunk)
        stored_units += found.stored_units
        last_is_stored = found.last_is_stored
    unit_size = header.unit_size
    stored_bytes = stored_units * unit_size
    if last_is_stored:
        # The last cluster may reach beyond the end.
        stored_bytes = max(0, stored_bytes - -size % unit_size)
    return _Mapped(tuple(chunks), -(-size // unit_size), stored_units, stored_bytes)


def _with_snapshots(
    scan: Scan, image: ByteSource, header: layout.Header, snapshots: list[layout.Snapshot]
) -> Scan:
    """Return a scan with those of the snapshots: each is a map of its own over the same files."""
    found: list[tuple[str, Scan]] = []
    passed_over = []
    left = max(_MOST_SNAPSHOT_TABLES, 4 * image.size)
    room = _MOST_SNAPSHOT_MAPS
    for each in snapshots:
        size = header.size if each.size is None else each.size
        left -= each.l1_size * header.cluster_size
        # So many that they cannot all be of use: mapping them would take for ever.
        mapped = None
        if left >= 0 and room > 0:
            mapped = _map(image, header, each.l1_offset, each.l1_size, size, None)
            room -= sum(len(chunk.runs) for chunk in mapped.chunks)
        if mapped is None or room < 0:
            passed_over.append(each.name)
            continue
        info = dataclasses.replace(
            scan.info,
            size=size,
            total_blocks=mapped.total_units,
            used_blocks=min(mapped.stored_units, mapped.total_units),
            used_bytes=mapped.stored_bytes,
            header={
                "snapshot": each.name,
                "snapshot_id": each.id,
                "taken": each.seconds,
                "vm_state_size": each.vm_state_size,
            },
            layout=dict(scan.info.layout) | {"size": size},
            warnings=(),
        )
        found.append((each.name or each.id, Scan(info, chunks=None, map_chunks=mapped.chunks)))
    info = scan.info
    if passed_over:
        warning = f"{len(passed_over)} snapshots more than can be mapped are left out"
        info = dataclasses.replace(info, warnings=(*info.warnings, warning))
    return dataclasses.replace(scan, info=info, snapshots=tuple(found))


def fingerprint(source: ByteSource) -> bytes:
    """Return the fingerprint that `scan` would give, from a few reads.

    Raises:
        FormatError: the image cannot be read any more.
        OSError: the operating system could not read.
    """
    header = read_header(source)
    hasher = xxhash.xxh3_128()
    hasher.update(source.read_at(0, min(source.size, header.cluster_size)))
    length = max(0, min(header.l1_size * 8, _HASHED_L1, source.size - header.l1_offset))
    if length:
        hasher.update(source.read_at(header.l1_offset, length))
    hash_samples(source, 0, hasher)
    return hasher.digest()


def open_reader(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,
    parent: ImageReader | None = None,
) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        source: the stored bytes; behind them those of the data file, where it has one.
        fields: `ImageInfo.layout` of the scan.
        index: the index of the scan.
        parent: what it is a difference to, closed with the reader; None where it is whole.
    """
    geometry = MappedClusters.from_json(fields)
    return MappedReader(
        source, geometry, index.map_index(), pieces(source, geometry, index), parent
    )


def pieces(source: ByteSource, geometry: MappedClusters, index: StoredIndex) -> DecodedPieces:
    """Return what decodes the compressed clusters of an image."""
    return DecodedPieces(
        source,
        functools.partial(
            clusters.decode,
            compression=geometry.compression,
            cluster_size=geometry.cluster_size,
        ),
        clusters.WEIGHT,
        index.pages,
        index.turn,
        index.key,
    )


def read_header(source: ByteSource) -> layout.Header:
    """Read and parse the header; see `layout.parse_header` for what it raises."""
    head = source.read_at(0, min(source.size, layout.V3_SIZE))
    bits = head[23] if len(head) > layout.V2_SIZE else 0
    if layout.SMALLEST_CLUSTER_BITS <= bits <= layout.LARGEST_CLUSTER_BITS:
        # What follows it lies in its cluster.
        head = source.read_at(0, min(source.size, 1 << bits))
    return layout.parse_header(head)


def read_snapshots(source: ByteSource, header: layout.Header) -> list[layout.Snapshot]:
    """Read and parse the table of snapshots; see `layout.parse_snapshots` for what it raises."""
    if not header.snapshot_count:
        return []
    if header.snapshots_offset >= source.size:
        raise TruncatedImageError(
            "qcow2.snapshots",
            source.size,
            f"the snapshots at {header.snapshots_offset} are cut off",
        )
    length = min(source.size - header.snapshots_offset, _LARGEST_SNAPSHOT_TABLE)
    table = source.read_at(header.snapshots_offset, length)
    return layout.parse_snapshots(table, header.snapshot_count, header.snapshots_offset)


def _image_and_data(
    source: ByteSource, header: layout.Header
) -> tuple[ByteSource, ByteSource | None]:
    """Return what has the tables, and what has the data where that is another file.

    `files.detect` gives both as one source, the image first.
    """
    if not header.incompatible & layout.EXTERNAL_DATA:
        return source, None
    if not isinstance(source, JoinedSource):
        raise UnsupportedFeatureError(
            "qcow2.header", 72,
            f"its data are in another file, {header.data_file!r}: name the image by its path",
        )  # fmt: skip
    image, data = source.parts
    return image, data


def _check_legal(header: layout.Header, snapshots: list[layout.Snapshot]) -> None:
    if header.incompatible & layout.EXTERNAL_DATA and snapshots:
        raise CorruptImageError("qcow2.header", 60, "snapshots beside a data file")
    for each in snapshots:
        size = header.size if each.size is None else each.size
        layout.check_l1(header, each.l1_offset, each.l1_size, size, "qcow2.snapshot")


def _parent(header: layout.Header) -> ParentName | None:
    if header.backing_file is None:
        return None
    return ParentName((header.backing_file,), header.backing_format)


def _fields(header: layout.Header, snapshots: list[layout.Snapshot]) -> dict[str, JsonValue]:
    return {
        "version": header.version,
        "cluster_size": header.cluster_size,
        "size": header.size,
        "l1_entries": header.l1_size,
        "l1_offset": header.l1_offset,
        "refcount_table_offset": header.refcount_table_offset,
        "refcount_table_clusters": header.refcount_table_clusters,
        "refcount_bits": 1 << header.refcount_order,
        "compression": layout.COMPRESSIONS[header.compression],
        "extended_l2": header.is_extended,
        "incompatible_features": f"0x{header.incompatible:x}",
        "compatible_features": f"0x{header.compatible:x}",
        "autoclear_features": f"0x{header.autoclear:x}",
        "backing_file": header.backing_file,
        "backing_format": header.backing_format,
        "data_file": header.data_file,
        "snapshots": ", ".join(each.name for each in snapshots) or None,
    }


def _warnings(header: layout.Header) -> list[str]:
    found = []
    if header.incompatible & layout.DIRTY:
        found.append("marked dirty: it was not closed properly; only its reference counts may lag")
    if header.incompatible & layout.CORRUPT:
        found.append("marked corrupt by QEMU: `qemu-img check` tells what is wrong")
    return found
