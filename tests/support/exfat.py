"""Mounting exFAT by exfat-fuse, for this kernel may have no driver."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from support.unmounting import wait_until_free
from support.volumes import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def exfat_fuse(raw: Path, point: Path, options: str = "rw") -> Iterator[Path]:
    """Mount an exFAT in a file; it wants a block device."""
    point.mkdir(exist_ok=True)
    words = ["losetup", "--find", "--show", str(raw)]
    device = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    try:
        quiet("mount.exfat-fuse", "-o", options, device, point)
    except BaseException:
        quiet("losetup", "-d", device)
        raise
    try:
        yield point
    finally:
        quiet("sync", "-f", point)
        subprocess.run(["umount", point], check=True)
        # It goes when the last that has it open closes it.
        quiet("losetup", "-d", device)
        wait_until_free(raw)
