"""Image directories of disks, laid out as Clonezilla lays them out, with the tools that it uses.

No loop device and no mount is needed: each partition is made in a file of its own, filled by tools
that write file systems directly, and copied to its place on the disk.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

from .volumes import MIB, mounted, quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SECTOR = 512
SAVED_AT = "2026-02-03 04:05:06 UTC"
SAVED_BY = "clonezilla-live-3.2.0-5-amd64"
_COMPRESSORS = {
    "zst": ("zstd", "-q", "-c", "-3"),
    "gz": ("gzip", "-c", "-1"),
    "xz": ("xz", "-c", "-1"),
    "uncomp": ("cat",),
}
_FDISK_TYPES = {
    "gpt": {"swap": "S", "raw": "L", "ext4": "L", "xfs": "L", "vfat": "U",
            "ntfs": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
    "dos": {"swap": "82", "raw": "83", "ext4": "83", "xfs": "83", "vfat": "c", "ntfs": "7",
            "extended": "5"},
}  # fmt: skip
_PARTCLONE = {
    "ext4": "partclone.extfs",
    "vfat": "partclone.vfat",
    "ntfs": "partclone.ntfs",
    "xfs": "partclone.xfs",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A partition to be made.

    Attributes:
        kind: ``ext4``, ``xfs`` (which needs a loop device), ``vfat``, ``ntfs``, ``swap``, ``raw``
            or ``extended``.
        size: bytes.
        saver: ``partclone``, ``ntfsclone`` or ``dd`` (partclone.dd); swap is never saved.
        compression: the suffix that Clonezilla uses: ``zst``, ``gz``, ``xz``, ``uncomp``.
        split: bytes of a chunk, None for one file.
    """

    kind: str
    size: int
    saver: str = "partclone"
    compression: str = "zst"
    split: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SavedPartition:
    """A partition as it was.

    Attributes:
        part: how it was made and saved.
        start: its first byte on the disk.
        raw: a file with its bytes.
        image: the file that its image begins with, None where none was saved.
    """

    part: Part
    start: int
    raw: Path
    image: Path | None


@dataclasses.dataclass(frozen=True, slots=True)
class SavedDisk:
    """A disk and the directory that it was saved in.

    Attributes:
        directory: the image directory.
        disk: the original disk, a sparse file.
        name: what the disk is called in the directory.
        partitions: its partitions, by name; without the extended one.
    """

    directory: Path
    disk: Path
    name: str
    partitions: Mapping[str, SavedPartition]


GPT_PARTS = (
    Part("vfat", 40 * MIB, compression="gz"),
    Part("ext4", 48 * MIB, split=200_000),
    Part("ntfs", 32 * MIB, compression="uncomp"),
    Part("swap", 16 * MIB),
    Part("raw", 3 * MIB, saver="dd"),
)
"""A disk with a GPT: every way of saving, split and not."""

DOS_PARTS = (
    Part("ntfs", 32 * MIB, saver="ntfsclone", compression="gz", split=400_000),
    Part("extended", 120 * MIB),
    Part("ext4", 48 * MIB),
    Part("swap", 16 * MIB),
    Part("ext4", 40 * MIB, compression="xz", split=300_000),
)
"""A disk with an MBR: a primary partition, and three logical ones."""


def write_directory(
    where: Path,
    parts: Sequence[Part],
    *,
    label: str,
    name: str = "sda",
    size: int = 200 * MIB,
    image_name: str = "2026-02-03-04-img",
) -> SavedDisk:
    """Make a disk, and save it.

    Args:
        where: an empty directory, in which everything is made.
        parts: its partitions; after an extended one, logical partitions follow.
        label: ``gpt`` or ``dos``.
        name: what Clonezilla would call the disk.
        size: bytes of the disk.
        image_name: name of the image directory.
    """
    disk = where / f"{name}.disk"
    with disk.open("wb") as file:
        file.truncate(size)
    _partition(disk, parts, label)
    directory = where / image_name
    directory.mkdir()
    made: dict[str, tuple[Part, int, Path]] = {}
    for number, start, part in _places(disk, parts):
        partition = f"{_prefix(name)}{number}"
        if part.kind == "extended":
            (directory / f"{partition}-ebr").write_bytes(_read(disk, start, SECTOR))
            continue
        raw = where / f"{partition}.raw"
        _make(part, raw, where)
        quiet("dd", f"if={raw}", f"of={disk}", "bs=1M", f"seek={start}", "oflag=seek_bytes",
              "conv=notrunc,sparse")  # fmt: skip
        made[partition] = part, start, raw
    # All at once, since partclone sleeps for two seconds when it is done.
    with concurrent.futures.ThreadPoolExecutor(len(made)) as pool:
        saving = {
            partition: pool.submit(_save, part, partition, raw, directory)
            for partition, (part, _, raw) in made.items()
        }
    partitions = {
        partition: SavedPartition(part, start, raw, saving[partition].result())
        for partition, (part, start, raw) in made.items()
    }
    _write_lists(directory, name, partitions)
    _write_table(directory, disk, name, label)
    return SavedDisk(directory, disk, name, partitions)


