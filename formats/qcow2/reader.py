"""QCOW2: scan an image once, then open it from what the scan returned."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import xxhash

from ..codecs.decoded_pieces import DecodedPieces
from ..errors import TruncatedImageError, UnsupportedFeatureError
from ..reader import ImageInfo, Scan
from ..sources.fingerprint import hash_samples
from ..stored.mapped import MappedClusters, MappedReader
from . import clusters, layout
from .tables import Tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..index.stored import StoredIndex
    from ..progress import Progress
    from ..reader import ImageReader, JsonValue
    from ..sources.byte_source import ByteSource

NAME = "qcow2"

_HASHED_L1 = 1 << 20
_LARGEST_SNAPSHOT_TABLE = 64 << 20


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Read the tables once, and make a map of them.

    Args:
        source: the stored bytes.
        progress: told the stored bytes that are done.

    Raises:
        UnsupportedFeatureError: it is encrypted, or is not whole without another file.
        FormatError: it cannot be read.
        OSError: the operating system could not read.
    """
    header = read_header(source)
    _check_alone(header)
    snapshots = read_snapshots(source, header)
    tables = Tables(source, header, header.l1_offset, header.l1_size, header.size)
    chunks = []
    stored_units, last_is_stored = 0, False
    for found in tables.chunks():
        chunks.append(found.chunk)
        stored_units += found.stored_units
        last_is_stored = found.last_is_stored
    if progress is not None:
        progress(source.size)
    unit_size, size = header.unit_size, header.size
    total = -(-size // unit_size)
    used_bytes = stored_units * unit_size
    # The last cluster may reach beyond the end.
    beyond = header.cluster_count * header.cluster_size - size
    if last_is_stored:
        used_bytes = max(0, used_bytes - beyond % unit_size)
    geometry = MappedClusters(
        size=size,
        unit_size=unit_size,
        cluster_size=header.cluster_size,
        data_stop=source.size,
        compression=header.compression,
    )
    info = ImageInfo(
        format=NAME,
        format_version=str(header.version),
        creator=None,
        fs_type="disk",
        size=size,
        block_size=unit_size,
        total_blocks=total,
        used_blocks=min(stored_units, total),
        used_bytes=used_bytes,
        checksum="none",
        header=_fields(header, snapshots),
        layout=geometry.to_json(),
        fingerprint=fingerprint(source),
        warnings=tuple(_warnings(header)),
    )
    return Scan(info, chunks=None, map_chunks=tuple(chunks))


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


def open_reader(source: ByteSource, fields: Mapping[str, int], index: StoredIndex) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the index of the scan.
    """
    geometry = MappedClusters.from_json(fields)
    return MappedReader(source, geometry, index.map_index(), pieces(source, geometry, index))


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


def _check_alone(header: layout.Header) -> None:
    if header.backing_file is not None:
        raise UnsupportedFeatureError(
            "qcow2.header", 8,
            f"a difference to {header.backing_file!r}: not read yet; `qemu-img convert -O qcow2` "
            "makes one image of both",
        )  # fmt: skip
    if header.incompatible & layout.EXTERNAL_DATA:
        raise UnsupportedFeatureError(
            "qcow2.header", 72,
            f"its data are in {header.data_file!r}: not read yet; `qemu-img convert -O qcow2` "
            "makes one image of both",
        )  # fmt: skip


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
        "snapshots": ", ".join(each.name for each in snapshots) or None,
    }


def _warnings(header: layout.Header) -> list[str]:
    found = []
    if header.incompatible & layout.DIRTY:
        found.append("marked dirty: it was not closed properly; only its reference counts may lag")
    if header.incompatible & layout.CORRUPT:
        found.append("marked corrupt by QEMU: `qemu-img check` tells what is wrong")
    return found
