"""Images that were cut into chunks: which files they are, in which order.

``split -a N`` counts ``aa``, ``ab``, … in N letters up to ``zz``. GNU ``split`` without ``-a``
widens instead: after ``yz`` comes ``zaaa``. Others count ``.000``, ``.001``, … or from ``.001`` on.
Which is meant is seen from the files that are there.
"""

from __future__ import annotations

import itertools
import os
import re
import string
from typing import TYPE_CHECKING

from ..errors import CorruptImageError, TruncatedImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SUFFIX = re.compile(r"^(?P<base>.+)\.(?P<count>[a-z]{2,8}|[0-9]{2,8})\Z", re.DOTALL)
_STRUCTURE = "split"


_OF_IMAGES = re.compile(r"[.-](img|dd|raw|vhd|qcow2|gz|bz2|xz|lzma|zst|lz4)$", re.IGNORECASE)


def chunk_paths(path: str, is_alone: Callable[[str], bool]) -> list[str]:
    """Return the chunks of the image of which `path` is one, in order; `[path]` if it is none.

    Args:
        path: any chunk.
        is_alone: tells of a file whether it begins like an image, as only a first chunk does.

    Raises:
        TruncatedImageError: a chunk is missing; the message names it.
        OSError: the directory cannot be read.
    """
    parts = _parts_of(path)
    if parts is None:
        return [path]
    base, count = parts
    # Few names end in a count. A directory that cannot be listed may still have files to read.
    if not _has_first(base, count) and is_alone(path):
        return [path]
    there = _suffixes_beside(base, numeric=count.isdigit())
    run, following = _longest_run(count, there)
    if not run:
        if not is_alone(path):
            _check_no_chunk(path, count, base, there)
        return [path]
    if following is not None:
        _check_end(base, run, following, there, is_alone)
    return [f"{base}.{suffix}" for suffix in run]


def first_chunk(path: str) -> str:
    """Return the first chunk of the image of which `path` is a later one, else `path`.

    Looks at names only.
    """
    run = run_of(path)
    return run[0] if run else path


def lost_first(path: str) -> str | None:
    """Return the name of the first chunk, where a file is named like a later one and that is gone.

    What else ends like a chunk is none: before that comes what images are called.
    """
    parts = _parts_of(path)
    if parts is None or _has_first(*parts) or not _OF_IMAGES.search(parts[0]):
        return None
    base, count = parts
    return f"{os.path.basename(base)}.{('0' if count.isdigit() else 'a') * len(count)}"


def run_of(path: str) -> list[str]:
    """Return the longest run of chunks, without a hole from its first on, that a path is in."""
    parts = _parts_of(path)
    if parts is None or not _has_first(*parts):
        return []
    base, count = parts
    try:
        there = _suffixes_beside(base, numeric=count.isdigit())
    except OSError:
        return []
    return [f"{base}.{suffix}" for suffix in _longest_run(count, there)[0]]


def check_sizes(paths: list[str]) -> None:
    """Check that all chunks but the last are of one size, and that one is no larger.

    Raises:
        CorruptImageError: a chunk is not as long as the others; the message names it.
        OSError: a chunk is gone.
    """
    if len(paths) == 1:
        return
    sizes = [os.path.getsize(path) for path in paths]
    usual = sizes[0]
    for path, size in zip(paths[:-1], sizes, strict=False):
        if size != usual:
            raise CorruptImageError(
                _STRUCTURE, 0, f"{path} has {size} bytes, the chunks before it have {usual}"
            )
    if sizes[-1] > usual:
        raise CorruptImageError(
            _STRUCTURE, 0, f"{paths[-1]} has {sizes[-1]} bytes, more than the {usual} of the others"
        )


def _parts_of(path: str) -> tuple[str, str] | None:
    """Return a path without its count, and the count; None where it has none."""
    found = _SUFFIX.match(os.path.basename(path))
    if found is None:
        return None
    return os.path.join(os.path.dirname(path), found["base"]), found["count"]


