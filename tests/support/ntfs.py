"""Making NTFS, and mounting it by ntfs-3g."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from support.unmounting import unmount
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def ntfs_3g(raw: Path, point: Path, options: str = "") -> Iterator[Path]:
    """Mount an NTFS in a file; other streams are extended attributes there."""
    point.mkdir(exist_ok=True)
    all_options = ",".join(filter(None, ["compression,streams_interface=xattr", options]))
    quiet("ntfs-3g", "-o", all_options, raw, point)
    try:
        yield point
    finally:
        unmount(point, raw)


def make(raw: Path, *options: str, size: int = 96 * MIB) -> None:
    """Make an NTFS in a file."""
    raw.touch()
    os.truncate(raw, size)
    quiet("mkfs.ntfs", "-q", "-F", "-f", *options, raw)
