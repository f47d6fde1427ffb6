"""A partition table as it lies on a disk: what MBR and GPT have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""Returns bytes of the disk, by offset and length: fewer at its end, none behind it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Partition:
    """A partition: bytes ``[start, stop)`` of the disk.

    Attributes:
        number: as Linux numbers it.
        start: its first byte.
        stop: the byte after its last; cut at the end of the disk.
        type: as sfdisk writes it: a GUID in upper case, or a byte in hexadecimal.
        type_name: what that is called, where it is known.
        uuid: as blkid has it as PARTUUID; None in an MBR without an identifier.
        name: its name by its user; only a GPT has one.
        is_bootable: whether it is marked so.
        is_container: it only holds logical partitions.
        attributes: the 64 bits of a GPT.
    """

    number: int
    start: int
    stop: int
    type: str
    type_name: str | None
    uuid: str | None
    name: str | None = None
    is_bootable: bool = False
    is_container: bool = False
    attributes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class DiskTable:
    """A partition table.

    Attributes:
        scheme: ``gpt`` or ``mbr``.
        id: of the disk, as sfdisk writes it; None in an MBR that has none.
        sector_size: bytes that it counts by.
        partitions: in order of their numbers.
        warnings: what is odd.
    """

    scheme: str
    id: str | None
    sector_size: int
    partitions: tuple[Partition, ...]
    warnings: tuple[str, ...] = ()


def cut(number: int, stop: int, size: int, warnings: list[str]) -> int:
    """Return where a partition ends on a disk of `size` bytes; warn if it would end behind it."""
    if stop > size:
        warnings.append(
            f"partition {number} ends {stop - size} bytes behind the disk, and is cut there"
        )
    return min(stop, size)
