"""What a saved disk is made of: which bytes lie where, as a restore would write them.

Saved sectors of the partition table and what lies between them and the first partition, the
partitions at their places, zeros everywhere else. Ranges are in bytes of the disk, half-open.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..composed.segments import Canvas, ChildBytes, LiteralBytes, Segment
from ..errors import CorruptImageError, FormatError
from ..partitions.ebr import EBR_SIZE, boot_records, extended_partition
from .evidence import GPT_FIRST_SIZE, GPT_SECOND_SIZE, SAVED_SECTOR, row_name
from .files import Files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..partitions.text_tables import PartitionTable, Row
    from ..reader import JsonValue
    from .evidence import Evidence
    from .records import ImageDirectory

DISK_SUFFIX = ".disk"
"""What follows a disk's name where it is one of the images."""

_MBR_SIZE = 512
_MAX_LITERAL_SIZE = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class DiskLayout:
    """A saved disk.

    Attributes:
        name: the disk, e.g. ``sda``.
        size: bytes of the disk.
        sector_size: bytes in a sector.
        label: kind of the partition table, ``gpt`` or ``dos``; None where there is none.
        segments: what it holds, ascending and not overlapping; between them are zeros.
        problems: what is odd, or is not as it was.
    """

    name: str
    size: int
    sector_size: int
    label: str | None
    segments: tuple[Segment, ...]
    problems: tuple[str, ...]


def disk_layout(
    directory: ImageDirectory, disk: str, sizes: Mapping[str, int] | None = None
) -> DiskLayout:
    """Return what the disk is made of. No image is opened.

    Args:
        directory: where it was saved.
        disk: one of `ImageDirectory.disks`.
        sizes: guest bytes of images, by partition, as far as they are known: then one that is
            longer than its place is a problem.

    Raises:
        ValueError: there is no such disk in the directory.
        CorruptImageError: nothing tells the size of the disk, so that nothing can be shown.
        OSError: the directory cannot be listed.
    """
    if disk not in directory.disks:
        message = f"{directory.path} has no disk {disk}"
        raise ValueError(message)
    files = Files(directory.path)
    evidence = directory.evidence[disk]
    size = evidence.size
    if size is None and sizes is not None:
        # A file system on the whole disk is as long as the disk.
        size = sizes.get(disk)
    if not size:
        reasons = "; ".join(evidence.problems) or f"{disk}-pt.sf and {disk}-pt.parted are missing"
        raise CorruptImageError(
            "clonezilla.disk",
            0,
            f"nothing tells the size of {disk}: {reasons}. Its partitions can be used one by one",
        )
    return _Composition(directory, files, disk, evidence, size).result(sizes or {})


def disk_header(directory: ImageDirectory, layout: DiskLayout) -> dict[str, JsonValue]:
    """Return what there is to tell of a disk, as other images have a header."""
    return {
        "disk": layout.name,
        "partition_table": layout.label,
        "sector_size": layout.sector_size,
        "saved_at": directory.saved_at,
    }


