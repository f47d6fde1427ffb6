"""The files that the catalogs of older schemas know, written the same again for each test."""

from __future__ import annotations

import hashlib
import random
import shutil
from typing import TYPE_CHECKING

from . import ntfsclone_writer, partclone_writer, partimage_writer, samples

if TYPE_CHECKING:
    from pathlib import Path

_SECTOR = 512


def write_shelf(directory: Path) -> dict[str, str]:
    """Write what a catalog of schema 0003 knows; return the sha256 of each guest, by name.

    A compressed image, one in volumes, and an image directory with a disk of two partitions.
    """
    shelf = {"packed": _packed(directory), "volumes": _volumes(directory)}
    return shelf | _clonezilla(directory / "laptop")


def _packed(directory: Path) -> str:
    sample = "ext4-0.3.23"
    shutil.copyfile(samples.FIXTURES / f"{sample}.img.xz", directory / "packed.img.xz")
    return samples.unpack_one(directory, sample).volume_sha256


def _volumes(directory: Path) -> str:
    written = partimage_writer.write(
        partimage_writer.Recipe(
            present=[n % 5 != 2 for n in range(200)], volume_sizes=(60_000, 40_000)
        )
    )
    for number, volume in enumerate(written.volumes):
        (directory / f"volumes.{number:03}").write_bytes(volume)
    return _hash(written.guest)


def _clonezilla(directory: Path) -> dict[str, str]:
    directory.mkdir()
    blocks = partclone_writer.write(
        partclone_writer.Recipe(present=[n % 3 != 1 for n in range(200)], block_size=512)
    )
    clusters = ntfsclone_writer.write(
        ntfsclone_writer.Recipe(order=[*range(40), *range(60, 90)], cluster_count=99, tail=0)
    )
    (directory / "sda1.ext4-ptcl-img.uncomp").write_bytes(blocks.image)
    (directory / "sda2.ntfs-img").write_bytes(clusters.image)
    rng = random.Random(3)
    mbr, hidden = rng.randbytes(_SECTOR), rng.randbytes(30 * _SECTOR)
    (directory / "sda-mbr").write_bytes(mbr)
    (directory / "sda-hidden-data-after-mbr").write_bytes(hidden)
    (directory / "disk").write_text("sda\n")
    (directory / "parts").write_text("sda1 sda2\n")
    (directory / "sda-pt.parted").write_text("Disk /dev/sda: 500s\n")
    (directory / "sda-pt.sf").write_text(
        "label: dos\ndevice: /dev/sda\n"
        "/dev/sda1 : start=31, size=200, type=83\n/dev/sda2 : start=300, size=110, type=7\n"
    )
    disk = bytearray(500 * _SECTOR)
    for start, data in ((0, mbr), (1, hidden), (31, blocks.guest), (300, clusters.guest)):
        disk[start * _SECTOR : start * _SECTOR + len(data)] = data
    return {
        "laptop/sda1": _hash(blocks.guest),
        "laptop/sda2": _hash(clusters.guest),
        "laptop/sda.disk": _hash(bytes(disk)),
    }


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
