"""Whether the files of an image are still the ones that were scanned. Reads no image data."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
from typing import TYPE_CHECKING

from ..records import AWAY, DAMAGED, FAILED, LIVE, MISSING, READABLE, READY, STALE, Volume
from .identity import index_survives

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..records import ImageRow
    from .permissions import FileIdentity


class Freshness(enum.Enum):
    """What the metadata of an image's files tells.

    TOUCHED: the size is the same, but not the time of change or the inode; the fingerprint
    decides.
    """

    FRESH = "fresh"
    TOUCHED = "touched"
    STALE = "stale"
    MISSING = "missing"
    UNREADABLE = "unreadable"


_WORST_LAST = [
    Freshness.FRESH,
    Freshness.TOUCHED,
    Freshness.STALE,
    Freshness.UNREADABLE,
    Freshness.MISSING,
]


def volume_from_stat(
    path: str,
    status: os.stat_result,
    size: int | None = None,
    stream: int = 0,
    role: str = "image",
) -> Volume:
    """Return the volume record for a file that was just looked at, and is part of a stream."""
    return Volume(
        path=path,
        size_bytes=status.st_size if size is None else size,
        mtime_ns=_signed(status.st_mtime_ns),
        inode=_signed(status.st_ino),
        mode=status.st_mode & 0o777,
        uid=status.st_uid,
        gid=status.st_gid,
        stream=stream,
        role=role,
    )


def _signed(number: int) -> int:
    """Return what SQLite can keep of 64 bits: some file systems number inodes beyond 2^63."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def compare(volume: Volume, status: os.stat_result, size: int | None = None) -> Freshness:
    """Compare a volume with what `os.stat` tells of the file now; `size` as its source has it."""
    if (status.st_size if size is None else size) != volume.size_bytes:
        return Freshness.STALE
    if stat.S_ISBLK(status.st_mode):
        # Written behind our back, without another time.
        return Freshness.FRESH
    now = (_signed(status.st_mtime_ns), _signed(status.st_ino))
    if now == (volume.mtime_ns, volume.inode):
        return Freshness.FRESH
    return Freshness.TOUCHED


def freshness(volumes: Sequence[Volume]) -> Freshness:
    """Return the worst of what the files of an image are; without any, they are missing."""
    if len(volumes) == 1:
        return _freshness_of(volumes[0])
    return max(map(_freshness_of, volumes), key=_WORST_LAST.index, default=Freshness.MISSING)


def identities_of(volumes: Sequence[Volume]) -> frozenset[FileIdentity]:
    """Return what tells the files from others that the volumes' paths lead to. It may block.

    What cannot be looked at is left out.
    """
    found = set()
    for volume in volumes:
        with contextlib.suppress(OSError):
            status = os.stat(volume.path)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def observed_status(row: ImageRow, volumes: Sequence[Volume]) -> str:
    """Return an image's status, given what `stat` tells of its files now. Reads no image data.

    A file that was merely touched counts as it did where its index may be kept: what it holds is
    looked at when it is opened and read.
    """
    state = freshness(volumes)
    if state is Freshness.MISSING:
        return MISSING
    if state is Freshness.STALE:
        return STALE
    is_sealed = row.sealed_at is not None
    if state is Freshness.TOUCHED and not index_survives(row.format, is_sealed=is_sealed):
        return STALE
    # Its files are back, as they were.
    return row.status_before or STALE if row.status in AWAY else row.status


def _freshness_of(volume: Volume) -> Freshness:
    try:
        status = os.stat(volume.path)
    except (FileNotFoundError, NotADirectoryError):
        return Freshness.MISSING
    except OSError as error:
        # A link that leads to itself is there, and is not the file that was scanned.
        return Freshness.STALE if error.errno == errno.ELOOP else Freshness.UNREADABLE
    # stat tells no size for a block device; only opening it does.
    size = volume.size_bytes if stat.S_ISBLK(status.st_mode) else None
    return compare(volume, status, size)


class Observed:
    """What images are, by their entries and by what `stat` tells now. Reads no image data.

    Args:
        listed: every image with its files.
        parts: the children of those that are made of others; None is one that is gone.
        own: what `stat` has told just now of those that have files, by id; asked if None.
    """

    def __init__(
        self,
        listed: Iterable[tuple[ImageRow, Sequence[Volume]]],
        parts: Mapping[int, Sequence[int | None]],
        own: Mapping[int, str] | None = None,
    ) -> None:
        self._own = own or {}
        self._listed = {row.id: (row, volumes) for row, volumes in listed}
        self._parts = parts
        self._known: dict[int, str] = {}

    def status(self, image_id: int) -> str:
        """Return the status of an image; of one that is gone, that it is missing.

        An image that is made of others is damaged where one of them cannot be read, and missing
        where none can.
        """
        if image_id not in self._known:
            # What is made of itself, as only a damaged catalog can say, ends here.
            self._known[image_id] = DAMAGED
            self._known[image_id] = self._look(image_id)
        return self._known[image_id]

    def _look(self, image_id: int) -> str:
        if image_id not in self._listed:
            return MISSING
        row, volumes = self._listed[image_id]
        if image_id not in self._parts:
            return self._of_files(row, volumes)
        states = [MISSING if each is None else self.status(each) for each in self._parts[image_id]]
        if row.path is not None:
            # A difference: none of it can be read without its parents.
            own = self._of_files(row, volumes)
            is_whole = own not in READABLE or all(state in READABLE for state in states)
            return own if is_whole else STALE
        if row.status == FAILED:
            return FAILED
        # A partition, or a snapshot, is what the image is that it is of.
        return states[0] if row.parent is not None and states else _of_parts(states)

    def _of_files(self, row: ImageRow, volumes: Sequence[Volume]) -> str:
        return self._own[row.id] if row.id in self._own else observed_status(row, volumes)


def _of_parts(states: Sequence[str]) -> str:
    """Return the status of an image that is made of others, by theirs."""
    if states and all(state not in READABLE for state in states):
        return MISSING
    if any(state not in {READY, LIVE} for state in states):
        return DAMAGED
    return LIVE if LIVE in states else READY