class _Composition:
    """Puts a disk together, the most telling pieces first."""

    def __init__(
        self, directory: ImageDirectory, files: Files, disk: str, evidence: Evidence, size: int
    ) -> None:
        self._files = files
        self._disk = disk
        self._evidence = evidence
        self._size = size
        self._problems = list(evidence.problems)
        self._canvas = Canvas(size)
        self._problem_of = {each.name: each.problem for each in directory.partitions}
        self._problem_of |= dict.fromkeys(directory.lost, "parts lists it, but there is no image")
        self._reasons = _reasons_for_zeros(directory)

    def result(self, sizes: Mapping[str, int]) -> DiskLayout:
        table = self._evidence.table
        is_gpt = table is not None and table.label == "gpt"
        rows = table.rows if table is not None else ()
        first = min((row.start for row in rows), default=self._size)
        self._put_file("mbr", 0, _MBR_SIZE, is_expected=table is not None)
        # On a disk with an unusual table a partition may begin before 34 sectors. The header is
        # always the table's own.
        header = max(first, 2 * self._evidence.sector_size)
        self._put_file("gpt-1st", 0, min(GPT_FIRST_SIZE, header), is_expected=is_gpt)
        if table is not None:
            self._put_partitions(table, sizes)
            self._put_boot_records(table)
        else:
            self._put_whole_disk()
        start = max(0, self._size - GPT_SECOND_SIZE)
        self._put_file("gpt-2nd", start, GPT_SECOND_SIZE, is_expected=is_gpt)
        if first > SAVED_SECTOR:
            self._put_file("hidden-data-after-mbr", SAVED_SECTOR, first - SAVED_SECTOR)
        label = table.label if table is not None else None
        return DiskLayout(
            name=self._disk,
            size=self._size,
            sector_size=self._evidence.sector_size,
            label=label,
            segments=self._canvas.segments(),
            problems=tuple(self._problems),
        )

    def _put_file(self, suffix: str, start: int, limit: int, *, is_expected: bool = False) -> None:
        """Put down a saved piece of the disk, up to `limit` bytes of it."""
        name = f"{self._disk}-{suffix}"
        if name not in self._files:
            if is_expected:
                self._problems.append(f"{name} is missing: zeros take its place")
            return
        try:
            length = self._files.size(name)
            data = self._files.read(name, min(limit, _MAX_LITERAL_SIZE))
        except (FormatError, OSError) as error:
            self._problems.append(f"{name} is left out: {error}")
            return
        if min(length, limit) > _MAX_LITERAL_SIZE:
            self._problems.append(
                f"{name} is {length} bytes long, of which {_MAX_LITERAL_SIZE} are shown"
            )
        if data:
            self._canvas.put(start, start + len(data), LiteralBytes(data))
        elif is_expected:
            self._problems.append(f"{name} is empty: zeros take its place")

    def _put_whole_disk(self) -> None:
        """Put down the file system of a disk without a partition table."""
        if self._disk in self._problem_of:
            self._put_partition(self._disk, 0, self._size)

    def _put_partitions(self, table: PartitionTable, sizes: Mapping[str, int]) -> None:
        extended = extended_partition(table)
        rows = sorted((r for r in table.rows if r is not extended), key=lambda r: r.start)
        self._note_overlaps(rows)
        for row in rows:
            name = row_name(row, table, self._disk)
            if sizes.get(name, 0) > row.stop - row.start:
                self._problems.append(
                    f"the image of {name} is {sizes[name]} bytes long, its place only "
                    f"{row.stop - row.start}: it is cut off"
                )
            self._put_partition(name, row.start, row.stop)

    def _note_overlaps(self, rows: Sequence[Row]) -> None:
        furthest: Row | None = None
        for row in rows:
            if furthest is not None and row.start < furthest.stop:
                self._problems.append(
                    f"{row.device} begins at byte {row.start}, inside {furthest.device}, which is "
                    "shown where they overlap"
                )
            if furthest is None or row.stop > furthest.stop:
                furthest = row
        if rows and rows[0].start < _MBR_SIZE:
            self._problems.append(f"{rows[0].device} begins at byte {rows[0].start}, in the MBR")

    def _put_partition(self, name: str, start: int, stop: int) -> None:
        if name not in self._problem_of:
            self._note_missing(name)
            return
        problem = self._problem_of[name]
        if problem is not None:
            # It was saved: to show zeros would be to show what it is not.
            self._problems.append(f"{name} cannot be read: {problem}")
        self._canvas.put(start, stop, ChildBytes(name))

    def _note_missing(self, name: str) -> None:
        """Tell why a partition is zeros. Of swap nobody expects anything else."""
        reason = self._reasons.get(name, "there is no image of it")
        if reason:
            self._problems.append(f"{name} is zeros: {reason}")

    def _put_boot_records(self, table: PartitionTable) -> None:
        saved: dict[int, bytes] = {}
        for row in table.rows:
            name = f"{row_name(row, table, self._disk)}-ebr"
            if name not in self._files:
                continue
            try:
                saved[row.number] = self._files.read(name, EBR_SIZE)
            except (FormatError, OSError) as error:
                self._problems.append(f"{name} is left out: {error}")
        records, problems = boot_records(table, saved)
        self._problems.extend(problems)
        for record in records:
            place = record.offset
            self._canvas.put(place, place + EBR_SIZE, LiteralBytes(record.data))


def _reasons_for_zeros(directory: ImageDirectory) -> dict[str, str]:
    """Return why there is no image of a device, empty where nobody expects one."""
    reasons = dict.fromkeys(
        (group.device for group in directory.volume_groups),
        "it belongs to LVM, whose logical volumes are saved by themselves",
    )
    reasons |= dict.fromkeys(
        (device.device for device in directory.luks_devices),
        "it is encrypted, and what was in it is saved by itself",
    )
    return reasons | dict.fromkeys((swap.device for swap in directory.swaps), "")
