"""File systems with files in them, and their images, made by the real tools.

Each volume is made once in a session. Expected bytes come from `partclone.restore`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import random
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A file system that is made, filled, saved and checked.

    Attributes:
        name: for the test's id.
        size: bytes of the volume.
        mkfs: makes it in a file.
        save: the partclone program.
        fs_type: what partclone calls it.
        mount: how its files are read through a loop device, None where this machine cannot.
        fill: how files get in; None leaves it empty.
        check: the file system's checker, without writing.
        check_needs_device: the checker wants a block device.
    """

    name: str
    size: int
    mkfs: tuple[str, ...]
    save: str
    fs_type: str
    mount: tuple[str, ...] | None
    fill: str | None
    check: tuple[str, ...]


def _mount(kind: str, options: str = "") -> tuple[str, ...]:
    return ("mount", "-t", kind, "-o", ",".join(filter(None, ("loop,ro", options))))


KINDS = [
    Kind(
        "ext4", 96 * MIB, ("mkfs.ext4", "-q", "-F", "-b", "4096"), "partclone.ext4", "EXTFS",
        _mount("ext4", "noload"), "mount", ("e2fsck", "-fn"),
    ),
    Kind(
        "ext2-1k", 40 * MIB, ("mkfs.ext2", "-q", "-F", "-b", "1024"), "partclone.ext2", "EXTFS",
        _mount("ext2"), "mount", ("e2fsck", "-fn"),
    ),
    Kind(
        "ntfs", 64 * MIB + 512, ("mkfs.ntfs", "-q", "-F", "-f"), "partclone.ntfs", "NTFS",
        ("ntfs-3g", "-o", "ro"), "ntfs-3g", ("ntfsresize", "--info", "--force"),
    ),
    Kind(
        "fat32", 80 * MIB, ("mkfs.vfat", "-F", "32"), "partclone.fat32", "FAT32",
        None, "mcopy", ("fsck.fat", "-n"),
    ),
    Kind(
        "exfat", 48 * MIB, ("mkfs.exfat",), "partclone.exfat", "EXFAT",
        None, None, ("fsck.exfat", "-n"),
    ),
    Kind(
        "xfs", 320 * MIB, ("mkfs.xfs", "-q", "-f"), "partclone.xfs", "XFS",
        _mount("xfs", "norecovery,nouuid"), "mount", ("xfs_repair", "-n", "-f"),
    ),
    Kind(
        "btrfs", 128 * MIB, ("mkfs.btrfs", "-q", "-f"), "partclone.btrfs", "BTRFS",
        _mount("btrfs"), "mount", ("btrfs", "check", "--readonly", "--force"),
    ),
    Kind(
        "f2fs", 128 * MIB, ("mkfs.f2fs", "-q", "-f"), "partclone.f2fs", "F2FS",
        None, None, ("fsck.f2fs", "--dry-run"),
    ),
]  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A saved volume.

    Attributes:
        kind: what it is.
        raw: the volume itself.
        image: partclone's image of it.
        restored: what `partclone.restore` makes of the image, of the volume's exact size.
        files: sha256 of each file inside, by path.
    """

    kind: Kind
    raw: Path
    image: Path
    restored: Path
    files: dict[str, str]


def make_volume(kind: Kind, directory: Path) -> Volume:
    """Make the volume, fill it, save it and restore it."""
    raw = directory / f"{kind.name}.raw"
    image = directory / f"{kind.name}.img"
    restored = directory / f"{kind.name}.restored"
    with raw.open("wb") as file:
        file.truncate(kind.size)
    quiet(*kind.mkfs, raw)
    files = _fill(kind, raw, directory)
    log = directory / "partclone.log"
    quiet(kind.save, "-c", "-s", raw, "-o", image, "-L", log)
    with restored.open("wb") as file:
        file.truncate(kind.size)
    quiet("partclone.restore", "-s", image, "-O", restored, "-C", "-W", "-L", log)
    with restored.open("r+b") as file:
        file.truncate(kind.size)
    return Volume(kind, raw, image, restored, files)


def _fill(kind: Kind, raw: Path, directory: Path) -> dict[str, str]:
    if kind.fill is None:
        return {}
    content = directory / f"{kind.name}.content"
    hashes = _write_files(content)
    if kind.fill == "mcopy":
        quiet("mcopy", "-s", "-i", raw, *sorted(content.iterdir()), "::")
        return hashes
    point = directory / f"{kind.name}.fill"
    point.mkdir()
    command = ["ntfs-3g", raw, point] if kind.fill == "ntfs-3g" else [
        "mount", "-o", "loop", raw, point,
    ]  # fmt: skip
    with mounted(command, point):
        quiet("cp", "-r", f"{content}/.", point)
        # Holes in the used blocks: some files go again.
        quiet("rm", "-r", point / "gone")
    return {path: sha for path, sha in hashes.items() if not path.startswith("gone/")}


def _write_files(content: Path) -> dict[str, str]:
    """Write files of several sizes whose every 16 bytes name file and offset."""
    generator = random.Random(20261121)
    hashes = {}
    for directory, count in (("keep", 40), ("gone", 40)):
        (content / directory).mkdir(parents=True)
        for number in range(count):
            size = generator.choice([0, 1, 511, 4096, 4097, 70_000, 400_000])
            name = f"{directory}/f{number:02d}"
            data = b"".join(
                b"%-7s%09d" % (name[-7:].encode(), offset) for offset in range(0, size, 16)
            )[:size]
            (content / name).write_bytes(data)
            hashes[name] = hashlib.sha256(data).hexdigest()
    return hashes


@contextlib.contextmanager
def mounted(command: list[object], point: Path) -> Iterator[Path]:
    """Run a mount command, and unmount at the end of the block."""
    point.mkdir(exist_ok=True)
    quiet(*command)
    try:
        yield point
    finally:
        quiet("umount", point)


def quiet(*command: object) -> str:
    """Run a command; it must succeed. Return what it printed."""
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{command}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
