"""QCOW2 on disk: header, extensions, snapshots. Pure: bytes in, records out.

All numbers are big-endian. Source: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import (
    CorruptImageError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"QFI\xfb"
VERSION_2, VERSION_3 = 2, 3
V2_SIZE = 72
V3_SIZE = 104
LONGEST_HEADER = 1 << 21
"""A header lies in the first cluster, and none is larger than that."""

SMALLEST_CLUSTER_BITS, LARGEST_CLUSTER_BITS = 9, 21
SUBCLUSTERS = 32
"""Parts of a cluster that an extended entry maps one by one."""

DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_INCOMPATIBLE = (1 << 5) - 1
_SMALLEST_EXTENDED_BITS = 14

DEFLATE, ZSTD = 0, 1
COMPRESSIONS = {DEFLATE: "zlib", ZSTD: "zstd"}

OFFSET_MASK = 0x00FFFFFFFFFFFE00
L1_RESERVED = 0x7F000000000001FF
STANDARD_RESERVED = 0x3F000000000001FE
IS_COMPRESSED = 1 << 62
IS_ZERO = 1

_LARGEST_L1 = 32 << 20
_LARGEST_SIZE = (1 << 63) - 1
_LONGEST_NAME = 1023
_LARGEST_REFCOUNT_ORDER = 6
_MOST_SNAPSHOTS = 65536
_MOST_EXTRA = 1024

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_SNAPSHOT = struct.Struct(">QIHHIIQII")

_END, _BACKING_FORMAT, _DATA_FILE = 0, 0xE2792ACA, 0x44415441
_FEATURE_NAMES = 0x6803F857
EXTENSIONS = {
    _BACKING_FORMAT: "backing format",
    _DATA_FILE: "data file",
    _FEATURE_NAMES: "feature names",
    0x23852875: "bitmaps",
    0x0537BE77: "encryption",
}
"""What extensions of the header are called."""

_FEATURE = struct.Struct(">BB46s")
_ENCRYPTIONS = {1: "AES", 2: "LUKS"}


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """A header. Offsets and sizes are bytes.

    Attributes:
        version: 2 or 3.
        size: guest bytes.
        backing_file: the name of what it is a difference to, None where it stands alone.
        backing_format: the format of that, as the extension names it.
        data_file: the name of the file that has the data, None where they are in the image.
        snapshot_count: the internal snapshots.
        incompatible: the feature bits.
        compression: how clusters are compressed, `DEFLATE` or `ZSTD`.
    """

    version: int
    cluster_bits: int
    size: int
    l1_size: int
    l1_offset: int
    backing_file: str | None
    backing_format: str | None
    data_file: str | None
    snapshot_count: int
    snapshots_offset: int
    incompatible: int
    compatible: int
    autoclear: int
    refcount_table_offset: int
    refcount_table_clusters: int
    refcount_order: int
    header_length: int
    compression: int

    @property
    def cluster_size(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def is_extended(self) -> bool:
        """Whether the entries of the tables map parts of clusters."""
        return bool(self.incompatible & EXTENDED_L2)

    @property
    def entry_size(self) -> int:
        """Bytes in an entry of the second table."""
        return 16 if self.is_extended else 8

    @property
    def entries(self) -> int:
        """Entries in a second table, which fills a cluster."""
        return self.cluster_size // self.entry_size

    @property
    def unit_size(self) -> int:
        """Bytes that are mapped as one."""
        return self.cluster_size // SUBCLUSTERS if self.is_extended else self.cluster_size

    @property
    def cluster_count(self) -> int:
        """Clusters of the guest, the last of which may be cut off."""
        return -(-self.size // self.cluster_size)


class Extension(NamedTuple):
    """An extension of the header.

    Attributes:
        kind: what it is, see `EXTENSIONS`.
        offset: where its data lie.
        data: what it says.
    """

    kind: int
    offset: int
    data: bytes

    @property
    def text(self) -> str | None:
        """What it says, of those that say a name."""
        return _text(self.data) if self.kind in {_BACKING_FORMAT, _DATA_FILE} else None

    @property
    def features(self) -> tuple[tuple[int, int, str], ...]:
        """Of a table of feature names: kind, bit and name of each."""
        return tuple(_features(self.data)) if self.kind == _FEATURE_NAMES else ()


class Snapshot(NamedTuple):
    """An internal snapshot.

    Attributes:
        id: as QEMU numbers it.
        name: as its user calls it.
        l1_offset: where its first table lies.
        l1_size: entries in that.
        seconds: since 1970, when it was taken.
        size: guest bytes that the disk had; None where it does not say.
        vm_state_size: bytes of a running machine that are stored with it.
    """

    id: str
    name: str
    l1_offset: int
    l1_size: int
    seconds: int
    size: int | None
    vm_state_size: int


def parse_header(data: bytes) -> Header:
    """Parse a header, and check what one must not believe.

    Args:
        data: the first bytes of the file: its first cluster if possible, see `LONGEST_HEADER`.

    Raises:
        NotThisFormatError: it begins otherwise.
        TruncatedImageError: there are too few bytes.
        UnsupportedFeatureError: it is encrypted, or uses what is not known.
        CorruptImageError: a field cannot be.
    """
    if data[:4] != MAGIC:
        raise NotThisFormatError("qcow2.header", 0, f"begins with {data[:4].hex(' ')}")
    if len(data) < V2_SIZE:
        raise TruncatedImageError("qcow2.header", len(data), f"has {V2_SIZE} bytes or more")
    (
        _magic, version, backing_offset, backing_size, cluster_bits, size, encryption, l1_size,
        l1_offset, refcount_offset, refcount_clusters, snapshot_count, snapshots_offset,
    ) = _V2.unpack_from(data)  # fmt: skip
    if version not in {VERSION_2, VERSION_3}:
        raise UnsupportedFeatureError("qcow2.header", 4, f"version {version} is not read")
    if not SMALLEST_CLUSTER_BITS <= cluster_bits <= LARGEST_CLUSTER_BITS:
        raise CorruptImageError("qcow2.header", 20, f"clusters of 2^{cluster_bits} bytes")
    incompatible = compatible = autoclear = 0
    refcount_order, header_length, compression = 4, V2_SIZE, DEFLATE
    if version == VERSION_3:
        if len(data) < V3_SIZE:
            raise TruncatedImageError("qcow2.header", len(data), f"has {V3_SIZE} bytes or more")
        incompatible, compatible, autoclear, refcount_order, header_length = _V3.unpack_from(
            data, V2_SIZE
        )
        if not V3_SIZE <= header_length <= 1 << cluster_bits:
            raise CorruptImageError("qcow2.header", 100, f"a header of {header_length} bytes")
        if header_length > V3_SIZE and len(data) > V3_SIZE:
            compression = data[V3_SIZE]
    header = Header(
        version=version,
        cluster_bits=cluster_bits,
        size=size,
        l1_size=l1_size,
        l1_offset=l1_offset,
        backing_file=_backing_name(data, backing_offset, backing_size, 1 << cluster_bits),
        backing_format=None,
        data_file=None,
        snapshot_count=snapshot_count,
        snapshots_offset=snapshots_offset,
        incompatible=incompatible,
        compatible=compatible,
        autoclear=autoclear,
        refcount_table_offset=refcount_offset,
        refcount_table_clusters=refcount_clusters,
        refcount_order=refcount_order,
        header_length=header_length,
        compression=compression,
    )
    end = _end_of_extensions(data, backing_offset, header.cluster_size)
    extensions: dict[int, bytes] = {}
    for each in _extensions(data, header_length, end):
        extensions.setdefault(each.kind, each.data)
    header = dataclasses.replace(
        header,
        backing_format=_text(extensions.get(_BACKING_FORMAT)),
        data_file=_text(extensions.get(_DATA_FILE)),
    )
    _check_features(header, encryption, extensions.get(_FEATURE_NAMES, b""))
    _check_numbers(header)
    return header


def _backing_name(data: bytes, offset: int, size: int, cluster_size: int) -> str | None:
    if not offset:
        return None
    if size > _LONGEST_NAME or offset > cluster_size:
        raise CorruptImageError(
            "qcow2.header", 8, f"the name of its backing file has {size} bytes at {offset}"
        )
    name = data[offset : offset + size]
    if len(name) < size:
        raise TruncatedImageError("qcow2.header", len(data), "inside of its backing file's name")
    if not name or b"\0" in name:
        raise CorruptImageError("qcow2.header", offset, f"{name!r} is no name of a backing file")
    return name.decode("utf-8", "surrogateescape")


def _end_of_extensions(data: bytes, backing_offset: int, cluster_size: int) -> int:
    return backing_offset or min(len(data), cluster_size)


def parse_extensions(data: bytes, header: Header) -> list[Extension]:
    """Parse the extensions of a header, in their order.

    Args:
        data: the first cluster of the file.
        header: what `parse_header` has made of it.

    Raises:
        CorruptImageError: one does not fit.
    """
    backing_offset = int.from_bytes(data[8:16])
    end = _end_of_extensions(data, backing_offset, header.cluster_size)
    return list(_extensions(data, header.header_length, end))


def _extensions(data: bytes, start: int, stop: int) -> Iterator[Extension]:
    position = start
    while position + _EXTENSION.size <= stop:
        kind, length = _EXTENSION.unpack_from(data, position)
        if kind == _END:
            break
        position += _EXTENSION.size
        if length > stop - position:
            raise CorruptImageError(
                "qcow2.extension", position, f"0x{kind:08x} of {length} bytes does not fit"
            )
        yield Extension(kind, position, data[position : position + length])
        position += -(-length // 8) * 8


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "surrogateescape")


def _check_features(header: Header, encryption: int, names: bytes) -> None:
    if encryption:
        kind = _ENCRYPTIONS.get(encryption, f"method {encryption}")
        raise UnsupportedFeatureError(
            "qcow2.header", 32, f"it is encrypted ({kind}): `qemu-img convert` makes a plain one"
        )
    unknown = header.incompatible & ~_KNOWN_INCOMPATIBLE
    if unknown:
        raise UnsupportedFeatureError(
            "qcow2.header", 72, f"it needs what is not read: {_feature_words(unknown, names)}"
        )
    if bool(header.incompatible & COMPRESSION) != (header.compression != DEFLATE):
        raise CorruptImageError(
            "qcow2.header", 104, f"compression type {header.compression} against its feature bit"
        )
    if header.compression not in COMPRESSIONS:
        raise UnsupportedFeatureError(
            "qcow2.header", 104, f"compression type {header.compression} is not read"
        )
    if header.is_extended and header.cluster_bits < _SMALLEST_EXTENDED_BITS:
        raise CorruptImageError(
            "qcow2.header", 20, f"extended entries with clusters of {header.cluster_size} bytes"
        )


def _feature_words(bits: int, names: bytes) -> str:
    known = {bit: name for kind, bit, name in _features(names) if kind == 0}
    return ", ".join(known.get(bit, f"feature bit {bit}") for bit in range(64) if bits >> bit & 1)


def _features(names: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield kind, bit and name of each feature that a table names."""
    for start in range(0, len(names) - _FEATURE.size + 1, _FEATURE.size):
        kind, bit, name = _FEATURE.unpack_from(names, start)
        yield kind, bit, name.split(b"\0")[0].decode("utf-8", "backslashreplace")


