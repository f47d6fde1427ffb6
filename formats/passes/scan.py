"""Scanning the files of an image: once, decompressing them in the same pass."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .. import registry
from ..codecs import registry as codecs
from ..codecs.decoded_source import digest_of_stored
from ..errors import CorruptImageError, FormatError, NotThisFormatError, UnsupportedFeatureError
from ..format import Passed
from ..raw import reader as raw
from ..sources.distrusted import every_byte
from .decompress import scan_plain
from .scan_in_passing import Passing

if TYPE_CHECKING:
    from ..files.image_files import StoredFiles
    from ..progress import Progress
    from ..reader import Scan


def scan_files(  # noqa: PLR0913 - each is one way to scan
    stored: StoredFiles,
    progress: Progress | None = None,
    *,
    spacing: int | None = None,
    is_raw: bool = False,
    or_raw: bool = False,
    verify: bool = False,
    by_geometry: bool = False,
) -> Scan:
    """Scan the image that `open_files` has opened, decompressing it once where it is compressed.

    Args:
        stored: the files; their `source` is the plain image afterwards.
        progress: told the stored bytes that are done.
        spacing: plain bytes between two seek points; the codec's own choice if None.
        is_raw: take it for the partition's bytes as they are, whatever it begins like.
        or_raw: take it for them where it begins like no image that is known.
        verify: look at the checksums too, where that needs no pass of its own.
        by_geometry: take the size of a VHD from cylinders, heads and sectors.

    Raises:
        As `scan`.
    """
    passed = Passed()
    if stored.codec is not None:
        passed = _scan_streams(stored, progress, spacing=spacing, is_raw=is_raw, verify=verify)
        progress = None
    damage = "; ".join(index.damage for index in stored.indexes if index.damage)
    try:
        found = passed.scan or _scan_plain_files(
            stored, progress, is_raw=is_raw, or_raw=or_raw, by_geometry=by_geometry
        )
    except FormatError as error:
        if not damage:
            raise
        raise CorruptImageError(
            error.structure, error.offset, f"{error.detail}; {damage}"
        ) from error
    info = found.info
    if damage:
        info = dataclasses.replace(
            info, damage=f"{info.damage}; {damage}" if info.damage else damage
        )
    is_right = verify and stored.codec is not None and passed.is_right and info.damage is None
    return dataclasses.replace(found, info=info, is_right=is_right)


def _scan_streams(
    stored: StoredFiles,
    progress: Progress | None,
    *,
    spacing: int | None,
    is_raw: bool,
    verify: bool,
) -> Passed:
    """Decode the streams once; return what could be seen of the image in passing."""
    if is_raw:
        scan_plain(stored, spacing=spacing, progress=progress)
        # Of raw bytes there is nothing to know but that they can be decoded.
        return Passed(is_right=True)
    passing = Passing(b"".join(map(digest_of_stored, stored.streams)), verify=verify)
    try:
        scan_plain(stored, taker=passing, spacing=spacing, progress=progress)
    finally:
        passed = passing.finish()
    is_damaged = any(index.damage is not None for index in stored.indexes)
    return Passed() if is_damaged else passed


def _scan_plain_files(
    stored: StoredFiles,
    progress: Progress | None,
    *,
    is_raw: bool,
    or_raw: bool,
    by_geometry: bool,
) -> Scan:
    # Headers have checksums of their own, and what a damaged image is, is told all the same.
    source = every_byte(stored.source)
    if is_raw:
        return raw.scan_as_told(source)
    try:
        found = registry.sniff(every_byte(stored.whole_stream()))
    except NotThisFormatError as error:
        if stored.codec is not None and codecs.sniff(source) is not None:
            raise UnsupportedFeatureError(
                "container", 0, f"compressed twice: unpack the outer {stored.codec} first"
            ) from error
        if or_raw:
            return raw.scan(source)
        raise
    except CorruptImageError:
        # A partition table that contradicts itself: whatever else it is, it is a disk.
        if or_raw:
            return raw.scan(source)
        raise
    scan = found.scan
    if by_geometry and found.scan_by_geometry is not None:
        scan = found.scan_by_geometry
    return scan(source, progress)
