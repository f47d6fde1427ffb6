"""Scanning the files of an image for the catalog: touches no catalog."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING

from ...formats.codecs.seek_points import SPAN_BUDGET
from ...formats.files import detect
from ...formats.passes.scan import scan_files
from ..errors import ImageChangedError
from ..opening.freshness import Freshness, compare, volume_from_stat
from ..records import DAMAGED, NEEDS_REPACK, READY, Volume

if TYPE_CHECKING:
    from ...formats.codecs.seek_points import StreamIndex
    from ...formats.progress import Progress
    from ...formats.reader import Scan


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file and what its scan found, not yet in the catalog."""

    path: str
    volumes: tuple[Volume, ...]
    scan: Scan
    seconds: float
    streams: tuple[StreamIndex, ...] = ()

    @property
    def status(self) -> str:
        """What the image's status is after this scan."""
        if self.scan.info.damage:
            return DAMAGED
        return NEEDS_REPACK if self.largest_span > SPAN_BUDGET else READY

    @property
    def status_detail(self) -> str | None:
        """Why the status is what it is, and what to do."""
        if self.scan.info.damage is None and self.largest_span > SPAN_BUDGET:
            return (
                f"a read may have to decode {self.largest_span >> 20} MiB of {self.compression} "
                f"before it gets to its bytes: `imgcat repack` makes it fast to read"
            )
        return self.scan.info.damage

    @property
    def largest_span(self) -> int:
        """Most plain bytes that a read may have to decode."""
        return max((stream.largest_span for stream in self.streams), default=0)

    @property
    def compression(self) -> str | None:
        """The codec, None where the files are plain."""
        return self.streams[0].codec if self.streams else None


def scan_file(
    path: str,
    progress: Progress | None = None,
    *,
    spacing: int | None = None,
    is_raw: bool = False,
    verify: bool = False,
) -> ScannedFile:
    """Scan the image in a file, and in its other volumes. Touches no catalog; for any thread.

    Args:
        path: the image's file; of several volumes, any.
        progress: told the stored bytes that are done.
        spacing: plain bytes between two seek points of a compressed one.
        is_raw: take it for the partition's bytes as they are.
        verify: look at the checksums too, where that needs no pass of its own.

    Raises:
        FormatError: the file is no image, or one that cannot be read.
        ImageChangedError: it was changed while it was scanned.
        OSError: the operating system could not read it.
    """
    began = time.monotonic()
    with detect.open_files(os.path.abspath(path), is_raw=is_raw) as stored:
        streams = (
            number for number, count in enumerate(stored.stream_volumes) for _ in range(count)
        )
        volumes = tuple(
            volume_from_stat(file.path, file.stat, file.size, stream)
            for file, stream in zip(stored.files, streams, strict=True)
        )
        scan = scan_files(stored, progress, spacing=spacing, is_raw=is_raw, verify=verify)
        for file, volume in zip(stored.files, volumes, strict=True):
            size = file.size if file.size != file.stat.st_size else None
            if compare(volume, os.stat(file.path), size) is not Freshness.FRESH:
                raise ImageChangedError(
                    f"{file.path}: was changed while it was scanned: try again later"
                )
    return ScannedFile(volumes[0].path, volumes, scan, time.monotonic() - began, stored.indexes)


def moved(scanned: ScannedFile, path: str) -> ScannedFile:
    """Return a scan as one of the same file under its other name.

    Raises:
        OSError: it is not there.
    """
    path = os.path.abspath(path)
    volume = volume_from_stat(path, os.stat(path))
    return dataclasses.replace(scanned, path=path, volumes=(volume,))
