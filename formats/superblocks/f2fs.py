"""F2FS: superblock and checkpoints. Source: f2fs_fs.h of Linux."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .file_system import FileSystem, Journal, label_of, uuid_of

if TYPE_CHECKING:
    from .file_system import Read

OFFSET = 1024
_SIZE = 1148
_MAGIC = 0xF2F52010
_IS_UNMOUNTED = 1
_CHECKPOINT = 136


def parse(data: bytes, read: Read, size: int) -> FileSystem | None:
    """Return what superblock and checkpoints tell, None where it is none.

    Args:
        data: the bytes of the volume from `OFFSET` on.
        read: reads the volume.
        size: its bytes.
    """
    if len(data) < _SIZE or data[:4] != _MAGIC.to_bytes(4, "little"):
        return None
    log_block, log_segment = struct.unpack_from("<II", data, 16)
    (blocks,) = struct.unpack_from("<Q", data, 36)
    (checkpoint,) = struct.unpack_from("<I", data, 76)
    if not 12 <= log_block <= 16 or log_segment > 16 or not blocks:  # noqa: PLR2004
        return None
    block_size = 1 << log_block
    journal = _journal(read, size, (checkpoint, checkpoint + (1 << log_segment)), block_size)
    return FileSystem(
        type="f2fs",
        uuid=uuid_of(data[108:124]),
        label=label_of(data[124:1148], "utf-16-le"),
        block_size=block_size,
        size=blocks * block_size,
        journal=journal,
        is_dirty=journal is Journal.REPLAY,
    )


def _journal(read: Read, size: int, checkpoints: tuple[int, int], block_size: int) -> Journal:
    found = []
    for number in checkpoints:
        offset = number * block_size
        data = read(offset, _CHECKPOINT) if offset + _CHECKPOINT <= size else b""
        if len(data) == _CHECKPOINT:
            (version,), (flags,) = (
                struct.unpack_from("<Q", data), struct.unpack_from("<I", data, 132),
            )  # fmt: skip
            found.append((version, flags))
    if not found:
        return Journal.UNKNOWN
    _version, flags = max(found)
    return Journal.CLEAN if flags & _IS_UNMOUNTED else Journal.REPLAY
