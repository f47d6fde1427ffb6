"""Btrfs. Source: struct btrfs_super_block of Linux."""

from __future__ import annotations

import struct

from .file_system import FileSystem, Journal, feature_names, label_of, numbered, uuid_of

OFFSET = 64 << 10
_SIZE = 555
_MAGIC = b"_BHRfS_M"
_INCOMPAT = numbered([
    "mixed_backref", "default_subvol", "mixed_groups", "compress_lzo", "compress_zstd",
    "big_metadata", "extended_iref", "raid56", "skinny_metadata", "no_holes", "metadata_uuid",
    "raid1c34", "zoned", "extent_tree_v2", "raid_stripe_tree", "", "simple_quota",
])  # fmt: skip
_RO_COMPAT = numbered(["free_space_tree", "free_space_tree_valid", "verity", "block_group_tree"])


def parse(data: bytes) -> FileSystem | None:
    """Return what a superblock tells, None where it is none.

    Args:
        data: the bytes of the volume from `OFFSET` on.
    """
    if len(data) < _SIZE or data[64:72] != _MAGIC:
        return None
    (log_root,) = struct.unpack_from("<Q", data, 96)
    (size,) = struct.unpack_from("<Q", data, 112)
    (devices,) = struct.unpack_from("<Q", data, 136)
    (sector_size,) = struct.unpack_from("<I", data, 144)
    ro_compat, incompat = struct.unpack_from("<QQ", data, 180)
    return FileSystem(
        type="btrfs",
        uuid=uuid_of(data[32:48]),
        label=label_of(data[299:555]),
        block_size=sector_size,
        size=size,
        features=(
            *feature_names("RO_COMPAT_", ro_compat, _RO_COMPAT),
            *feature_names("INCOMPAT_", incompat, _INCOMPAT),
        ),
        # A copy of what was synced since the last commit.
        journal=Journal.REPLAY if log_root else Journal.CLEAN,
        is_dirty=bool(log_root),
        detail={"incompat": incompat, "ro_compat": ro_compat, "devices": devices},
    )