def _check_numbers(header: Header) -> None:
    if header.size > _LARGEST_SIZE:
        raise CorruptImageError("qcow2.header", 24, f"a disk of {header.size} bytes")
    if header.refcount_order > _LARGEST_REFCOUNT_ORDER:
        raise CorruptImageError("qcow2.header", 96, f"refcounts of 2^{header.refcount_order} bits")
    if header.snapshot_count > _MOST_SNAPSHOTS:
        raise CorruptImageError("qcow2.header", 60, f"{header.snapshot_count} snapshots")
    check_l1(header, header.l1_offset, header.l1_size, header.size, "qcow2.header")


def check_l1(header: Header, offset: int, count: int, size: int, structure: str) -> None:
    """Check where a first table lies, and that it is long enough for a disk.

    Raises:
        CorruptImageError: it cannot be.
    """
    if count * 8 > _LARGEST_L1:
        raise CorruptImageError(structure, 36, f"an L1 table of {count} entries")
    needed = -(-size // (header.cluster_size * header.entries))
    if count < needed:
        raise CorruptImageError(
            structure, 36, f"an L1 table of {count} entries, but {size} bytes need {needed}"
        )
    if count and (offset % header.cluster_size or not offset):
        raise CorruptImageError(structure, 40, f"an L1 table at {offset}")


def parse_snapshots(data: bytes, count: int, offset: int) -> list[Snapshot]:
    """Parse a table of snapshots.

    Args:
        data: the table, and whatever follows it.
        count: how many there are.
        offset: where it lies in the file.

    Raises:
        TruncatedImageError: `data` ends inside of it.
        CorruptImageError: a field cannot be.
    """
    found = []
    position = 0
    for _ in range(count):
        position = -(-position // 8) * 8
        if position + _SNAPSHOT.size > len(data):
            raise TruncatedImageError("qcow2.snapshots", offset + len(data), "it is cut off here")
        (
            l1_offset, l1_size, id_size, name_size, seconds, _nanoseconds, _clock, vm_size, extra,
        ) = _SNAPSHOT.unpack_from(data, position)  # fmt: skip
        if extra > _MOST_EXTRA:
            raise CorruptImageError("qcow2.snapshots", offset + position, f"{extra} bytes of more")
        position += _SNAPSHOT.size
        more = data[position : position + extra]
        position += extra
        end = position + id_size + name_size
        if end > len(data):
            raise TruncatedImageError("qcow2.snapshots", offset + len(data), "it is cut off here")
        found.append(
            Snapshot(
                id=data[position : position + id_size].decode("utf-8", "surrogateescape"),
                name=data[position + id_size : end].decode("utf-8", "surrogateescape"),
                l1_offset=l1_offset,
                l1_size=l1_size,
                seconds=seconds,
                size=int.from_bytes(more[8:16]) if more[8:16] else None,
                vm_state_size=int.from_bytes(more[:8]) if more else vm_size,
            )
        )
        position = end
    return found
