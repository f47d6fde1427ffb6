"""Which file systems are read, and which are refused by name: decided before anything is parsed.

Each feature that says "who does not know me must not read" is in a table here, and in a test. What
is in none is refused: a new feature is one that today's code has not been tried with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..formats.superblocks.file_system import Journal
from .errors import RefusedError

if TYPE_CHECKING:
    from ..formats.superblocks.file_system import FileSystem

EXT = ("ext2", "ext3", "ext4")

EXT_INCOMPAT = {
    0x1: "compression",
    0x8: "journal_dev",
    0x1000: "dirdata",
}
"""Features of ext that are refused. 0x4, needs_recovery, is a matter of the journal."""

EXT_INCOMPAT_READ = {
    0x2: "filetype", 0x4: "needs_recovery", 0x10: "meta_bg", 0x40: "extent", 0x80: "64bit",
    0x100: "mmp", 0x200: "flex_bg", 0x400: "ea_inode", 0x2000: "metadata_csum_seed",
    0x4000: "large_dir", 0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold",
}  # fmt: skip
"""Features of ext that are read; encrypted files are refused one by one."""

EXT_RO_COMPAT = {0x80: "has_snapshot", 0x800: "replica"}
EXT_RO_COMPAT_READ = {
    0x1: "sparse_super", 0x2: "large_file", 0x4: "btree_dir", 0x8: "huge_file", 0x10: "uninit_bg",
    0x20: "dir_nlink", 0x40: "extra_isize", 0x100: "quota", 0x200: "bigalloc",
    0x400: "metadata_csum", 0x1000: "read-only", 0x2000: "project", 0x4000: "shared_blocks",
    0x8000: "verity", 0x10000: "orphan_present",
}  # fmt: skip

XFS_VERSIONS = (4, 5)
XFS_VERSION = {0x200: "shared"}
XFS_VERSION_READ = {
    0x10: "attr", 0x20: "nlink", 0x40: "quota", 0x80: "align", 0x100: "dalign", 0x400: "logv2",
    0x800: "sector", 0x1000: "extflg", 0x2000: "dirv2", 0x4000: "ascii-ci", 0x8000: "morebits",
}  # fmt: skip
"""Bits beside the number of the version, of version 4; those of version 5 have them too."""

XFS_VERSION_NEEDED = {0x1000: "extflg", 0x2000: "dirv2"}
"""Without them, extents and directories are others."""

XFS_FEATURES_2 = {0x10: "parent", 0x100: "crc"}
XFS_FEATURES_2_READ = {0x2: "lazysbcount", 0x8: "attr2", 0x80: "projid32bit", 0x200: "ftype"}
XFS_FEATURES_2_OF_5 = {0x100: "crc"}
"""The second word of version 4, and what version 5 has there beside it."""

XFS_INCOMPAT = {0x10: "needsrepair", 0x100: "metadir", 0x200: "zoned", 0x400: "zone_gaps"}
XFS_INCOMPAT_READ = {
    0x1: "ftype", 0x2: "sparse_inodes", 0x4: "meta_uuid", 0x8: "bigtime", 0x20: "nrext64",
    0x40: "exchange", 0x80: "parent",
}  # fmt: skip
XFS_RO_COMPAT: dict[int, str] = {}
XFS_RO_COMPAT_READ = {0x1: "finobt", 0x2: "rmapbt", 0x4: "reflink", 0x8: "inobtcount"}
XFS_LOG_INCOMPAT: dict[int, str] = {}
XFS_LOG_INCOMPAT_READ = {0x1: "log_xattrs"}
"""What only the log has, which has to be empty."""

NTFS_VERSIONS = ("3.0", "3.1")

_OTHERS_READ = {"xfs", "ntfs", "vfat", "exfat", "iso9660", "hfsplus"}

_OTHERS = {
    "hfs": "HFS, which may be around an HFS+,",
    "udf": "UDF",
    "btrfs": "Btrfs",
    "f2fs": "F2FS",
    "crypto_LUKS": "LUKS (it is encrypted)",
    "BitLocker": "BitLocker (it is encrypted)",
    "LVM2_member": "LVM (it holds volumes)",
    "zfs_member": "ZFS",
    "swap": "swap",
    "linux_raid_member": "a member of a RAID",
    "apfs": "APFS",
    "ufs": "UFS",
    "jfs": "JFS",
    "reiserfs": "ReiserFS",
    "nilfs2": "NILFS2",
    "minix": "Minix",
    "squashfs": "SquashFS",
    "erofs": "EROFS",
}

_WITHOUT_FILES = {"swap", "LVM2_member", "linux_raid_member"}
"""What is told by a superblock too, and has no files of its own that anybody could miss."""


class Passed(NamedTuple):
    """How a file system is read.

    Attributes:
        kind: its name, which tells the driver.
        options: for the driver.
        caveat: what is to be said with every listing; None where it is as it was meant to be.
        has_owners: whether its files have owners and modes.
    """

    kind: str
    options: dict[str, bool]
    caveat: str | None
    has_owners: bool


def is_read(kind: str | None) -> bool:
    """Tell whether file systems of a type are read, as far as their type tells."""
    return kind in EXT or kind in _OTHERS_READ


def has_files(kind: str) -> bool:
    """Tell whether what a superblock tells of has files of its own, read or not."""
    return kind not in _WITHOUT_FILES


def check(found: FileSystem | None, *, as_is: bool) -> Passed:
    """Decide whether a file system is read.

    Args:
        found: what its superblock tells, None where none is known.
        as_is: read it as it lies there, though its journal has not been replayed.

    Raises:
        RefusedError: it is not read; the message says why, and what can.
    """
    if found is None:
        raise RefusedError("volume", 0, "no file system that is known begins here")
    kind = found.type
    if kind in EXT:
        _check_bits(found, "incompat", EXT_INCOMPAT_READ, EXT_INCOMPAT)
        _check_bits(found, "ro_compat", EXT_RO_COMPAT_READ, EXT_RO_COMPAT)
    elif kind == "ntfs":
        version = found.detail.get("version")
        if version not in NTFS_VERSIONS:
            raise RefusedError("ntfs", 0, f"version {version or 'unknown'} is not read")
    elif kind == "xfs":
        _check_xfs(found)
    elif kind == "udf" and "iso9660" in found.features:
        return _check_bridge(found, as_is=as_is)
    elif kind not in _OTHERS_READ:
        raise RefusedError(kind, 0, f"{_OTHERS.get(kind, kind)} is not read: {_INSTEAD}")
    if kind in EXT and found.journal is Journal.REPLAY and not as_is:
        return Passed(kind, {"replay": True}, None, has_owners=True)
    caveat = _check_journal(found, as_is=as_is)
    return Passed(kind, {}, caveat, has_owners=_has_owners(found))


def _has_owners(found: FileSystem) -> bool:
    return found.type in {*EXT, "xfs", "hfsplus"} or found.detail.get("names") == "rock_ridge"


def _check_bridge(found: FileSystem, *, as_is: bool) -> Passed:
    """Decide on a disc that is UDF, and ISO 9660 beside it: that may lack files, or bytes."""
    what = "it is UDF too, which is not read"
    if not as_is:
        raise RefusedError(
            "udf", 0, f"{what}: --as-is reads its ISO 9660 side, which may have less in it"
        )
    caveat = f"{what}: its ISO 9660 side is read, which may have less in it"
    return Passed("iso9660", {}, caveat, has_owners=_has_owners(found))


_XFS_NUMBER = dict.fromkeys((1, 2, 4, 8), "a bit of the number")

_INSTEAD = "`imgcat show` prints what can"


def _check_bits(
    found: FileSystem, word: str, read: dict[int, str], refused: dict[int, str]
) -> None:
    bits = found.detail.get(word, 0)
    assert isinstance(bits, int)
    for number in range(32):
        bit = 1 << number
        if bits & bit and bit not in read:
            name = refused.get(bit, f"0x{bit:x}, which nobody here knows")
            raise RefusedError(found.type, 0, f"its {word} feature {name} is not read: {_INSTEAD}")


def _check_xfs(found: FileSystem) -> None:
    word = found.detail.get("version", 0)
    assert isinstance(word, int)
    version = word & 0xF
    if version not in XFS_VERSIONS:
        raise RefusedError("xfs", 0, f"version {version} is not read: {_INSTEAD}")
    _check_bits(found, "version", _XFS_NUMBER | XFS_VERSION_READ, XFS_VERSION)
    for bit, name in XFS_VERSION_NEEDED.items():
        if not word & bit:
            raise RefusedError("xfs", 0, f"without the feature {name} it is not read: {_INSTEAD}")
    of_5 = XFS_FEATURES_2_OF_5 if version == max(XFS_VERSIONS) else {}
    _check_bits(found, "features_2", XFS_FEATURES_2_READ | of_5, XFS_FEATURES_2)
    _check_bits(found, "incompat", XFS_INCOMPAT_READ, XFS_INCOMPAT)
    _check_bits(found, "ro_compat", XFS_RO_COMPAT_READ, XFS_RO_COMPAT)
    _check_bits(found, "log_incompat", XFS_LOG_INCOMPAT_READ, XFS_LOG_INCOMPAT)


def _check_journal(found: FileSystem, *, as_is: bool) -> str | None:
    if found.journal is Journal.REPLAY:
        what = "its journal was not replayed"
    elif found.journal is Journal.UNKNOWN:
        what = "what its journal holds cannot be told"
    elif found.type == "hfsplus" and found.is_dirty:
        # Nothing else tells whether its trees are as they were meant to be.
        what = "it was not unmounted"
    elif found.is_dirty:
        # There is nothing to replay, and nothing by which to tell what is missing.
        return "it is marked as not unmounted: what was written last may be missing"
    else:
        return None
    if not as_is:
        raise RefusedError(
            found.type, 0,
            f"{what}: what is listed may be older than what was written;"
            " --as-is reads it as it lies there",
        )  # fmt: skip
    return f"{what}: read as it lies there, which may be older than what was written"
