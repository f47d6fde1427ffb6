"""Two backups of one volume, of May and of June: between them some of its files were encrypted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

UUID = "7d4f5a9e-0f61-4a58-8a4c-2f4a3c1f9b11"


def write_months(place: Path, target: Path, photo: bytes = b"beach") -> None:
    """Write `may.img` and `june.img`, as partclone makes them.

    Args:
        place: a directory for what is needed meanwhile.
        target: where the images go.
        photo: what a photo holds that is deleted in June.
    """
    home = place / "content" / "home" / "anna"
    home.mkdir(parents=True)
    (home / "thesis.odt").write_text("words\n" * 900)
    (home / "notes.txt").write_text("notes\n" * 900)
    (home / "letter.txt").write_text("Dear\n" * 20_000)
    (home / "list.txt").write_text("eggs\n")
    (home / "beach.jpg").write_bytes(photo)
    _stamp(home, 1_714_500_900)
    _save(place, target / "may.img", "20240501000000")
    (home / "thesis.odt").write_text("words\n" * 1000)
    (home / "notes.txt").write_text("few notes\n")
    (home / "letter.txt").write_bytes(os.urandom(100_000))
    (home / "list.txt").rename(home / "list.txt.locked")
    (home / "beach.jpg").unlink()
    # What encrypts may leave the times as they were: of those that it renames.
    for name in ("thesis.odt", "notes.txt", "letter.txt"):
        os.utime(home / name, (1_717_179_300, 1_717_179_300))
    _save(place, target / "june.img", "20240601000000")


def _stamp(directory: Path, moment: int) -> None:
    for path in directory.iterdir():
        os.utime(path, (moment, moment))


def _save(place: Path, image: Path, stamp: str) -> None:
    raw = place / "volume.raw"
    raw.unlink(missing_ok=True)
    raw.touch()
    os.truncate(raw, 24 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, "-d", place / "content", raw)
    # The superblock tells when the volume was last written.
    quiet("debugfs", "-w", "-R", f"set_super_value wtime {stamp}", raw)
    quiet("partclone.extfs", "-c", "-s", raw, "-o", image, "-L", place / "log")
