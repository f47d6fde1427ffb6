"""The metadata areas of a physical volume: the newest text that each holds.

An area is a header and a ring: a new text is written behind the one before, and goes on behind the
header where the ring ends.
Source: LVM2, lib/format_text/layout.h and format-text.c. Little-endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import (
    ChecksumError,
    CorruptImageError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from ..superblocks.lvm import checksum

if TYPE_CHECKING:
    from ..superblocks.file_system import Read

HEADER = "lvm.metadata_area"
TEXT = "lvm.metadata"

HEADER_SIZE = 512
MOST_TEXT = 16 << 20
"""Bytes of a text that are read: those of some ten thousand volumes."""

_MAGIC = b" LVM2 x[5A%r0N*>"
_VERSION = 1
_HEADER = struct.Struct("<I16sIQQ")
_LOCATION = struct.Struct("<QQII")
_IGNORED = 1


class MetadataArea(NamedTuple):
    """A metadata area.

    Attributes:
        offset: the byte of the physical volume at which it begins.
        text: the text that counts; None where no group was written yet.
        is_ignored: it is marked so: others of the group are kept up to date, and it is not.
    """

    offset: int
    text: str | None = None
    is_ignored: bool = False


def read_area(read: Read, offset: int, size: int) -> MetadataArea:
    """Return what there is in a metadata area.

    What was only prepared, when the machine stopped, does not count, nor does it for LVM.

    Args:
        read: reads the physical volume.
        offset: where the area begins.
        size: its bytes.

    Raises:
        ChecksumError: the header or the text was changed.
        TruncatedImageError: it cannot be read.
        UnsupportedFeatureError: it is of another version, or too large.
        CorruptImageError: it contradicts itself.
    """
    header = read(offset, HEADER_SIZE)
    if len(header) < HEADER_SIZE:
        raise TruncatedImageError(HEADER, offset, "it cannot be read")
    stored, magic, version, start, said = _HEADER.unpack_from(header)
    if magic != _MAGIC:
        raise CorruptImageError(HEADER, offset, "it does not begin as a metadata area does")
    actual = checksum(header[4:])
    if actual != stored:
        raise ChecksumError(HEADER, offset, group=0, expected=stored, actual=actual)
    if version != _VERSION:
        raise UnsupportedFeatureError(HEADER, offset, f"it is of version {version}")
    if (start, said) != (offset, size):
        raise CorruptImageError(
            HEADER, offset, f"it says that it is {said} bytes at {start}, the label {size}"
        )
    at, length, expected, flags = _LOCATION.unpack_from(header, _HEADER.size)
    if flags & _IGNORED:
        return MetadataArea(offset, is_ignored=True)
    if at == 0:
        return MetadataArea(offset)
    if not HEADER_SIZE <= at < size or not 0 < length <= size - HEADER_SIZE:
        raise CorruptImageError(HEADER, offset, f"a text of {length} bytes cannot be at {at}")
    if length > MOST_TEXT:
        raise UnsupportedFeatureError(
            HEADER, offset, f"a text of {length} bytes is more than {MOST_TEXT}"
        )
    return MetadataArea(offset, _text(read, offset, size, at, length, expected))


def _text(read: Read, offset: int, size: int, at: int, length: int, expected: int) -> str:
    before_end = min(length, size - at)
    data = read(offset + at, before_end)
    if before_end < length:
        data += read(offset + HEADER_SIZE, length - before_end)
    if len(data) < length:
        raise TruncatedImageError(TEXT, offset + at, "not all of it can be read")
    actual = checksum(data)
    if actual != expected:
        raise ChecksumError(TEXT, offset + at, group=0, expected=expected, actual=actual)
    body, _nul, behind = data.partition(b"\0")
    if behind:
        raise CorruptImageError(TEXT, offset + at, "it has a zero in its middle")
    return body.decode("utf-8", "backslashreplace")
