"""What a volume or a disk holds: its partition table, its file systems, and logical volumes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from ..composed.segments import Stripes
from ..errors import CorruptImageError, FormatError
from ..partitions.on_disk import read_table
from ..reader import read_bytes
from ..superblocks.find import find_file_system
from ..volume_groups.find import Member, find_groups
from ..volume_groups.group import MOST_VOLUMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..partitions.table import DiskTable
    from ..reader import ImageReader
    from ..superblocks.file_system import FileSystem
    from ..volume_groups.find import FoundGroup
    from ..volume_groups.group import LogicalVolume

    Read = Callable[[int, int], bytes]

PHYSICAL_VOLUME = "LVM2_member"
"""What a physical volume of LVM2 is called as a file system."""

_DEPTH = 4
"""Volumes in volumes that are looked into. Nobody has more but who means no good."""


class _Allowance(NamedTuple):
    """How much is still looked into.

    Attributes:
        depth: volumes in volumes.
        volumes: gives a number for each that may follow, at any depth.
    """

    depth: int
    volumes: Iterator[int]


class Stretch(NamedTuple):
    """Bytes ``[start, stop)`` of a logical volume, from byte `offset` of the image it lies in.

    Where there are stripes, `offset` counts the bytes that these give.
    """

    start: int
    stop: int
    offset: int
    stripes: Stripes | None = None


class VolumeInside(NamedTuple):
    """A logical volume of LVM2 in an image.

    Attributes:
        group: the name of its group.
        group_uuid: the UUID of that.
        name: its own name.
        uuid: its own UUID.
        size: its bytes.
        physical_volumes: the UUIDs of those that it lies on.
        stretches: where it lies, ascending and without a gap.
        inside: what is inside of it.
    """

    group: str
    group_uuid: str
    name: str
    uuid: str
    size: int
    physical_volumes: tuple[str, ...]
    stretches: tuple[Stretch, ...]
    inside: Inside


@dataclasses.dataclass(frozen=True, slots=True)
class Inside:
    """What is inside of an image.

    Attributes:
        file_system: what a volume holds; None where nothing is known, and of a disk.
        table: the partition table of a disk.
        within: what partitions hold, by their numbers.
        volumes: logical volumes that lie in this image, and in no single partition of it.
        problems: what cannot be told or read, in words; that of partitions and volumes is theirs.
    """

    file_system: FileSystem | None = None
    table: DiskTable | None = None
    within: Mapping[int, Inside] = dataclasses.field(default_factory=dict)
    volumes: tuple[VolumeInside, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What is odd about the image itself."""
        return [*self.problems, *(self.table.warnings if self.table else ())]

    def all_warnings(self) -> Iterator[str]:
        """Yield what is odd about it, and about what is inside of it."""
        yield from self.warnings
        for each in (*self.within.values(), *(volume.inside for volume in self.volumes)):
            yield from each.all_warnings()


