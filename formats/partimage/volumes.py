"""The volumes of a partimage image: which files they are, in which order."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ..errors import CorruptImageError, FormatError, TruncatedImageError
from . import layout

if TYPE_CHECKING:
    from collections.abc import Callable

    HeadOf = Callable[[str], bytes]

_NUMBERED = re.compile(r"\.([0-9]{3,})\Z")
_STRUCTURE = "partimage.volume"


def volume_paths(path: str, head_of: HeadOf) -> list[str]:
    """Return the files of the image of which `path` is a volume, in order.

    Args:
        path: any volume.
        head_of: returns the first plain bytes of a file, which may be compressed.

    Raises:
        FormatError: a volume is missing, or a file with such a name is none of this image; the
            message names the file.
        OSError: a file cannot be read.
    """
    header = read_volume_header(path, head_of)
    numbered = _NUMBERED.search(path)
    if numbered is None or int(numbered[1]) != header.number:
        if header.number:
            raise CorruptImageError(
                _STRUCTURE,
                96,
                f"{path} is volume {header.number}: name the volumes NAME.000, NAME.001 and so on",
            )
        return [path]
    base = path[: numbered.start()]
    numbers = sorted(_numbers_beside(base))
    paths = []
    for expected, number in enumerate(numbers):
        name = f"{base}.{expected:03}"
        if number != expected:
            raise TruncatedImageError(_STRUCTURE, 0, f"{name} is missing")
        paths.append(name)
        _check(name, expected, header, head_of)
    return paths


def first_volume(path: str, head_of: HeadOf) -> str:
    """Return the first volume of the image of which `path` is a later one, else `path`.

    Reads a few bytes only where the name is that of a later volume.
    """
    numbered = _NUMBERED.search(path)
    if numbered is None or int(numbered[1]) == 0:
        return path
    first = f"{path[: numbered.start()]}.000"
    try:
        header = read_volume_header(path, head_of)
        same = read_volume_header(first, head_of).identifier == header.identifier
    except (FormatError, OSError):
        return path
    return first if same and header.number == int(numbered[1]) else path


def read_volume_header(path: str, head_of: HeadOf) -> layout.VolumeHeader:
    """Read the header of a volume.

    Raises:
        FormatError: it is none.
        OSError: it cannot be read.
    """
    return layout.parse_volume_header(head_of(path)[: layout.VOLUME_HEADER_SIZE])


def _numbers_beside(base: str) -> list[int]:
    directory, name = os.path.split(base)
    found = []
    for entry in os.listdir(directory or "."):
        numbered = _NUMBERED.search(entry)
        if (
            numbered
            and entry[: numbered.start()] == name
            and entry == f"{name}.{int(numbered[1]):03}"
        ):
            found.append(int(numbered[1]))
    return found


def _check(path: str, number: int, header: layout.VolumeHeader, head_of: HeadOf) -> None:
    try:
        found = read_volume_header(path, head_of)
    except FormatError as error:
        raise CorruptImageError(_STRUCTURE, error.offset, f"{path}: {error.detail}") from error
    if found.identifier != header.identifier:
        raise CorruptImageError(_STRUCTURE, 100, f"{path} belongs to another image")
    if found.number != number:
        raise CorruptImageError(_STRUCTURE, 96, f"{path} is volume {found.number}, not {number}")
