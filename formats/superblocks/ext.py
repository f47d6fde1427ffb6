"""ext2, ext3, ext4. Source: fs/ext4/ext4.h of Linux; the names of features are e2fsprogs'."""

from __future__ import annotations

import struct

from .file_system import FileSystem, Journal, feature_names, label_of, numbered, uuid_of

OFFSET = 1024
_SIZE = 1024
_MAGIC = 0xEF53
_HAS_JOURNAL, _NEEDS_RECOVERY, _JOURNAL_DEVICE = 0x4, 0x4, 0x8
_IS_CLEAN, _HAS_ERRORS = 1, 2
_64_BIT = 0x80
_LARGEST_LOG_BLOCK = 6

# What ext2 and ext3 know; all else makes it an ext4.
_OLD_INCOMPAT = 0x2 | 0x4 | 0x10
_OLD_RO_COMPAT = 0x1 | 0x2 | 0x4

_COMPAT = numbered([
    "dir_prealloc", "imagic_inodes", "has_journal", "ext_attr", "resize_inode", "dir_index",
    "lazy_bg", "", "snapshot_bitmap", "sparse_super2", "fast_commit", "stable_inodes",
    "orphan_file",
])  # fmt: skip
_INCOMPAT = numbered([
    "compression", "filetype", "needs_recovery", "journal_dev", "meta_bg", "", "extent", "64bit",
    "mmp", "flex_bg", "ea_inode", "", "dirdata", "metadata_csum_seed", "large_dir", "inline_data",
    "encrypt", "casefold",
])  # fmt: skip
_RO_COMPAT = numbered([
    "sparse_super", "large_file", "", "huge_file", "uninit_bg", "dir_nlink", "extra_isize",
    "has_snapshot", "quota", "bigalloc", "metadata_csum", "replica", "read-only", "project",
    "shared_blocks", "verity", "orphan_present",
])  # fmt: skip


def parse(data: bytes) -> FileSystem | None:
    """Return what a superblock tells, None where it is none.

    Args:
        data: the bytes of the volume from `OFFSET` on.
    """
    if len(data) < _SIZE or data[56:58] != _MAGIC.to_bytes(2, "little"):
        return None
    inodes, blocks_low = struct.unpack_from("<II", data, 0)
    (log_block,) = struct.unpack_from("<I", data, 24)
    (written_low,) = struct.unpack_from("<I", data, 48)
    (state,) = struct.unpack_from("<H", data, 58)
    (revision,) = struct.unpack_from("<I", data, 76)
    compat, incompat, ro_compat = struct.unpack_from("<III", data, 92) if revision else (0, 0, 0)
    if log_block > _LARGEST_LOG_BLOCK or not inodes or not blocks_low:
        return None
    block_size = 1024 << log_block
    blocks_high = struct.unpack_from("<I", data, 0x150)[0] if incompat & _64_BIT else 0
    has_journal = bool(compat & _HAS_JOURNAL)
    if incompat & _JOURNAL_DEVICE:
        kind = "jbd"
    elif (incompat & ~_OLD_INCOMPAT) or (ro_compat & ~_OLD_RO_COMPAT):
        kind = "ext4"
    else:
        kind = "ext3" if has_journal else "ext2"
    journal = Journal.NONE
    if has_journal:
        journal = Journal.REPLAY if incompat & _NEEDS_RECOVERY else Journal.CLEAN
    written = written_low | data[0x274] << 32
    return FileSystem(
        type=kind,
        uuid=uuid_of(data[104:120]),
        label=label_of(data[120:136]),
        block_size=block_size,
        size=(blocks_low | blocks_high << 32) * block_size,
        features=(
            *feature_names("FEATURE_C", compat, _COMPAT),
            *feature_names("FEATURE_I", incompat, _INCOMPAT),
            *feature_names("FEATURE_R", ro_compat, _RO_COMPAT),
        ),
        journal=journal,
        is_dirty=not state & _IS_CLEAN or bool(state & _HAS_ERRORS),
        written_at=written or None,
        detail={"compat": compat, "incompat": incompat, "ro_compat": ro_compat, "state": state},
    )
