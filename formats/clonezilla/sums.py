"""The checksums that Clonezilla writes beside the images, and whether they still hold.

The files are those of coreutils: ``md5sum``, ``sha1sum``, ``b2sum`` and so on.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import os
import re
from typing import TYPE_CHECKING

from ..errors import FormatError, NotThisFormatError
from .files import Files, is_plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..progress import Progress

_PIECE = 4 << 20
_LINE = re.compile(r"(\\?)([0-9A-Fa-f]+) [ *](.+)", re.DOTALL)
_TAGGED = re.compile(r"(\\?)[A-Za-z0-9-]+ \((.+)\) = ([0-9A-Fa-f]+)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "\\": "\\"}
_DIGEST_SIZES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "b2": 64}
_STRUCTURE = "clonezilla.sums"


class SumOutcome(enum.StrEnum):
    """What came of comparing a file with its checksum."""

    OK = "ok"
    DIFFERENT = "different"
    MISSING = "missing"
    REFUSED = "refused"
    UNREADABLE = "unreadable"


@dataclasses.dataclass(frozen=True, slots=True)
class SumLine:
    """A line of a file of checksums.

    Attributes:
        name: the file, in the same directory.
        digest: the checksum, lower-case hexadecimal.
        line: number of the line, counted from 1.
    """

    name: str
    digest: str
    line: int


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """A file of checksums.

    Attributes:
        algorithm: ``md5``, ``sha1``, ``sha256``, ``sha512`` or ``b2``.
        lines: what it holds.
        problems: lines that cannot be understood, or whose name leads out of the directory, as
            (line, what is wrong).
    """

    algorithm: str
    lines: tuple[SumLine, ...]
    problems: tuple[tuple[int, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class SumResult:
    """What came of one line.

    Attributes:
        name: the file; empty where the line could not be understood.
        outcome: what came of it.
        detail: what is wrong, empty where nothing is.
        file_name: the file of checksums.
    """

    name: str
    outcome: SumOutcome
    detail: str = ""
    file_name: str = ""


def algorithm_of(file_name: str) -> str:
    """Return which checksums a file holds by its name, e.g. ``sha256`` of ``SHA256SUMS``.

    Raises:
        NotThisFormatError: it is none of the names that are known.
    """
    name = file_name.upper()
    algorithm = name.removesuffix("SUMS").lower()
    if not name.endswith("SUMS") or algorithm not in _DIGEST_SIZES:
        known = ", ".join(f"{known.upper()}SUMS" for known in _DIGEST_SIZES)
        raise NotThisFormatError(_STRUCTURE, 0, f"{file_name} is none of {known}")
    return algorithm


def parse_sums(text: str, algorithm: str) -> Sums:
    """Return what a file of checksums holds. Empty lines and comments are left out.

    A line that cannot be understood stops nothing.
    """
    lines: list[SumLine] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.removesuffix("\r")
        if not stripped.strip() or stripped.startswith("#"):
            continue
        parsed = _parse_line(stripped, algorithm)
        if isinstance(parsed, str):
            problems.append((number, parsed))
        else:
            lines.append(SumLine(*parsed, number))
    return Sums(algorithm, tuple(lines), tuple(problems))


def check_sums(
    directory_path: str, file_name: str, progress: Progress | None = None
) -> Iterator[SumResult]:
    """Compare files with the checksums of one file, and yield what came of each, in its order.

    Args:
        directory_path: the image directory.
        file_name: the file of checksums in it, e.g. ``MD5SUMS``.
        progress: told the bytes that are read so far.

    Raises:
        NotThisFormatError: by its name it is no file of checksums.
        CorruptImageError: it is too long, or leads out of the directory.
        OSError: it cannot be read. What a file that it lists raises becomes its result.
    """
    algorithm = algorithm_of(file_name)
    files = Files(directory_path)
    sums = parse_sums(files.text(file_name), algorithm)
    return _check(files, file_name, sums, progress)


def _check(
    files: Files, file_name: str, sums: Sums, progress: Progress | None
) -> Iterator[SumResult]:
    done = 0

    def count(length: int) -> None:
        nonlocal done
        done += length
        if progress is not None:
            progress(done)

    for number, detail in sums.problems:
        yield SumResult("", SumOutcome.REFUSED, f"{file_name}, line {number}: {detail}")
    for line in sums.lines:
        result = _compare(files, line, sums.algorithm, count)
        yield dataclasses.replace(result, file_name=file_name)


def _compare(files: Files, line: SumLine, algorithm: str, count: Progress) -> SumResult:
    name = line.name
    if name not in files:
        return SumResult(name, SumOutcome.MISSING, "there is no such file")
    try:
        digest = _digest(files.resolve(name), algorithm, len(line.digest) // 2, count)
    except FileNotFoundError:
        return SumResult(name, SumOutcome.MISSING, "there is no such file")
    except OSError as error:
        return SumResult(name, SumOutcome.UNREADABLE, error.strerror or str(error))
    except FormatError as error:
        return SumResult(name, SumOutcome.REFUSED, error.detail)
    if digest == line.digest:
        return SumResult(name, SumOutcome.OK)
    detail = f"the {algorithm} checksum is {digest}, but {line.digest} is stored"
    return SumResult(name, SumOutcome.DIFFERENT, detail)


def _digest(path: str, algorithm: str, size: int, count: Progress) -> str:
    running = (
        hashlib.blake2b(digest_size=size)
        if algorithm == "b2"
        else hashlib.new(algorithm, usedforsecurity=False)
    )
    buffer = memoryview(bytearray(_PIECE))
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb", buffering=0) as file:
        while length := file.readinto(buffer):
            running.update(buffer[:length])
            count(length)
    return running.hexdigest()


def _parse_line(line: str, algorithm: str) -> tuple[str, str] | str:
    """Return name and digest, or what is wrong with the line."""
    if match := _LINE.fullmatch(line):
        escaped, digest, name = match.groups()
    elif match := _TAGGED.fullmatch(line):
        escaped, name, digest = match.groups()
    else:
        return "no checksum and name"
    wanted = 2 * _DIGEST_SIZES[algorithm]
    # b2sum takes any length of whole bytes up to its full one.
    fits = len(digest) <= wanted and not len(digest) % 2 if algorithm == "b2" else (
        len(digest) == wanted
    )  # fmt: skip
    if not fits:
        return f"a {algorithm} checksum does not have {len(digest)} digits"
    if escaped:
        unescaped = _unescaped(name)
        if unescaped is None:
            return "an escape in the name that coreutils does not write"
        name = unescaped
    name = name.removeprefix("./")
    if not is_plain_name(name):
        return f"{name!r} is no file of this directory: not looked at"
    return name, digest.lower()


def _unescaped(name: str) -> str | None:
    if any(found not in _ESCAPED for found in _ESCAPE.findall(name)):
        return None
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], name)
