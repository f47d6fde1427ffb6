"""A small image directory of Clonezilla without the tools: a disk of two partitions, in 256 KB."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from . import ntfsclone_writer, partclone_writer

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
FIRST, SECOND = 40, 300
"""The sectors that the partitions begin at."""

SECTORS = 500


class SmallDisk:
    """An image directory, and what its disk must read as.

    Args:
        directory: made here.
        seed: of the partitions' contents.

    Attributes:
        directory: the image directory.
        mbr: the saved MBR.
        guests: what the partitions hold, by name.
    """

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.directory = directory
        directory.mkdir()
        rng = random.Random(3)
        self.mbr = rng.randbytes(SECTOR)
        self.hidden = rng.randbytes((FIRST - 1) * SECTOR)
        self.guests: dict[str, bytes] = {}
        self.save_first(seed)
        self.save_second()
        files = {
            "sda-mbr": self.mbr,
            "sda-hidden-data-after-mbr": self.hidden,
            "disk": b"sda\n",
            "parts": b"sda1 sda2\n",
            "sda-pt.parted": b"Disk /dev/sda: %ds\n" % SECTORS,
            "sda-pt.sf": (
                b"label: dos\ndevice: /dev/sda\n"
                b"/dev/sda1 : start=%d, size=200, type=83\n"
                b"/dev/sda2 : start=%d, size=110, type=7\n" % (FIRST, SECOND)
            ),
        }
        for name, data in files.items():
            (directory / name).write_bytes(data)

    @property
    def first_image(self) -> Path:
        return self.directory / "sda1.ext4-ptcl-img.uncomp"

    @property
    def second_image(self) -> Path:
        return self.directory / "sda2.ntfs-img"

    def save_first(self, seed: int) -> None:
        """Save the first partition (anew); as a tool does it, in a file of its own."""
        written = partclone_writer.write(
            partclone_writer.Recipe(
                present=[n % 3 != 1 for n in range(200)], block_size=SECTOR,
                guest=random.Random(seed).randbytes(200 * SECTOR),
            )
        )  # fmt: skip
        _replace(self.first_image, written.image)
        self.guests["sda1"] = written.guest

    def save_second(self) -> None:
        written = ntfsclone_writer.write(
            ntfsclone_writer.Recipe(order=[*range(40), *range(60, 90)], cluster_count=99, tail=0)
        )
        _replace(self.second_image, written.image)
        self.guests["sda2"] = written.guest

    def disk(self) -> bytes:
        """Return what the disk must read as now."""
        whole = bytearray(SECTORS * SECTOR)
        for sector, data in (
            (0, self.mbr), (1, self.hidden), (FIRST, self.guests["sda1"]),
            (SECOND, self.guests["sda2"]),
        ):  # fmt: skip
            whole[sector * SECTOR : sector * SECTOR + len(data)] = data
        return bytes(whole)


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
