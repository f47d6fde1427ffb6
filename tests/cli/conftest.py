"""What tests of several commands look into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.shelf import build_shelf
from support.virtual_disks import MIB, changes, qemu_img, qemu_io, write_raw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    """A disk with every kind of cluster, over a raw one."""
    base = write_raw(tmp_path / "base.raw", 6 * MIB, 3)
    base.write_bytes(base.read_bytes())
    packed = tmp_path / "packed.qcow2"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", base, packed)
    path = tmp_path / "vm.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", "packed.qcow2", "-F", "qcow2", path)
    qemu_io(path, "qcow2", changes(6 * MIB, 4, 10))
    return path


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Images in folders."""
    return build_shelf(tmp_path / "shelf")
