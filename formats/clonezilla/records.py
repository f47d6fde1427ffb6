"""What is told of an image directory: frozen records, without behaviour."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .evidence import Evidence
    from .metadata import LogicalVolume, LuksDevice, Swap, VolumeGroup


@dataclasses.dataclass(frozen=True, slots=True)
class Partition:
    """A partition, or another block device, of which there is an image.

    Attributes:
        name: as Clonezilla names its files: ``sda1``, ``vg-lv``.
        disk: the disk that it lies on, None where it lies on none, as a logical volume.
        fs_type: what the file name or ``dev-fs.list`` tells, None where neither does.
        first_file: absolute path of the image, or of its first chunk.
        is_raw: once decompressed, the image is the partition's bytes, without a format.
        device_size: bytes of the partition by the partition table, None where that is not told.
        problem: why the image must not be opened, None where it may be.
    """

    name: str
    disk: str | None
    fs_type: str | None
    first_file: str
    is_raw: bool
    device_size: int | None
    problem: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImageDirectory:
    """What lies in an image directory. Devices are named as Clonezilla names their files.

    Attributes:
        path: absolute path of the directory.
        name: its name.
        disks: the disks that were saved; of saved partitions those whose tables are there.
        evidence: what is known of each disk.
        partitions: what there are images of, by name.
        lost: devices that were saved, by ``parts``, and of which there is no image.
        swaps: swap partitions, whose content is not saved.
        volume_groups: physical volumes of LVM with their groups.
        logical_volumes: logical volumes, saved or not.
        luks_devices: encrypted partitions; what is saved is what was in them.
        checksum_files: names of the files with checksums.
        clonezilla_version: which program saved it, None where the log does not tell.
        saved_at: when, in the words of the log, None where it does not tell.
        is_broken: Clonezilla itself marked it as broken.
        files: names of the files that tell of a disk, or are part of one.
        problems: what is odd, but stops nothing.
    """

    path: str
    name: str
    disks: tuple[str, ...]
    evidence: Mapping[str, Evidence]
    partitions: tuple[Partition, ...]
    lost: tuple[str, ...]
    swaps: tuple[Swap, ...]
    volume_groups: tuple[VolumeGroup, ...]
    logical_volumes: tuple[LogicalVolume, ...]
    luks_devices: tuple[LuksDevice, ...]
    checksum_files: tuple[str, ...]
    clonezilla_version: str | None
    saved_at: str | None
    is_broken: bool
    files: tuple[str, ...]
    problems: tuple[str, ...]