def _prefix(disk: str) -> str:
    """Return what the names of a disk's partitions begin with."""
    return f"{disk}p" if disk[-1].isdigit() else disk


def write_sums(directory: Path, program: str = "md5sum") -> Path:
    """Let a program of coreutils write the sums of every file in the directory."""
    names = sorted(path.name for path in directory.iterdir())
    result = subprocess.run(
        [program, *names], cwd=directory, check=True, capture_output=True, text=True
    )
    sums = directory / f"{program.removesuffix('sum').upper()}SUMS"
    sums.write_text(result.stdout)
    return sums


def _partition(disk: Path, parts: Sequence[Part], label: str) -> None:
    lines = [f"label: {label}"]
    number = 0
    for part in parts:
        number += 1
        line = f"size={part.size // SECTOR}, type={_FDISK_TYPES[label][part.kind]}"
        flag = ", bootable" if number == 1 and label == "dos" else ""
        if part.kind == "extended":
            number = 4
        lines.append(f"{disk}{number} : {line}{flag}")
    subprocess.run(
        ["sfdisk", "-q", disk], input="\n".join(lines) + "\n", text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    if label == "dos":
        # Boot code, and what a boot loader hides behind it; the table itself stays.
        generator = random.Random(20260203)
        with disk.open("r+b") as file:
            file.write(generator.randbytes(440))
            file.seek(SECTOR)
            file.write(generator.randbytes(60 * SECTOR))
            for _, start, part in _places(disk, parts):
                if part.kind == "extended":
                    file.seek(start)
                    file.write(generator.randbytes(446))


def _places(disk: Path, parts: Sequence[Part]) -> list[tuple[int, int, Part]]:
    """Return number, first byte and recipe of each partition, as sfdisk tells."""
    table = json.loads(quiet("sfdisk", "-J", disk))["partitiontable"]["partitions"]
    found = [(int(row["node"].removeprefix(str(disk))), row["start"] * SECTOR) for row in table]
    return [(*row, part) for row, part in zip(found, parts, strict=True)]


def _make(part: Part, raw: Path, where: Path) -> None:
    with raw.open("wb") as file:
        file.truncate(part.size)
    content = where / "content"
    if not content.exists():
        content.mkdir()
        generator = random.Random(1)
        for number in range(6):
            data = b"".join(b"%07d%09d" % (number, i) for i in range(generator.randrange(9000)))
            (content / f"file{number}.txt").write_bytes(data + generator.randbytes(120_000))
    if part.kind == "ext4":
        quiet("mkfs.ext4", "-q", "-F", "-d", content, raw)
    elif part.kind == "vfat":
        quiet("mkfs.vfat", raw)
        quiet("mcopy", "-i", raw, *sorted(content.iterdir()), "::")
    elif part.kind == "ntfs":
        quiet("mkntfs", "-q", "-F", "-Q", raw)
        for path in sorted(content.iterdir()):
            quiet("ntfscp", "-f", raw, path, path.name)
    elif part.kind == "xfs":
        quiet("mkfs.xfs", "-q", "-f", raw)
        point = where / "filled"
        with mounted(["mount", "-o", "loop", raw, point], point):
            shutil.copytree(content, point, dirs_exist_ok=True)
    elif part.kind == "swap":
        quiet("mkswap", "-L", "swap", "-U", "0b8b2c1e-1111-4222-8333-444455556666", raw)
    else:
        raw.write_bytes(random.Random(part.size).randbytes(part.size))


def _save(part: Part, name: str, raw: Path, directory: Path) -> Path | None:
    if part.kind == "swap":
        (directory / f"swappt-{name}.info").write_text(
            'UUID="0b8b2c1e-1111-4222-8333-444455556666"\nLABEL="swap"\n'
        )
        return None
    plain = directory / f"{name}.plain.tmp"
    log = directory / f"{name}.partclone.tmp"
    if part.saver == "ntfsclone":
        base = f"{name}.ntfs-img"
        quiet("ntfsclone", "--save-image", "-q", "-o", plain, raw)
    elif part.saver == "dd":
        base = f"{name}.dd-ptcl-img.{part.compression}"
        quiet("partclone.dd", "-s", raw, "-o", plain, "-L", log)
    else:
        base = f"{name}.{part.kind}-ptcl-img.{part.compression}"
        quiet(_PARTCLONE[part.kind], "-c", "-s", raw, "-o", plain, "-L", log)
    log.unlink(missing_ok=True)
    image = directory / base
    with plain.open("rb") as source, image.open("wb") as target:
        subprocess.run(_COMPRESSORS[part.compression], stdin=source, stdout=target, check=True)
    plain.unlink()
    if part.split is None and part.saver != "ntfsclone":
        return image
    quiet("split", "-a", 2, "-b", part.split or image.stat().st_size, image, f"{image}.")
    image.unlink()
    return directory / f"{base}.aa"


def _write_lists(directory: Path, name: str, partitions: Mapping[str, SavedPartition]) -> None:
    saved = [partition for partition, found in partitions.items() if found.image is not None]
    (directory / "disk").write_text(f"{name}\n")
    (directory / "parts").write_text(" ".join(saved) + "\n")
    (directory / "dev-fs.list").write_text(
        "# <Device name>   <File system>   <Size>\n"
        "# File system is got from ocs-get-part-info. It might be different from that of blkid.\n"
        + "".join(
            f"/dev/{partition} {found.part.kind} {found.part.size // MIB}M\n"
            for partition, found in partitions.items()
        )
    )
    (directory / "blkid.list").write_text(
        "".join(
            quiet("blkid", found.raw).replace(str(found.raw), f"/dev/{partition}")
            for partition, found in partitions.items()
            if found.part.kind != "raw"
        )
    )
    (directory / "clonezilla-img").write_text(
        f"This image was saved by Clonezilla at {SAVED_AT}.\nSaved by {SAVED_BY}.\n"
        "The log during saving:\n----------------------------------------------------------\n"
    )
    (directory / "Info-saved-by-cmd.txt").write_text(
        f"/usr/sbin/ocs-sr -q2 -c -j2 -z9p -i 0 -sfsck -senc -p choose savedisk x {name}\n"
    )


def _write_table(directory: Path, disk: Path, name: str, label: str) -> None:
    size = disk.stat().st_size
    dump = quiet("sfdisk", "-d", disk).replace(f"device: {disk}", f"device: /dev/{name}")
    dump = dump.replace(str(disk), f"/dev/{_prefix(name)}")
    (directory / f"{name}-pt.sf").write_text(dump)
    for suffix, text in (("", f"{size // SECTOR}s"), (".compact", f"{size / 1e6:.0f}MB")):
        (directory / f"{name}-pt.parted{suffix}").write_text(
            f"Model: Virtio Block Device (virtblk)\nDisk /dev/{name}: {text}\n"
            f"Sector size (logical/physical): {SECTOR}B/{SECTOR}B\n"
            f"Partition Table: {'msdos' if label == 'dos' else label}\nDisk Flags: \n\n"
            "Number  Start  End  Size  File system  Name  Flags\n"
        )
    (directory / f"{name}-mbr").write_bytes(_read(disk, 0, SECTOR))
    if label == "gpt":
        (directory / f"{name}-gpt-1st").write_bytes(_read(disk, 0, 34 * SECTOR))
        last = 33 * SECTOR
        (directory / f"{name}-gpt-2nd").write_bytes(_read(disk, size - last, last))
        return
    first = json.loads(quiet("sfdisk", "-J", disk))["partitiontable"]["partitions"][0]["start"]
    (directory / f"{name}-hidden-data-after-mbr").write_bytes(
        _read(disk, SECTOR, (first - 1) * SECTOR)
    )
    (directory / f"{name}-chs.sf").write_text("cylinders=25\nheads=255\nsectors=63\n")


def _read(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def copy_directory(saved: SavedDisk, where: Path) -> SavedDisk:
    """Return the same disk in a copy of its directory, for tests that damage it."""
    directory = where / saved.directory.name
    shutil.copytree(saved.directory, directory)
    return dataclasses.replace(saved, directory=directory)