def look_inside(
    reader: ImageReader,
    *,
    is_disk: bool,
    sector_size: int | None = None,
    limit: int | None = None,
) -> Inside:
    """Look at the beginnings of an image, of its partitions and volumes. A few small reads.

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
    allowance = _Allowance(_DEPTH, iter(range(MOST_VOLUMES)))
    return _inside(read, reader.size, sector_size, allowance, is_disk=is_disk)


def _inside(
    read: Read, size: int, sector_size: int | None, allowance: _Allowance, *, is_disk: bool
) -> Inside:
    try:
        table = read_table(read, size, sector_size) if is_disk else None
    except CorruptImageError as error:
        return Inside(problems=(f"its partition table: {error}",))
    if table is None:
        return _with_volumes(Inside(find_file_system(read, size)), read, size, allowance)
    within = {}
    for each in table.partitions:
        if each.is_container:
            continue
        found = find_file_system(_window(read, each.start, each.stop), each.stop - each.start)
        if found is not None:
            within[each.number] = Inside(found)
    return _with_volumes(Inside(table=table, within=within), read, size, allowance)


def _with_volumes(inside: Inside, read: Read, size: int, allowance: _Allowance) -> Inside:
    """Return what is inside with the logical volumes that are, each where it belongs.

    That is the partition in which all of its group is that is there, else the disk.
    """
    places = list(_members(inside, size))
    if not places:
        return inside
    members = [
        Member("" if n is None else f"partition {n}", stop - start, _window(read, start, stop))
        for n, start, stop in places
    ]
    starts = [start for _number, start, _stop in places]
    within = dict(inside.within)
    for group in find_groups(members):
        first = group.members[0]
        number = places[first][0]
        if len(group.members) > 1 or number is None:
            inside = _with_group(inside, group, starts, read, allowance)
        else:
            here = [0] * len(places)
            within[number] = _with_group(
                within[number], group, here, members[first].read, allowance
            )
    return dataclasses.replace(inside, within=within)


def _members(inside: Inside, size: int) -> Iterator[tuple[int | None, int, int]]:
    """Yield the physical volumes: number of the partition, first byte, and the one behind."""
    if _is_physical_volume(inside):
        yield None, 0, size
    for each in inside.table.partitions if inside.table else ():
        if each.number in inside.within and _is_physical_volume(inside.within[each.number]):
            yield each.number, each.start, each.stop


def _is_physical_volume(inside: Inside) -> bool:
    return inside.file_system is not None and inside.file_system.type == PHYSICAL_VOLUME


def _with_group(
    inside: Inside,
    group: FoundGroup,
    starts: Sequence[int],
    read: Read,
    allowance: _Allowance,
) -> Inside:
    """Return an image with what was found of a group in it.

    Args:
        inside: what else was found in it.
        group: the group.
        starts: where each member begins in the image.
        read: reads the image.
        allowance: what may still be looked into.
    """
    below = allowance._replace(depth=allowance.depth - 1)
    volumes = []
    for volume in group.volumes if allowance.depth else ():
        if next(allowance.volumes, None) is None:
            break
        stretches = tuple(_stretches(volume, group, starts))
        found = _inside(_of_stretches(read, stretches), volume.size, None, below, is_disk=True)
        physical = dict.fromkeys(uuid for run in volume.runs for uuid, _place in run.places)
        volumes.append(
            VolumeInside(
                group.name, group.uuid, volume.name, volume.uuid, volume.size, tuple(physical),
                stretches, found,
            )
        )  # fmt: skip
    problems = [*inside.problems, *group.problems]
    if (left := len(group.volumes) - len(volumes)) > 0:
        problems.append(
            f"volume group {group.name}: {left} of its volumes are not read: no more than "
            f"{MOST_VOLUMES} of an image are, nor what lies in more than {_DEPTH} others"
        )
    return dataclasses.replace(
        inside, volumes=(*inside.volumes, *volumes), problems=tuple(problems)
    )


def _stretches(
    volume: LogicalVolume, group: FoundGroup, starts: Sequence[int]
) -> Iterator[Stretch]:
    for run in volume.runs:
        offsets = tuple(starts[group.places[uuid]] + place for uuid, place in run.places)
        if len(offsets) == 1:
            yield Stretch(run.start, run.stop, offsets[0])
        else:
            yield Stretch(run.start, run.stop, 0, Stripes(run.stripe_size, offsets))


def _of_stretches(read: Read, stretches: Sequence[Stretch]) -> Read:
    """Return what reads the bytes of a volume by what reads the image that it lies in."""

    def pieces(start: int, stop: int) -> Iterator[tuple[int, int]]:
        for each in stretches:
            first = max(start, each.start) - each.start + each.offset
            last = min(stop, each.stop) - each.start + each.offset
            if first >= last:
                continue
            if each.stripes is None:
                yield first, last - first
            else:
                for begin, end, offset in each.stripes.cut(first, last):
                    yield offset, end - begin

    def read_volume(offset: int, length: int) -> bytes:
        found = []
        for at, wanted in pieces(offset, offset + length):
            found.append(read(at, wanted))
            if len(found[-1]) < wanted:
                break
        return b"".join(found)

    return read_volume


def _reading(reader: ImageReader, limit: int | None) -> Read:
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


def _window(read: Read, start: int, stop: int) -> Read:
    """Return what reads bytes ``[start, stop)`` as if they were all there is."""

    def read_within(offset: int, length: int) -> bytes:
        return read(start + offset, max(0, min(length, stop - start - offset)))

    return read_within
