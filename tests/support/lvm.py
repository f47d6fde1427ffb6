"""Volume groups made by LVM2's own tools, without a device-mapper: they write metadata alone.

What a volume's bytes are is then put where `lvs` says that they belong.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from .volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_CONFIG = """
devices {{ dir="/dev" scan=["/dev"] filter=[{filters} "r|.*|"] use_devicesfile=0 hints="none"
    sysfs_scan=0 md_component_detection=0 multipath_component_detection=0
    obtain_device_list_from_udev=0 external_device_info_source="none" }}
activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}
backup {{ backup=0 archive=0 }}
global {{ activation=0 use_lvmpolld=0 event_activation=0 locking_dir="{home}/lock" }}
"""
_PLACE = re.compile(r"(/dev/loop\d+)\((\d+)\)")


class Place(NamedTuple):
    """Bytes ``[start, start + size)`` of a file, or all of it from `start` on."""

    path: Path
    start: int = 0
    size: int | None = None


class Lvm:
    """LVM2's tools, and the physical volumes that they may see.

    Attributes:
        devices: the loop devices, one for each place.
    """

    def __init__(self, home: Path, places: Sequence[Place], devices: Sequence[str]) -> None:
        self.devices = devices
        self._places = dict(zip(devices, places, strict=True))
        self._home = home
        filters = "".join(f'"a|^{device}$|", ' for device in devices)
        (home / "lvm.conf").write_text(_CONFIG.format(filters=filters, home=home))

    def run(self, *command: object) -> str:
        """Run one of the tools; it must succeed. Return what it printed."""
        result = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False,
            env=os.environ | {"LVM_SYSTEM_DIR": str(self._home), "LVM_SUPPRESS_FD_WARNINGS": "1"},
        )  # fmt: skip
        assert result.returncode == 0, (command, result.stdout, result.stderr)
        return result.stdout

    def group(self, name: str = "vg", *options: object) -> None:
        """Make a volume group of all devices, with extents of 1 MiB."""
        for device in self.devices:
            self.run("pvcreate", "-q", device)
        self.run("vgcreate", "-q", "-s", "1M", *options, name, *self.devices)

    def volume(
        self, name: str, size: int, *options: object, group: str = "vg", on: Sequence[str] = ()
    ) -> None:
        """Make a logical volume of so many MiB, on some devices alone if any are named."""
        words = ("lvcreate", "-q", "-an", "-Zn", "-Wn", "-n", name, "-L", f"{size}M")
        self.run(*words, *options, group, *on)

    def edit(self, change: tuple[str, str], group: str = "vg") -> None:
        """Change the text of a group's metadata, and write it as `vgcfgrestore` does."""
        backup = self._home / "backup"
        self.run("vgcfgbackup", "-f", backup, group)
        text = backup.read_text()
        assert change[0] in text
        backup.write_text(text.replace(*change))
        self.run("vgcfgrestore", "--force", "-f", backup, group)

    def report(self, command: str, fields: str, *options: object) -> list[dict[str, str]]:
        """Return what `lvs`, `pvs` or `vgs` tells, in bytes."""
        words = (command, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields)
        (report,) = json.loads(self.run(*words, *options))["report"]
        # By what the rows are of: volumes, groups, or segments.
        (found,) = report.values()
        return list(found)

    def write(self, name: str, data: bytes, group: str = "vg") -> None:
        """Put the bytes of a volume where `lvs` and `pvs` say that they lie."""
        starts = {
            row["pv_name"]: int(row["pe_start"]) for row in self.report("pvs", "pv_name,pe_start")
        }
        (extent,) = (
            int(row["vg_extent_size"]) for row in self.report("vgs", "vg_extent_size", group)
        )
        fields = "seg_start,seg_size,stripes,stripe_size,devices"
        written = 0
        for row in self.report("lvs", fields, "--segments", f"{group}/{name}"):
            at, size = int(row["seg_start"]), int(row["seg_size"])
            columns = _PLACE.findall(row["devices"])
            assert len(columns) == int(row["stripes"])
            stripe = int(row["stripe_size"]) or size
            for number, start in enumerate(range(at, at + size, stripe)):
                device, first = columns[number % len(columns)]
                place = self._places[device]
                offset = place.start + starts[device] + int(first) * extent
                offset += number // len(columns) * stripe
                piece = data[start : start + stripe]
                with place.path.open("r+b") as file:
                    file.seek(offset)
                    written += file.write(piece)
        assert written == len(data)


@contextlib.contextmanager
def lvm_on(home: Path, *places: Place) -> Iterator[Lvm]:
    """Give LVM2's tools, which see these places as devices.

    Args:
        home: a directory for what they need.
        places: where physical volumes lie, or shall.
    """
    home.mkdir(exist_ok=True)
    devices: list[str] = []
    try:
        for each in places:
            words = ["losetup", "-f", "--show", "-o", each.start]
            words += [] if each.size is None else ["--sizelimit", each.size]
            devices.append(quiet(*words, each.path).strip())
        yield Lvm(home, places, devices)
    finally:
        for device in devices:
            quiet("losetup", "-d", device)


def disk_of(path: Path, *sizes: int) -> list[Place]:
    """Make a disk of partitions of so many MiB, and return their places."""
    path.touch()
    os.truncate(path, (sum(sizes) + 2) * MIB)
    lines = ["label: gpt", *(f"size={size}MiB, type=lvm" for size in sizes)]
    subprocess.run(["sfdisk", "-q", path], input="\n".join(lines), text=True, check=True)
    starts = [1 + sum(sizes[:number]) for number in range(len(sizes))]
    return [Place(path, start * MIB, size * MIB) for start, size in zip(starts, sizes, strict=True)]


def empty(path: Path, size: int) -> Place:
    """Make a file of so many MiB of zeros."""
    path.touch()
    os.truncate(path, size * MIB)
    return Place(path)


def grub(disk: Path, *words: str) -> str:
    """Return what GRUB tells, whose own reader of LVM2 knows a volume as ``lvm/vg-root``."""
    # As Fedora calls it.
    program = "grub-fstest" if shutil.which("grub-fstest") else "grub2-fstest"
    return quiet(program, disk, *words)
