"""The small text files of an image directory: pure functions from text to frozen records.

None raises, whatever the text is: a line that cannot be understood is left out.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from .files import file_name, is_plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SAVED_AT = re.compile(r"(?:This image|Image) was saved by \S+ at (.+)")
_SAVED_BY = re.compile(r"Saved by (.+)")
_MAX_NAMES = 1024
_LOG_HEAD = 20
"""Lines at the beginning of the log in which it says who saved the image, and when."""


@dataclasses.dataclass(frozen=True, slots=True)
class Swap:
    """A swap partition; its content is not saved.

    Attributes:
        device: the partition, as Clonezilla names its files, e.g. ``sda5``.
        uuid: of the swap space, None where there is none.
        label: of the swap space, None where there is none.
    """

    device: str
    uuid: str | None
    label: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeGroup:
    """A physical volume of LVM, and the group that it belongs to.

    Attributes:
        name: the volume group.
        device: the physical volume, as Clonezilla names its files.
        uuid: of the physical volume, None where it is not told.
    """

    name: str
    device: str
    uuid: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume.

    Attributes:
        name: as Clonezilla names its files, e.g. ``vg-lv``.
        device: e.g. ``/dev/vg/lv``.
        description: what `file` said of its content.
    """

    name: str
    device: str
    description: str


@dataclasses.dataclass(frozen=True, slots=True)
class LuksDevice:
    """An encrypted partition.

    Attributes:
        device: the partition, as Clonezilla names its files.
        uuid: of the LUKS header, None where it is not told.
        mapped: what its plain content is called, None where it is not told.
    """

    device: str
    uuid: str | None
    mapped: str | None


def parse_names(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names in ``disk`` or ``parts`` as files are named after them, and the refused.

    A name that leads somewhere else is refused.
    """
    names: dict[str, None] = {}
    refused: list[str] = []
    for word in text.split():
        if len(names) == _MAX_NAMES or not all(map(is_plain_name, word.split("/"))):
            refused.append(word)
            if len(refused) == _MAX_NAMES:
                break
        else:
            names[file_name(word)] = None
    return tuple(names), tuple(refused)


def parse_fragment(text: str) -> dict[str, str]:
    """Return the assignments ``KEY="value"`` of a shell fragment. Nothing is executed."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and key.isidentifier():
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            found[key] = value
    return found


def parse_swap(device: str, text: str) -> Swap:
    """Return what ``swappt-P.info`` tells of the swap partition `device`."""
    found = parse_fragment(text)
    return Swap(device, found.get("UUID") or None, found.get("LABEL") or None)


def parse_file_systems(text: str) -> dict[str, str]:
    """Return the file system of each device in ``dev-fs.list``, by the name of its files."""
    return {file_name(words[0]): words[1] for words in _devices(text, 2)}


def parse_volume_groups(text: str) -> tuple[VolumeGroup, ...]:
    """Return what ``lvm_vg_dev.list`` tells."""
    return tuple(
        VolumeGroup(words[0], file_name(words[1]), words[2] if len(words) > 2 else None)  # noqa: PLR2004 - the third is optional
        for words in _words(text, 2)
        if _is_device(words[1])
    )


def parse_logical_volumes(text: str) -> tuple[LogicalVolume, ...]:
    """Return what ``lvm_logv.list`` tells."""
    return tuple(
        LogicalVolume(file_name(words[0]), words[0], " ".join(words[1:]))
        for words in _devices(text, 1)
    )


def parse_luks_devices(text: str) -> tuple[LuksDevice, ...]:
    """Return what ``luks-dev.list`` tells."""
    found = []
    for words in _devices(text, 1):
        uuid = next((word for word in words[1:] if _UUID.fullmatch(word)), None)
        mapped = next((word for word in words[1:] if _is_mapped(word)), None)
        found.append(LuksDevice(file_name(words[0]), uuid, mapped and file_name(mapped)))
    return tuple(found)


def parse_log(text: str) -> tuple[str | None, str | None]:
    """Return which program saved the image, and when, as far as the text tells."""
    program = moment = None
    for line in text.split("\n", _LOG_HEAD)[:_LOG_HEAD]:
        stripped = line.strip().rstrip(".")
        if moment is None and (match := _SAVED_AT.fullmatch(stripped)):
            moment = match[1]
        elif program is None and (match := _SAVED_BY.fullmatch(stripped)):
            program = match[1]
    return program, moment


def _words(text: str, count: int) -> Iterator[list[str]]:
    """Yield the words of each line that has at least `count`, and is no comment."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= count and not words[0].startswith("#"):
            yield words


def _devices(text: str, count: int) -> Iterator[list[str]]:
    return (words for words in _words(text, count) if _is_device(words[0]))


def _is_mapped(word: str) -> bool:
    return word.startswith("/dev/mapper/") and _is_device(word)


def _is_device(word: str) -> bool:
    """Tell whether a word is a device, of which files can have the name."""
    return word.startswith("/dev/") and is_plain_name(file_name(word))
