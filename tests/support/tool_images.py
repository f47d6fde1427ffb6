"""Images of a volume in a file, saved by the real tools."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from support.volumes import quiet

if TYPE_CHECKING:
    from pathlib import Path


def partimage(raw: Path, place: Path) -> Path:
    """Save a volume with partimage; it wants a block device."""
    device = quiet("losetup", "--find", "--show", raw).strip()
    try:
        # It wants to know the terminal, also where it has nothing to draw.
        quiet(
            "env", "TERM=vt100", "partimage", "-b", "-z0", "-o", "-d", "-c", "save", device,
            place / raw.stem,
        )  # fmt: skip
    finally:
        quiet("losetup", "--detach", device)
    return place / f"{raw.stem}.000"


def ntfsclone(raw: Path, place: Path) -> Path:
    """Save a volume with ntfsclone."""
    image = place / f"{raw.stem}.img"
    quiet("ntfsclone", "--save-image", "-o", image, raw)
    return image


def ntfsclone_through_gzip(raw: Path, place: Path) -> Path:
    """Save a volume with ntfsclone into a pipe."""
    image = place / f"{raw.stem}.img.gz"
    with image.open("wb") as file:
        saving = subprocess.Popen(
            ["ntfsclone", "--save-image", "-o", "-", raw],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        subprocess.run(["gzip"], stdin=saving.stdout, stdout=file, check=True)
        assert saving.stdout is not None
        saving.stdout.close()
        assert saving.wait() == 0
    return image


def partclone(raw: Path, place: Path, program: str) -> Path:
    """Save a volume with the partclone of its file system."""
    image = place / f"{raw.stem}.img"
    quiet(program, "-c", "-s", raw, "-o", image, "-L", place / "log")
    return image
