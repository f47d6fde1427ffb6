"""The volume groups that are in some physical volumes, and what can be read of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CorruptImageError, FormatError
from ..superblocks.lvm import LABEL_SECTORS, SECTOR, PhysicalVolume, read_label
from .group import LogicalVolume, VolumeGroup, read_group
from .metadata_area import read_area

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..superblocks.file_system import Read


class Member(NamedTuple):
    """A volume that holds a physical volume of LVM2.

    Attributes:
        title: what words call it, as ``partition 2``; "" where there is but one.
        size: its bytes.
        read: reads it; fewer bytes at its end, and where it cannot be read.
    """

    title: str
    size: int
    read: Read


@dataclasses.dataclass(frozen=True, slots=True)
class FoundGroup:
    """A volume group, or what has no group that can be told.

    Attributes:
        members: those of the members that belong to it, as numbers from 0 on, ascending.
        places: the number of the member that is a physical volume, by UUID.
        name: its name, "" where there is none.
        uuid: as LVM writes it.
        volumes: its logical volumes that can be read.
        problems: what cannot, and what is odd, in words.
    """

    members: tuple[int, ...]
    places: dict[str, int]
    name: str = ""
    uuid: str = ""
    volumes: tuple[LogicalVolume, ...] = ()
    problems: tuple[str, ...] = ()


class _Written(NamedTuple):
    """A group as one metadata area has it."""

    group: VolumeGroup
    member: int
    offset: int


class _Labelled(NamedTuple):
    """A member with its label, and what its own metadata areas say.

    Attributes:
        volume: the label.
        groups: the UUIDs of the groups that are written on it.
        is_free: it says that it is in no group.
    """

    volume: PhysicalVolume
    groups: frozenset[str]
    is_free: bool

    def may_be_in(self, group: VolumeGroup) -> bool:
        """Tell whether a group has it, and it says of no other, or of none, that it is in that."""
        is_elsewhere = self.is_free or (self.groups and group.uuid not in self.groups)
        return self.volume.uuid in group.spans and not is_elsewhere


def find_groups(members: Sequence[Member]) -> list[FoundGroup]:
    """Return the volume groups of the physical volumes that there are.

    Of several metadata of a group those count that were written last. What cannot be told is said
    in words, each where it belongs.

    Args:
        members: the physical volumes.

    Raises:
        Whatever `read` raises.
    """
    problems: dict[int, list[str]] = {number: [] for number in range(len(members))}
    labelled: dict[int, _Labelled] = {}
    written: dict[str, list[_Written]] = {}
    for number, member in enumerate(members):
        try:
            volume = read_label(member.read(0, LABEL_SECTORS * SECTOR))
        except CorruptImageError as error:
            problems[number].append(_of(member, str(error)))
            continue
        areas, complaints, is_free = _read_areas(number, member, volume)
        problems[number] += complaints
        groups = frozenset(each.group.uuid for each in areas)
        labelled[number] = _Labelled(volume, groups, is_free)
        for each in areas:
            written.setdefault(each.group.uuid, []).append(each)
    found = []
    taken: set[int] = set()
    for copies in written.values():
        group = _group(members, labelled, copies)
        told = [each for number in group.members for each in problems.pop(number, ())]
        taken.update(group.members)
        found.append(dataclasses.replace(group, problems=(*told, *group.problems)))
    for number, complaints in problems.items():
        if number in labelled and number not in taken and not labelled[number].is_free:
            uuid = labelled[number].volume.uuid
            what = f"physical volume {uuid} is in no group whose metadata are in this image"
            complaints.append(_of(members[number], what))
        if complaints:
            found.append(FoundGroup((number,), {}, problems=tuple(complaints)))
    return found


def _read_areas(
    number: int, member: Member, volume: PhysicalVolume
) -> tuple[list[_Written], list[str], bool]:
    """Return the groups that the areas of a member tell, what is wrong, and whether it has none."""
    found, complaints = [], []
    is_free = bool(volume.metadata_areas)
    for offset, size in volume.metadata_areas:
        try:
            area = read_area(member.read, offset, size)
            if area.text is not None:
                found.append(_Written(read_group(area.text, offset), number, offset))
        except FormatError as error:
            complaints.append(_of(member, str(error)))
            is_free = False
        else:
            is_free = is_free and area.text is None and not area.is_ignored
    return found, complaints, is_free


def _group(
    members: Sequence[Member], labelled: dict[int, _Labelled], copies: Sequence[_Written]
) -> FoundGroup:
    """Return a group as its newest metadata tell, with what the members have of it."""
    newest = max(copies, key=lambda each: each.group.seqno)
    group = newest.group
    uuids = {number: each.volume.uuid for number, each in labelled.items()}
    own = [number for number, each in labelled.items() if each.may_be_in(group)]
    places = {uuids[number]: number for number in own}
    twice = {uuids[number] for number in own if places[uuids[number]] != number}
    belonging = {each.member for each in copies} | set(own)
    problems = [f"physical volume {each} is there twice" for each in sorted(twice)]
    problems += [
        f"by its newest metadata, physical volume {uuids[number]} is not in it any more"
        for number in sorted({each.member for each in copies})
        if uuids[number] not in group.spans
    ]
    problems += _differences(members, newest, copies)
    problems = [f"volume group {group.name}: {each}" for each in problems]
    is_clear = all(e.group == group for e in copies if e.group.seqno == group.seqno)
    volumes = []
    for volume in group.volumes if is_clear else ():
        refusal = volume.refusal or _refusal(volume, group, members, places, twice)
        if refusal is None:
            volumes.append(volume)
        else:
            problems.append(f"logical volume {group.name}/{volume.name} {refusal}: it is not read")
    return FoundGroup(
        tuple(sorted(belonging)), places, group.name, group.uuid, tuple(volumes), tuple(problems)
    )


def _differences(
    members: Sequence[Member], newest: _Written, copies: Sequence[_Written]
) -> list[str]:
    """Return how metadata of a group differ, in words; of the newest, none may."""
    seqno = newest.group.seqno
    older = [each for each in copies if each.group.seqno != seqno]
    found = []
    if older:
        told = ", ".join(f"{each.group.seqno} {_where(members, each)}" for each in older)
        found.append(
            f"its metadata differ: number {seqno} {_where(members, newest)} is the newest, and "
            f"counts; older are {told}"
        )
    other = next((e for e in copies if e.group.seqno == seqno and e.group != newest.group), None)
    if other is not None:
        found.append(
            f"its metadata {_where(members, newest)} and {_where(members, other)} differ, and have "
            f"the same number {seqno}: which are right cannot be told, and no volume is read"
        )
    return found


def _refusal(
    volume: LogicalVolume,
    group: VolumeGroup,
    members: Sequence[Member],
    places: dict[str, int],
    twice: set[str],
) -> str | None:
    """Return why a volume that lies on physical ones cannot be read from these."""
    for run in volume.runs:
        each = (run.stop - run.start) // len(run.places)
        for uuid, place in run.places:
            lies_on = f"lies on physical volume {uuid}"
            if uuid not in places:
                return f"{lies_on}, which is not in this image, or in another group by now"
            if uuid in twice:
                return f"{lies_on}, which is there twice"
            if group.spans[uuid].is_missing:
                return f"{lies_on}, which the group has lost: what is there may be old"
            if place + each > members[places[uuid]].size:
                return f"{lies_on}, which ends before it"
    return None


def _where(members: Sequence[Member], written: _Written) -> str:
    title = members[written.member].title
    return f"@0x{written.offset:x}" + (f" of {title}" if title else "")


def _of(member: Member, what: str) -> str:
    return f"{member.title}: {what}" if member.title else what
