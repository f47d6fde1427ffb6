"""Every legal way to make a QCOW2, above and below every other: what QEMU's own tools read."""

from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.opening import open_image
from support.virtual_disks import KIB, MIB, changes, guest_of, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak

SIZE = 5 * MIB + 512
CLUSTERS = ("512", "1k", "4k", "16k", "64k", "256k", "2M")
HOWS = [
    ",".join(filter(None, each))
    for each in itertools.product(
        [f"cluster_size={size}" for size in CLUSTERS],
        ("compat=0.10", "compat=1.1"),
        ("", "compression_type=zstd"),
        ("", "extended_l2=on"),
        ("", "data_file=DATA,data_file_raw=off", "data_file=DATA,data_file_raw=on"),
    )
]


def create(path: Path, how: str, below: tuple[str, str] | None, size: int) -> bool:
    """Make an image; tell whether QEMU finds that it can be."""
    backing = ["-b", below[0], "-F", below[1]] if below else []
    options = how.replace("DATA", f"{path}.data")
    found = subprocess.run(
        ["qemu-img", "create", "-f", "qcow2", *backing, "-o", options, path, str(size)],
        capture_output=True, check=False,
    )  # fmt: skip
    return found.returncode == 0


@pytest.mark.parametrize("number", range(len(HOWS)))
def test_a_chain_of_three(number: int, tmp_path: Path) -> None:
    write_raw(tmp_path / "base", SIZE, number, writes=8)
    below, made = ("base", "raw"), []
    # Each is on top once, above two that are far from it in the list.
    for level, step in enumerate((29, 13, 0)):
        path = tmp_path / f"level{level}"
        how = HOWS[(number + step) % len(HOWS)]
        size = SIZE + level * 70 * KIB
        if not create(path, how, None if "data_file_raw=on" in how else below, size):
            continue
        for snapshot in range(2 if "data_file" not in how else 0):
            qemu_io(path, "qcow2", changes(SIZE, number * 7 + level + snapshot, 6))
            qemu_img("snapshot", "-c", f"s{snapshot}", path)
        qemu_io(path, "qcow2", changes(SIZE, number * 11 + level, 8))
        made.append(path)
        below = (path.name, "qcow2")
    for path in made:
        guest = guest_of(path, "qcow2")
        with open_image(path) as image:
            assert image.size == len(guest)
            assert image.read(0, image.size) == guest
