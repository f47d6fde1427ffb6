"""Which commands check, mount and look into a file system, by the name that an image gives it."""

from __future__ import annotations

import dataclasses
import shlex
from typing import NamedTuple

IMAGE, DIRECTORY = "{image}", "{directory}"
"""What stands in a command for the image's path, and for a directory of the user's."""


class Look(NamedTuple):
    """A command that needs no root.

    Attributes:
        purpose: what it does.
        words: the command; what the shell does with its output comes after it.
        package: the Debian package that it is in.
        tail: how the shell goes on, as ``> OUT``.
    """

    purpose: str
    words: tuple[str, ...]
    package: str
    tail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class FileSystem:
    """The tools for one file system.

    Attributes:
        check: a command that checks it without writing, or None where there is none.
        mount_type: what ``mount -t`` takes, or None where Linux cannot mount it.
        mount_options: options beside ``loop`` and ``ro``.
        package: the Debian package with the tools.
        looks: what a user can do without root.
    """

    check: tuple[str, ...] | None
    mount_type: str | None
    mount_options: str = ""
    package: str = ""
    looks: tuple[Look, ...] = ()


_SEVEN_ZIP = (
    Look("list all", ("7z", "l", IMAGE), "p7zip-full"),
    Look("copy one", ("7z", "e", IMAGE, "PATH"), "p7zip-full"),
    Look("copy all", ("7z", "x", f"-o{DIRECTORY}", IMAGE), "p7zip-full"),
)
_OF_EXT = (
    Look("mount", ("fuse2fs", "-o", "ro,fakeroot,norecovery", IMAGE, DIRECTORY), "fuse2fs"),
    Look("list", ("debugfs", "-R", "ls -l /", IMAGE), "e2fsprogs"),
    Look("copy one", ("debugfs", "-R", "dump /PATH OUT", IMAGE), "e2fsprogs"),
)
_OF_NTFS = (
    Look("list", ("ntfsls", "-f", "-p", "/", IMAGE), "ntfs-3g"),
    Look("copy one", ("ntfscat", "-f", IMAGE, "/PATH"), "ntfs-3g", "> OUT"),
    *_SEVEN_ZIP,
)
_OF_FAT = (
    Look("list", ("mdir", "-i", IMAGE, "::/"), "mtools"),
    Look("copy one", ("mcopy", "-i", IMAGE, "::/PATH", "OUT"), "mtools"),
    Look("copy all", ("mcopy", "-s", "-i", IMAGE, "::/", DIRECTORY), "mtools"),
)
_OF_BTRFS = (Look("copy all", ("btrfs", "restore", IMAGE, DIRECTORY), "btrfs-progs"),)

_EXT = FileSystem(("e2fsck", "-fn"), "ext4", "noload", "e2fsprogs", _OF_EXT)
_FAT = FileSystem(("fsck.fat", "-n"), "vfat", "", "dosfstools", _OF_FAT)

FILE_SYSTEMS = {
    "EXTFS": _EXT,
    # Not ntfsfix: it also wants the backup boot sector, which partclone leaves out of its images.
    "NTFS": FileSystem(("ntfsresize", "--info", "--force"), "ntfs-3g", "", "ntfs-3g", _OF_NTFS),
    # As blkid calls them, and so `add`.
    "EXT2": _EXT,
    "EXT3": _EXT,
    "EXT4": _EXT,
    "VFAT": _FAT,
    # As partimage calls them.
    "EXT2FS": _EXT,
    "EXT3FS": _EXT,
    "FAT12": _FAT,
    "FAT16": _FAT,
    "FAT32": _FAT,
    "EXFAT": FileSystem(("fsck.exfat", "-n"), "exfat", "", "exfatprogs"),
    "XFS": FileSystem(("xfs_repair", "-n", "-f"), "xfs", "norecovery,nouuid", "xfsprogs"),
    "BTRFS": FileSystem(("btrfs", "check", "--readonly"), "btrfs", "", "btrfs-progs", _OF_BTRFS),
    "F2FS": FileSystem(("fsck.f2fs", "--dry-run"), "f2fs", "", "f2fs-tools"),
    "HFS PLUS": FileSystem(("fsck.hfsplus", "-n"), "hfsplus", "", "hfsprogs"),
    "HFSPLUS": FileSystem(("fsck.hfsplus", "-n"), "hfsplus", "", "hfsprogs"),
    "MINIX": FileSystem(("fsck.minix",), "minix", "", "util-linux"),
    "REISERFS": FileSystem(("reiserfsck", "--check"), "reiserfs", "", "reiserfsprogs"),
    "NILFS": FileSystem(None, "nilfs2", "norecovery", "nilfs-tools"),
    "JFS": FileSystem(("fsck.jfs", "-n"), "jfs", "", "jfsutils"),
    "UFS": FileSystem(None, "ufs", "ufstype=ufs2", ""),
}


def check_command(fs_type: str, path: str) -> str | None:
    """Return the shell command that checks the file system in `path`, None if none is known."""
    known = FILE_SYSTEMS.get(fs_type.upper())
    if known is None or known.check is None:
        return None
    return shlex.join([*known.check, path])


def mount_command(fs_type: str, path: str, directory: str = "/mnt") -> str | None:
    """Return the shell command that mounts the file system in `path`, None if none is known."""
    known = FILE_SYSTEMS.get(fs_type.upper())
    if known is None or known.mount_type is None:
        return None
    options = ",".join(filter(None, ["loop", "ro", known.mount_options]))
    return shlex.join(["mount", "-t", known.mount_type, "-o", options, path, directory])
