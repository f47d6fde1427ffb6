"""What is said of indexed files: generations, and what is known of them."""

from __future__ import annotations

import enum
from typing import NamedTuple

ROOT = 1
"""The row of the root directory in `file_directories`."""


class TakenFrom(enum.StrEnum):
    """What told when a backup was taken."""

    FILE_SYSTEM = "file system"
    CLONEZILLA = "clonezilla"
    FILE = "file"
    USER = "user"
    NOW = "now"


class NewGeneration(NamedTuple):
    """A state of a file system that is to be kept: of an image, or of a snapshot.

    Attributes:
        fs_type: the file system, as blkid has it.
        fs_uuid: its UUID or serial number; None where it has none, or none that tells it.
        taken_at: UTC, in ISO 8601.
        taken_from: what tells that.
        image_id: the image; None of a snapshot.
        index_id: what the image was read by, to tell whether it is still the same.
        snapshot_name: of a snapshot, its name.
        label: tells file systems apart that have the same UUID; empty for the usual.
        caveat: what is to be said whenever its files are shown; None where there is nothing.
    """

    fs_type: str
    fs_uuid: str | None
    taken_at: str
    taken_from: TakenFrom
    image_id: int | None = None
    index_id: int | None = None
    snapshot_name: str | None = None
    label: str = ""
    caveat: str | None = None


class StoredGeneration(NamedTuple):
    """A generation that was kept.

    Attributes:
        generation_id: its row.
        lineage_id: the row of its file system.
        number: its number among the generations of that.
        files: names in it, directories among them.
        added: versions that were not there before.
        ended: versions that stand in the generation before it and not in this one.
        problems: what could not be read.
    """

    generation_id: int
    lineage_id: int
    number: int
    files: int
    added: int
    ended: int
    problems: int


EXT = "ext"


def family(fs_type: str) -> str:
    """Return what file systems of a type are told apart by: an ext2 may become an ext4."""
    return EXT if fs_type in {"ext2", "ext3", "ext4"} else fs_type
