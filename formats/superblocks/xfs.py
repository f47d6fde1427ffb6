"""XFS: superblock, and whether the log ends with an unmount.

Source: xfs_format.h, xfs_log_format.h and the search for the head in xfs_log_recover.c of Linux.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from .file_system import FileSystem, Journal, feature_names, label_of, numbered, uuid_of

if TYPE_CHECKING:
    from .file_system import Read

_SIZE = 264
_BLOCK = 512
_RECORD = 0xFEEDBABE
_UNMOUNT = 0x20
_LARGEST_RECORD = 256 << 10
_HEADER_COVERS = 32 << 10
_LARGEST_LOG = 4 << 30
_VERSION_5 = 5

_RO_COMPAT = numbered(["finobt", "rmapbt", "reflink", "inobtcount"])
_INCOMPAT = numbered([
    "ftype", "sparse_inodes", "meta_uuid", "bigtime", "needsrepair", "nrext64", "exchange",
    "parent", "metadir", "zoned", "zone_gaps",
])  # fmt: skip
_LOG_INCOMPAT = numbered(["log_xattrs"])
_MORE_BITS = 0x8000


def parse(data: bytes, read: Read, size: int) -> FileSystem | None:
    """Return what a superblock and the log tell, None where it is none.

    Args:
        data: the first bytes of the volume.
        read: reads the volume.
        size: its bytes.
    """
    if len(data) < _SIZE or data[:4] != b"XFSB":
        return None
    block_size, blocks = struct.unpack_from(">IQ", data, 4)
    (log_start,) = struct.unpack_from(">Q", data, 48)
    group_blocks, groups = struct.unpack_from(">II", data, 84)
    log_blocks, version = struct.unpack_from(">IH", data, 96)
    group_log = data[124]
    is_sane = 512 <= block_size <= 65536 and not block_size & (block_size - 1)  # noqa: PLR2004
    if not is_sane or not blocks or not groups or not group_blocks or group_log > 31:  # noqa: PLR2004
        return None
    is_5 = version & 0xF == _VERSION_5
    compat, ro_compat, incompat, log_incompat = (
        struct.unpack_from(">IIII", data, 208) if is_5 else (0, 0, 0, 0)
    )
    # The second word was written to two places by some kernels.
    features_2, bad_features_2 = struct.unpack_from(">II", data, 200)
    features_2 = features_2 | bad_features_2 if version & _MORE_BITS else 0
    journal = Journal.UNKNOWN
    if log_start:
        group, within = log_start >> group_log, log_start & ((1 << group_log) - 1)
        start = (group * group_blocks + within) * block_size
        length = log_blocks * block_size
        if length <= _LARGEST_LOG and start + length <= size:
            journal = _Log(read, start, length // _BLOCK).state()
    return FileSystem(
        type="xfs",
        uuid=uuid_of(data[32:48]),
        label=label_of(data[108:120]),
        block_size=block_size,
        size=blocks * block_size,
        features=(
            *(("crc",) if is_5 else ()),
            *feature_names("COMPAT_", compat, {}),
            *feature_names("RO_COMPAT_", ro_compat, _RO_COMPAT),
            *feature_names("INCOMPAT_", incompat, _INCOMPAT),
            *feature_names("LOG_INCOMPAT_", log_incompat, _LOG_INCOMPAT),
        ),
        journal=journal,
        is_dirty=journal is Journal.REPLAY,
        detail={
            "version": version, "features_2": features_2, "ro_compat": ro_compat,
            "incompat": incompat, "log_incompat": log_incompat,
        },
    )  # fmt: skip


class _Record(NamedTuple):
    """A record of the log, in blocks of 512 bytes."""

    start: int
    header_blocks: int
    data_blocks: int
    operations: int


class _Log:
    """The log: blocks that each tell the cycle in which they were written.

    Args:
        read: reads the volume.
        start: its first byte.
        blocks: blocks of 512 bytes in it.
    """

    def __init__(self, read: Read, start: int, blocks: int) -> None:
        self._read = read
        self._start = start
        self._blocks = blocks

    def state(self) -> Journal:
        """Return whether what was written last is an unmount."""
        first = self._cycle(0) if self._blocks else None
        if first == 0:
            # Nothing was ever written to it.
            return Journal.CLEAN
        head = None if first is None else self._head(first)
        record = None if head is None else self._record_before(head)
        if head is None or record is None:
            return Journal.UNKNOWN
        end = (record.start + record.header_blocks + record.data_blocks) % self._blocks
        if end != head % self._blocks or record.operations != 1:
            return Journal.REPLAY
        operation = self._block((record.start + record.header_blocks) % self._blocks)
        is_unmount = len(operation) >= 10 and operation[9] & _UNMOUNT  # noqa: PLR2004
        return Journal.CLEAN if is_unmount else Journal.REPLAY

    def _head(self, first: int) -> int | None:
        """Return the first block that was not written in the newest cycle."""
        low, high = 0, self._blocks
        while high - low > 1:
            middle = (low + high) // 2
            cycle = self._cycle(middle)
            if cycle is None:
                return None
            low, high = (middle, high) if cycle == first else (low, middle)
        return high

    def _record_before(self, head: int) -> _Record | None:
        """Return the last record that begins before a block, of this cycle or of the one before."""
        most = _LARGEST_RECORD // _BLOCK + _LARGEST_RECORD // _HEADER_COVERS
        for stop in dict.fromkeys((head, self._blocks)):
            start = max(0, stop - most)
            data = self._read(self._start + start * _BLOCK, (stop - start) * _BLOCK)
            for number in range(len(data) // _BLOCK - 1, -1, -1):
                block = data[number * _BLOCK : (number + 1) * _BLOCK]
                if struct.unpack_from(">I", block)[0] == _RECORD:
                    return _record(start + number, block)
            if start:
                return None
        return None

    def _cycle(self, number: int) -> int | None:
        block = self._block(number)
        if len(block) < _BLOCK:
            return None
        word, following = struct.unpack_from(">II", block)
        cycle: int = following if word == _RECORD else word
        return cycle

    def _block(self, number: int) -> bytes:
        return self._read(self._start + number * _BLOCK, _BLOCK)


def _record(start: int, block: bytes) -> _Record:
    (version, length) = struct.unpack_from(">II", block, 8)
    (operations,) = struct.unpack_from(">I", block, 40)
    (size,) = struct.unpack_from(">I", block, 320)
    header_blocks = 1
    if version & 2 and _HEADER_COVERS < size <= _LARGEST_RECORD:
        header_blocks = -(-size // _HEADER_COVERS)
    return _Record(start, header_blocks, -(-length // _BLOCK), operations)
