"""VHD on disk: footer, dynamic header, block table. Pure: bytes in, records out.

All numbers are big-endian, sectors have 512 bytes. Source: Microsoft's "Virtual Hard Disk Image
Format Specification", version 1.0, and what the tools in the field write where they differ.
"""

from __future__ import annotations

import dataclasses
import struct
import uuid

from ..errors import CorruptImageError, NotThisFormatError, TruncatedImageError

MAGIC = b"conectix"
SECTOR = 512
FOOTER_SIZE = 512
SHORT_FOOTER_SIZE = 511
"""Before 2004, a footer had a byte less."""

HEADER_MAGIC = b"cxsparse"
HEADER_SIZE = 1024

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
KINDS = {FIXED: "fixed", DYNAMIC: "dynamic", DIFFERENCING: "differencing"}
ABSENT = 0xFFFFFFFF
"""An entry of the block table: the block is not stored."""

EPOCH = 946684800
"""What the format counts from, 2000-01-01, in seconds since 1970."""

LARGEST_SIZE = 2040 << 30
_LARGEST_GEOMETRY = 65535 * 16 * 255
_NO_HEADER = (1 << 64) - 1
_CHECKSUM_AT = 64
_HEADER_CHECKSUM_AT = 36

_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_HEADER = struct.Struct(">8sQQIIII16sII512s")
_LOCATOR = struct.Struct(">4sIIIQ")
_LOCATORS = 8
LOCATOR_ENCODINGS = {"W2ru": "utf-16-le", "W2ku": "utf-16-le", "MacX": "utf-8"}
"""Kinds of paths that are read, and how they are stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Footer:
    """A footer. Sizes and offsets are bytes.

    Attributes:
        header_offset: where the dynamic header lies; None of a fixed disk.
        seconds: since 1970, when it was made.
        creator: the program, as it calls itself in four bytes.
        original_size: guest bytes when it was made.
        current_size: guest bytes now.
        geometry: cylinders, heads, sectors.
        kind: `FIXED`, `DYNAMIC` or `DIFFERENCING`.
        checksum: as it is stored.
        computed: the checksum of the bytes.
        id: its UUID.
        has_saved_state: a machine was suspended with it.
    """

    features: int
    version: int
    header_offset: int | None
    seconds: int
    creator: str
    creator_version: int
    creator_system: str
    original_size: int
    current_size: int
    geometry: tuple[int, int, int]
    kind: int
    checksum: int
    computed: int
    id: uuid.UUID
    has_saved_state: bool

    @property
    def geometry_size(self) -> int:
        """Guest bytes that cylinders, heads and sectors make."""
        cylinders, heads, sectors = self.geometry
        return cylinders * heads * sectors * SECTOR

    @property
    def is_geometry_full(self) -> bool:
        """Whether the geometry is the largest that there is, and so tells nothing."""
        return self.geometry_size == _LARGEST_GEOMETRY * SECTOR


@dataclasses.dataclass(frozen=True, slots=True)
class Locator:
    """Where the path of a parent is stored.

    Attributes:
        code: what kind of path it is, such as ``W2ru``.
        length: bytes of the path.
        offset: where it lies in the file.
    """

    code: str
    length: int
    offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class DynamicHeader:
    """A dynamic header.

    Attributes:
        table_offset: where the block table lies.
        version: of the header.
        entries: of the block table.
        block_size: guest bytes in a block.
        checksum: as it is stored.
        computed: the checksum of the bytes.
        parent_id: the UUID of what it is a difference to.
        parent_seconds: since 1970, when that was changed last.
        parent_name: what that is called; empty where it does not say.
        locators: where its paths are.
    """

    table_offset: int
    version: int
    entries: int
    block_size: int
    checksum: int
    computed: int
    parent_id: uuid.UUID
    parent_seconds: int
    parent_name: str
    locators: tuple[Locator, ...]

    @property
    def bitmap_size(self) -> int:
        """Bytes of bitmap before each stored block: a bit for each sector, in whole sectors."""
        return -(-self.block_size // (SECTOR * 8 * SECTOR)) * SECTOR


def parse_footer(data: bytes, offset: int) -> Footer:
    """Parse a footer, of `FOOTER_SIZE` bytes or one less.

    Args:
        data: the footer.
        offset: where it lies, for errors.

    Raises:
        NotThisFormatError: it begins otherwise.
        TruncatedImageError: there are too few bytes.
        CorruptImageError: a field cannot be.
    """
    if data[:8] != MAGIC:
        raise NotThisFormatError("vhd.footer", offset, f"begins with {data[:8].hex(' ')}")
    if len(data) < SHORT_FOOTER_SIZE:
        raise TruncatedImageError("vhd.footer", offset + len(data), "is cut off here")
    (
        _magic, features, version, header_offset, seconds, creator, creator_version, system,
        original_size, current_size, cylinders, heads, sectors, kind, checksum, identity, saved,
    ) = _FOOTER.unpack_from(data)  # fmt: skip
    if kind not in KINDS:
        raise CorruptImageError("vhd.footer", offset + 60, f"a disk of type {kind}")
    if version >> 16 != 1:
        raise CorruptImageError("vhd.footer", offset + 12, f"version 0x{version:08x}")
    if current_size > LARGEST_SIZE:
        raise CorruptImageError("vhd.footer", offset + 48, f"a disk of {current_size} bytes")
    has_header = kind != FIXED
    if has_header and header_offset == _NO_HEADER:
        raise CorruptImageError("vhd.footer", offset + 16, "a disk that grows, without a header")
    return Footer(
        features=features,
        version=version,
        header_offset=header_offset if has_header else None,
        seconds=EPOCH + seconds,
        creator=creator.rstrip(b"\0 ").decode("ascii", "backslashreplace"),
        creator_version=creator_version,
        creator_system=system.rstrip(b"\0 ").decode("ascii", "backslashreplace"),
        original_size=original_size,
        current_size=current_size,
        geometry=(cylinders, heads, sectors),
        kind=kind,
        checksum=checksum,
        computed=_checksum(data[:FOOTER_SIZE], _CHECKSUM_AT),
        id=uuid.UUID(bytes=identity),
        has_saved_state=bool(saved),
    )


def parse_header(data: bytes, offset: int, footer: Footer) -> DynamicHeader:
    """Parse a dynamic header, and check it against the footer.

    Args:
        data: the header, of `HEADER_SIZE` bytes.
        offset: where it lies, for errors.
        footer: of the same image.

    Raises:
        TruncatedImageError: there are too few bytes.
        CorruptImageError: it is none, or a field cannot be.
    """
    if len(data) < HEADER_SIZE:
        raise TruncatedImageError("vhd.header", offset + len(data), "is cut off here")
    (
        magic, _next, table_offset, version, entries, block_size, checksum, parent_id, parent_time,
        _reserved, parent_name,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    if magic != HEADER_MAGIC:
        raise CorruptImageError("vhd.header", offset, f"begins with {magic.hex(' ')}")
    if version >> 16 != 1:
        raise CorruptImageError("vhd.header", offset + 24, f"version 0x{version:08x}")
    if block_size < SECTOR or block_size & (block_size - 1):
        raise CorruptImageError("vhd.header", offset + 32, f"blocks of {block_size} bytes")
    if entries * block_size < footer.current_size:
        raise CorruptImageError(
            "vhd.header", offset + 28,
            f"{entries} blocks of {block_size} bytes, but the disk has {footer.current_size}",
        )  # fmt: skip
    locators = []
    for number in range(_LOCATORS):
        code, _space, length, _zero, where = _LOCATOR.unpack_from(data, 576 + number * 24)
        if code.strip(b"\0"):
            locators.append(Locator(code.decode("ascii", "backslashreplace"), length, where))
    name = parent_name.decode("utf-16-be", "replace")
    return DynamicHeader(
        table_offset=table_offset,
        version=version,
        entries=entries,
        block_size=block_size,
        checksum=checksum,
        computed=_checksum(data[:HEADER_SIZE], _HEADER_CHECKSUM_AT),
        parent_id=uuid.UUID(bytes=parent_id),
        parent_seconds=EPOCH + parent_time,
        parent_name=name.partition("\0")[0],
        locators=tuple(locators),
    )


def locator_path(code: str, data: bytes) -> str:
    """Return the path that a locator leads to, as it is stored."""
    return data.decode(LOCATOR_ENCODINGS[code], "replace").partition("\0")[0]


def _checksum(data: bytes, at: int) -> int:
    """Return the complement of the sum of all bytes but those of the checksum."""
    return ~(sum(data) - sum(data[at : at + 4])) & 0xFFFFFFFF
