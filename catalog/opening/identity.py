"""Whether a file that was moved or touched may still be the image that was scanned: the one rule.

`add`, `rescan`, `ls`, opening, and reading what is open all ask here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..records import Volume

_FINGERPRINT_COVERS_INDEX = frozenset({"partclone", "partimage"})
"""Formats whose fingerprint is over all that the index was made of: header and bitmap. Named here,
for to ask the formats themselves loads them, which takes longer than to list a catalog."""


def index_survives(image_format: str, *, is_sealed: bool) -> bool:
    """Tell whether an image's index may be kept when a file of it was moved or touched.

    Of one that is sealed, as every compressed one is, each page is compared with its hash when it
    is read; of others the fingerprint must tell that the index is right. Where neither does, as
    with ntfsclone whose commands lie between its data, only another scan can.
    """
    return is_sealed or image_format in _FINGERPRINT_COVERS_INDEX


def is_untouched(before: Sequence[Volume], now: Sequence[Volume]) -> bool:
    """Tell whether files are the same ones by size, time and inode, whatever their paths.

    Then a verdict on them stands; else it does not, for nobody has looked at the bytes since.
    """
    return [_facts(volume) for volume in before] == [_facts(volume) for volume in now]


def times_before(now_ns: int) -> tuple[int, int]:
    """Return the first and the last time that a file may have had before it was copied.

    A copy that keeps times has them as exactly as its file system can: to 100 nanoseconds, to a
    microsecond, to a second, or to two as FAT does, rounded up or down.
    """
    steps = (2_000_000_000, 1_000_000_000, 1_000_000, 1000, 100, 1)
    step = next(step for step in steps if now_ns % step == 0)
    return now_ns - step + 1, now_ns + step - 1


def _facts(volume: Volume) -> tuple[int, int, int]:
    return volume.size_bytes, volume.mtime_ns, volume.inode
