"""Partition tables as text: what ``sfdisk -d`` and ``parted unit s print`` wrote.

Pure functions from text to frozen records. Sizes and places are in bytes, ranges half-open; what
the text gives in sectors is checked, so that no byte offset exceeds 63 bits.
"""

from __future__ import annotations

import dataclasses
import re

from ..errors import CorruptImageError

DEFAULT_SECTOR_SIZE = 512
_SECTOR_SIZES = frozenset({512, 1024, 2048, 4096, 8192, 16384, 32768, 65536})
_LAST_BYTE = (1 << 63) - 1
_MAX_ROWS = 1024
_MAX_DIGITS = 20
_MAX_ROW_LENGTH = 4096

_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9 _-]*):\s*(.*)")
_AFTER_DEVICE = re.compile(r":\s")
_NUMBERED = re.compile(r"[0-9]{1,9}$")
_EXTENDED = frozenset({0x05, 0x0F, 0x85})
_NUMBER = re.compile(r"[0-9]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A partition of a table.

    Attributes:
        device: as written, e.g. ``/dev/sda1``.
        number: the number that the device's name ends in.
        start: first byte.
        stop: byte after the last.
        type: hexadecimal type of an MBR partition, else a GUID; lower case.
        is_bootable: the boot flag is set.
        name: of a GPT partition, else None.
    """

    device: str
    number: int
    start: int
    stop: int
    type: str
    is_bootable: bool
    name: str | None

    @property
    def mbr_type(self) -> int | None:
        """The type as a byte, None if it is none."""
        return int(self.type, 16) if re.fullmatch(r"(?:0x)?[0-9a-f]{1,2}", self.type) else None

    @property
    def is_extended(self) -> bool:
        """It holds the logical partitions, and no data of its own."""
        return self.mbr_type in _EXTENDED


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionTable:
    """What ``sfdisk -d`` wrote.

    Attributes:
        label: ``gpt``, ``dos`` and so on; old versions of sfdisk write none, and know ``dos`` only.
        label_id: identifier of the disk.
        device: the disk, e.g. ``/dev/sda``.
        sector_size: bytes in a sector.
        first_lba: first sector for partitions.
        last_lba: last sector for partitions.
        rows: the partitions, in the order of the text; empty ones are left out.
    """

    label: str
    label_id: str | None
    device: str | None
    sector_size: int
    first_lba: int | None
    last_lba: int | None
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class PartedDisk:
    """The heading of ``parted unit s print``.

    Attributes:
        size: bytes of the disk, None where the text rounds it.
        sector_size: bytes in a logical sector, None where it is not told.
        label: ``gpt``, ``msdos``, ``loop`` and so on.
    """

    size: int | None
    sector_size: int | None
    label: str | None


def parse_sfdisk(
    text: str, *, sector_size: int = DEFAULT_SECTOR_SIZE, structure: str = "clonezilla.pt.sf"
) -> PartitionTable:
    """Return the partition table that ``sfdisk -d`` wrote.

    Args:
        text: the whole text.
        sector_size: what a sector is where the text does not tell, as that of old versions.
        structure: named in errors.

    Raises:
        CorruptImageError: a line cannot be understood; the message has its number.
    """
    lines = _Lines(text, structure)
    headers: dict[str, str] = {}
    rows: list[Row] = []
    for line in lines:
        if line.startswith("/"):
            size = _sector_size(lines, headers, sector_size)
            row = _parse_row(lines, line, size)
            if row is not None:
                rows.append(row)
        elif match := _HEADER.fullmatch(line):
            headers.setdefault(match[1].lower(), match[2].strip())
            if rows and _sector_size(lines, headers, sector_size) != size:
                raise lines.error("the sector size is told behind a partition")
        elif not line.startswith("#"):
            raise lines.error("neither a heading nor a partition")
        if len(rows) > _MAX_ROWS:
            raise lines.error(f"more than {_MAX_ROWS} partitions")
    _check_whole(lines, headers, rows)
    return PartitionTable(
        label=headers.get("label", "dos").lower(),
        label_id=headers.get("label-id"),
        device=headers.get("device"),
        sector_size=_sector_size(lines, headers, sector_size),
        first_lba=_lba(lines, headers, "first-lba"),
        last_lba=_lba(lines, headers, "last-lba"),
        rows=tuple(rows),
    )


def parse_parted(text: str, *, structure: str = "clonezilla.pt.parted") -> PartedDisk:
    """Return what the heading of ``parted print`` tells of the disk.

    Only sizes in sectors or bytes are exact; those of the compact form are rounded, and left out.

    Raises:
        CorruptImageError: a number is impossible; the message has the line.
    """
    lines = _Lines(text, structure)
    size: tuple[int, str] | None = None
    sector_size = label = None
    for line in lines:
        if size is None and (match := re.fullmatch(r"Disk /.*: ([0-9]+)(s|B)", line)):
            size = (_number(lines, match[1]), match[2])
        elif match := re.fullmatch(r"Sector size \(logical/physical\): ([0-9]+)B/.*", line):
            sector_size = _number(lines, match[1])
            if sector_size not in _SECTOR_SIZES:
                raise lines.error(f"a sector of {sector_size} bytes")
        elif match := re.fullmatch(r"Partition Table: (\S+)", line):
            label = match[1]
        elif line.startswith("Number"):
            break
    if size is None:
        return PartedDisk(None, sector_size, label)
    number, unit = size
    size_bytes = number if unit == "B" else number * (sector_size or DEFAULT_SECTOR_SIZE)
    if size_bytes > _LAST_BYTE:
        raise lines.error(f"a disk of {size_bytes} bytes")
    return PartedDisk(size_bytes, sector_size, label)


class _Lines:
    """The lines of a text that are not empty, and where the last one handed out lies."""

    def __init__(self, text: str, structure: str) -> None:
        self._text = text
        self._structure = structure
        self._number = 0
        self._offset = 0

    def __iter__(self) -> _Lines:
        self._lines = iter(self._text.split("\n"))
        self._next_offset = 0
        return self

    def __next__(self) -> str:
        for line in self._lines:
            self._number += 1
            self._offset = self._next_offset
            self._next_offset += len(line.encode("utf-8", "surrogateescape")) + 1
            if stripped := line.strip():
                return stripped
        raise StopIteration

    def error(self, detail: str) -> CorruptImageError:
        return CorruptImageError(self._structure, self._offset, f"line {self._number}: {detail}")


def _check_whole(lines: _Lines, headers: dict[str, str], rows: list[Row]) -> None:
    if not headers and not rows:
        raise lines.error("no partition table: expected what sfdisk -d prints")
    if headers.get("unit", "sectors") != "sectors":
        raise lines.error(f"the unit is {headers['unit']!r}, not sectors")
    # By number: a table is of one disk, whatever that was called.
    if len({row.number for row in rows}) < len(rows):
        raise lines.error("a partition is listed twice")


def _parse_row(lines: _Lines, line: str, sector_size: int) -> Row | None:
    after = _AFTER_DEVICE.search(line)
    if after is None or len(line) > _MAX_ROW_LENGTH:
        raise lines.error("no partition as sfdisk -d prints it")
    device = line[: after.start()].rstrip()
    number = _NUMBERED.search(device)
    if number is None:
        raise lines.error("a partition without a number")
    fields, flags = _fields(lines, line[after.end() :])
    if "start" not in fields or "size" not in fields:
        raise lines.error("a partition without start or size")
    start = _number(lines, fields["start"])
    size = _number(lines, fields["size"])
    if not size:
        return None
    if (start + size) * sector_size > _LAST_BYTE:
        raise lines.error(f"a partition that ends at sector {start + size}")
    name = fields.get("name")
    return Row(
        device=device,
        number=int(number[0]),
        start=start * sector_size,
        stop=(start + size) * sector_size,
        type=fields.get("type", fields.get("id", "")).lower(),
        is_bootable="bootable" in flags,
        name=None if name is None else name.strip('"'),
    )


def _fields(lines: _Lines, text: str) -> tuple[dict[str, str], set[str]]:
    """Return the fields of a partition, and its flags. Commas in quotes separate nothing."""
    pieces: list[str] = []
    is_quoted = False
    for piece in text.split(","):
        if is_quoted:
            pieces[-1] += f",{piece}"
        else:
            pieces.append(piece)
        is_quoted ^= piece.count('"') % 2 == 1
    if is_quoted:
        raise lines.error("a quote is not closed")
    fields: dict[str, str] = {}
    flags: set[str] = set()
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if equals:
            fields.setdefault(key.strip().lower(), value.strip())
        else:
            flags.add(key.strip().lower())
    return fields, flags


def _sector_size(lines: _Lines, headers: dict[str, str], default: int) -> int:
    if "sector-size" not in headers:
        return default
    size = _number(lines, headers["sector-size"])
    if size not in _SECTOR_SIZES:
        raise lines.error(f"a sector of {size} bytes")
    return size


def _lba(lines: _Lines, headers: dict[str, str], key: str) -> int | None:
    return _number(lines, headers[key]) if key in headers else None


def _number(lines: _Lines, text: str) -> int:
    if len(text) > _MAX_DIGITS or not _NUMBER.fullmatch(text) or int(text) > _LAST_BYTE:
        raise lines.error(f"{text[:40]!r} is no number of sectors")
    return int(text)
