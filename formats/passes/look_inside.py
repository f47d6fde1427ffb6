"""What a volume or a disk holds: its partition table, and its file systems."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..errors import CorruptImageError, FormatError
from ..partitions.on_disk import read_table
from ..reader import read_bytes
from ..superblocks.find import find_file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..partitions.table import DiskTable
    from ..reader import ImageReader
    from ..superblocks.file_system import FileSystem


@dataclasses.dataclass(frozen=True, slots=True)
class Inside:
    """What is inside of an image.

    Attributes:
        file_system: what a volume holds; None where nothing is known, and of a disk.
        table: the partition table of a disk.
        within: what partitions hold, by their numbers.
        problem: why nothing can be told of the table, in words.
    """

    file_system: FileSystem | None = None
    table: DiskTable | None = None
    within: Mapping[int, FileSystem] = dataclasses.field(default_factory=dict)
    problem: str | None = None


def look_inside(
    reader: ImageReader,
    *,
    is_disk: bool,
    sector_size: int | None = None,
    limit: int | None = None,
) -> Inside:
    """Look at the beginnings of an image and of its partitions. A few small reads.

    What cannot be read is not known.

    Args:
        reader: reads it.
        is_disk: whether it may have a partition table.
        sector_size: bytes in a sector; found out if None.
        limit: read nothing from this byte on, which would take too long.

    Raises:
        OSError: the operating system could not read.
    """
    read = _reading(reader, limit)
    size = reader.size
    if not is_disk:
        return Inside(find_file_system(read, size))
    try:
        table = read_table(read, size, sector_size)
    except CorruptImageError as error:
        return Inside(problem=f"its partition table: {error}")
    if table is None:
        return Inside(find_file_system(read, size))
    within = {}
    for each in table.partitions:
        if each.is_container:
            continue
        found = find_file_system(_shifted(read, each.start), each.stop - each.start)
        if found is not None:
            within[each.number] = found
    return Inside(table=table, within=within)


def _reading(reader: ImageReader, limit: int | None) -> Callable[[int, int], bytes]:
    end = reader.size if limit is None else min(limit, reader.size)

    def read(offset: int, length: int) -> bytes:
        length = min(length, end - offset)
        if length <= 0:
            return b""
        try:
            return read_bytes(reader, offset, length)
        except FormatError:
            return b""

    return read


def _shifted(read: Callable[[int, int], bytes], start: int) -> Callable[[int, int], bytes]:
    return lambda offset, length: read(start + offset, length)