def _has_first(base: str, count: str) -> bool:
    """Tell whether there is a file that a run with this count could begin with."""
    width = len(count)
    if count.isdigit():
        return any(os.path.lexists(f"{base}.{first:0{width}}") for first in (0, 1))
    # A numbering that widens began with fewer letters.
    return any(os.path.lexists(f"{base}.{'a' * letters}") for letters in range(2, width + 1))


def _longest_run(count: str, there: set[str]) -> tuple[list[str], str | None]:
    """Return the longest run with this count, and the count that would follow it."""
    best: list[str] = []
    best_score = (0, False)
    following = None
    for names in _numberings(there):
        run: list[str] = []
        missing = None
        for name in names:
            if name not in there:
                missing = name
                break
            run.append(name)
        # Where two ways of counting part, what lies behind the hole tells which of them it is.
        goes_on = missing is not None and any(
            len(each) == len(missing) for each in there.difference(run)
        )
        if count in run and (len(run), goes_on) > best_score:
            best, best_score, following = run, (len(run), goes_on), missing
    return best, following


def _numberings(there: set[str]) -> Iterator[Iterator[str]]:
    """Yield the ways of counting that the suffixes which are there can be of."""
    for width in sorted({len(suffix) for suffix in there}):
        for start in (0, 1):
            if f"{start:0{width}}" in there:
                yield (f"{number:0{width}}" for number in range(start, 10**width))
                break
        if "a" * width in there:
            yield _letters(width)
            yield _widening(width)


def _letters(width: int) -> Iterator[str]:
    return ("".join(each) for each in itertools.product(string.ascii_lowercase, repeat=width))


def _widening(width: int) -> Iterator[str]:
    """Yield aa … yz, zaaa … zyzz, zzaaaa …, as GNU split counts without ``-a``."""
    prefix = ""
    while True:
        yield from (
            prefix + suffix
            for suffix in itertools.takewhile(lambda each: each[0] != "z", _letters(width))
        )
        prefix += "z"
        width += 1


def _suffixes_beside(base: str, *, numeric: bool) -> set[str]:
    directory, name = os.path.split(base)
    start = len(name) + 1
    found = set()
    for entry in os.listdir(directory or "."):
        if entry.startswith(f"{name}.") and (match := _SUFFIX.match(entry)):
            suffix = entry[start:]
            if match["count"] == suffix and suffix.isdigit() == numeric:
                found.add(suffix)
    return found


def _check_no_chunk(path: str, count: str, base: str, there: set[str]) -> None:
    """Refuse a file that is in no run, where one beside it tells that it should be."""
    # Two that follow each other are chunks; one alone is a file with a short suffix.
    if there.isdisjoint(_neighbours(count)) and not _has_first(base, count):
        return
    width = len(count)
    numbers = (f"{n:0{width}}" for n in range(10**width)) if count.isdigit() else _letters(width)
    missing = next(suffix for suffix in numbers if suffix not in there)
    raise TruncatedImageError(_STRUCTURE, 0, f"{base}.{missing} is missing, {path} is there")


def _neighbours(count: str) -> set[str]:
    """Return the counts before and after one, of the same width."""
    digits = string.digits if count.isdigit() else string.ascii_lowercase
    radix = len(digits)
    number = 0
    for digit in count:
        number = number * radix + digits.index(digit)
    return {
        "".join(digits[each // radix**place % radix] for place in range(len(count) - 1, -1, -1))
        for each in (number - 1, number + 1)
        if 0 <= each < radix ** len(count)
    }


def _check_end(
    base: str, run: list[str], following: str, there: set[str], is_alone: Callable[[str], bool]
) -> None:
    """Refuse a run behind which chunks are missing: later ones of it are there."""
    last = run[-1]
    later = sorted(
        suffix
        for suffix in there - set(run)
        if (len(suffix), suffix) > (len(last), last) and len(suffix) >= len(last)
    )
    stray = next((suffix for suffix in later if not is_alone(f"{base}.{suffix}")), None)
    if stray is not None:
        raise TruncatedImageError(
            _STRUCTURE, 0, f"{base}.{following} is missing, {base}.{stray} is there"
        )
