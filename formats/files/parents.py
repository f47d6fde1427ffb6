"""Which file an image means that says what it is a difference to, or where its data are.

Names come from files that nobody vouches for. So they lead nowhere but into the directory of the
image, and into directories that somebody has allowed.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from ..errors import FormatError, MissingParentError, UnsupportedFeatureError
from ..qcow2.reader import NAME as QCOW2
from ..raw.reader import NAME as RAW
from ..registry import sniff
from ..sources.file import FileSource
from ..vhd.reader import NAME as VHD
from ..vhd.reader import read_footer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..reader import ParentName

MOST_PARENTS = 16
"""Images that lie below each other, at the most."""

_FORMATS = {"raw": RAW, "qcow2": QCOW2, "vpc": VHD, "vhd": VHD}
"""What QEMU calls the formats that a backing file may have."""

_SUFFIXES = (".vhd", ".avhd")
_MOST_LOOKED_AT = 1000
"""Files of a directory that are looked at, to find a parent that was renamed."""

_SCHEME = re.compile(r"[^/]*:")


class FoundParent(NamedTuple):
    """The file that an image is a difference to.

    Attributes:
        path: where it is.
        is_raw: take it for the disk's bytes as they are.
    """

    path: str
    is_raw: bool


def find_parent(
    path: str,
    parent: ParentName,
    *,
    allowed: Sequence[str] = (),
    by_id: Callable[[str], str | None] = lambda _id: None,
) -> FoundParent:
    """Return the file that an image is a difference to.

    Args:
        path: the image's file.
        parent: what the image says of it.
        allowed: directories into which a name may lead, beside that of the image.
        by_id: tells where a VHD with this UUID lies; None if that is not known.

    Raises:
        MissingParentError: it is not there, or another one is.
        UnsupportedFeatureError: its name leads elsewhere, or its format is not read.
        OSError: it cannot be read.
    """
    if parent.id is not None:
        return FoundParent(_by_id(path, parent, allowed, by_id), is_raw=False)
    (name,) = parent.names
    found = resolve(path, name, allowed=allowed, what="backing file")
    if not os.path.exists(found):
        raise MissingParentError(
            "qcow2.header", 8, f"its backing file {name!r} is not there: {found}"
        )
    return FoundParent(found, is_raw=_format_of(found, name, parent.format) == RAW)


def resolve(path: str, name: str, *, allowed: Sequence[str] = (), what: str) -> str:
    """Return the path that a name in an image leads to.

    Args:
        path: the image's file.
        name: as it is stored there.
        allowed: directories into which it may lead, beside that of the image.
        what: what an error calls the file.

    Raises:
        UnsupportedFeatureError: it leads elsewhere, or names no file.
    """
    if _SCHEME.match(name):
        raise UnsupportedFeatureError(
            "qcow2.header", 8, f"its {what} {name!r} names no file of this machine: not read"
        )
    home = os.path.dirname(os.path.realpath(path))
    found = os.path.realpath(os.path.join(home, name))
    if not _is_within(found, [home, *allowed]):
        raise UnsupportedFeatureError(
            "qcow2.header", 8,
            f"its {what} {name!r} leads out of its directory, to {found}: "
            f"`--allow-backing {os.path.dirname(found)}` allows that",
        )  # fmt: skip
    return found


def _format_of(path: str, name: str, told: str | None) -> str:
    """Return the format of a backing file.

    One that is not told is raw, as long as nothing speaks against that: what a guest has written
    into its raw disk must not make it an image of another format.
    """
    if told is not None:
        if told not in _FORMATS:
            raise UnsupportedFeatureError(
                "qcow2.extension", 0, f"its backing file {name!r} is of format {told!r}: not read"
            )
        return _FORMATS[told]
    source = FileSource(path)
    try:
        found = sniff(source).name
    except FormatError:
        return RAW
    finally:
        source.close()
    if found == RAW:
        return RAW
    raise UnsupportedFeatureError(
        "qcow2.header", 8,
        f"it does not say of which format its backing file {name!r} is, which looks like {found}: "
        f"`qemu-img rebase -u -b {name} -F {found}` tells it",
    )  # fmt: skip


def _by_id(
    path: str,
    parent: ParentName,
    allowed: Sequence[str],
    by_id: Callable[[str], str | None],
) -> str:
    """Return the file of a VHD with a UUID: beside its child, else where it is known to be."""
    home = os.path.dirname(os.path.realpath(path))
    other: list[str] = []
    for candidate in _candidates(home, path, parent, allowed):
        found = _uuid_of(candidate)
        if found == parent.id:
            return candidate
        if found is not None and os.path.basename(candidate) in _base_names(parent):
            other.append(f"{candidate} is another one, {found}")
    known = by_id(parent.id or "")
    if known is not None and _uuid_of(known) == parent.id:
        return known
    names = ", ".join(sorted(_base_names(parent))) or "which it does not name"
    detail = "".join(f"; {each}" for each in other)
    raise MissingParentError(
        "vhd.header", 0,
        f"its parent {names} with the UUID {parent.id} is neither beside it nor in the catalog"
        f"{detail}: add it first, or put it into the same directory",
    )  # fmt: skip


def _candidates(home: str, path: str, parent: ParentName, allowed: Sequence[str]) -> Iterator[str]:
    """Yield the files that may be the parent: those that it is called first, then other VHDs.

    A link in the directory may lead to one that is allowed, and to no other.
    """
    names = _base_names(parent)
    with contextlib.suppress(OSError):
        others = sorted(os.listdir(home))[:_MOST_LOOKED_AT]
        own = os.path.basename(path)
        names += [
            name for name in others
            if name.lower().endswith(_SUFFIXES) and name not in names and name != own
        ]  # fmt: skip
    for name in names:
        found = os.path.realpath(os.path.join(home, name))
        if _is_within(found, [home, *allowed]):
            yield found


def _is_within(path: str, roots: Sequence[str]) -> bool:
    """Tell whether a path without links lies below one of some directories."""
    return any(os.path.commonpath([root, path]) == root for root in map(os.path.realpath, roots))


def _base_names(parent: ParentName) -> list[str]:
    """Return the last parts of the paths that are stored: never one that leads elsewhere."""
    found = (re.split(r"[/\\]", name)[-1] for name in parent.names)
    names = dict.fromkeys(found)
    return [name for name in names if name not in {"", ".", ".."} and "\0" not in name]


def _uuid_of(path: str) -> str | None:
    """Return the UUID of a VHD; None of what is none, or cannot be read."""
    try:
        source = FileSource(path)
    except OSError:
        return None
    try:
        found = read_footer(source).footer
    except (FormatError, OSError):
        return None
    finally:
        source.close()
    return str(found.id)
