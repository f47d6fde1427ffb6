"""Rock Ridge: what the system use fields of a directory record tell of a file.

Source: the RRIP draft, versions 1.10 and 1.12 (IEEE P1282), and fs/isofs/rock.c of Linux.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError
from .wire import Times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...formats.superblocks.iso9660 import Field

_OWNER = struct.Struct("<I4xI4xI4xI4x")
_CONTINUES, _CURRENT, _PARENT, _ROOT = 1, 2, 4, 8
_CREATED, _MODIFIED, _ACCESSED, _CHANGED = range(4)
_LONG_FORM = 0x80
_TIMES = 7
_LONGEST_NAME, _LONGEST_TARGET = 1024, 65535
_QUARTER = 15 * 60
_SECOND = 1_000_000_000
_LAST_ZONE = 52
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


NO_TIMES = Times(None, None, None, None)

_MARKS = {b"RE": "is_relocated", b"SF": "is_sparse", b"AL": "has_attributes"}


class Zisofs(NamedTuple):
    """How a file is compressed.

    Attributes:
        algorithm: two letters.
        header: bytes before the table of its blocks.
        shift: the power of two that a block has bytes.
        size: bytes of the file itself.
    """

    algorithm: bytes
    header: int
    shift: int
    size: int


@dataclasses.dataclass(slots=True)
class Facts:
    """What is told of a file; what is not, is as it stands here.

    Attributes:
        name: what it is called.
        mode: type and permissions.
        links: names that it has.
        uid: its owner's number.
        gid: its group's number.
        device: of a device, its number.
        times: modified, accessed, changed, created.
        target: where a symbolic link leads.
        child: the block at which the directory lies that stands here.
        is_relocated: it is shown where a `child` leads to it.
        is_sparse: its bytes are those of a table (SF).
        zisofs: how it is compressed.
        has_attributes: it has some that are stored by AAIP.
    """

    name: bytes | None = None
    mode: int | None = None
    links: int = 1
    uid: int = 0
    gid: int = 0
    device: int = 0
    times: Times = NO_TIMES
    target: bytes = b""
    child: int | None = None
    is_relocated: bool = False
    is_sparse: bool = False
    zisofs: Zisofs | None = None
    has_attributes: bool = False


def facts(fields: Iterable[Field]) -> Facts:
    """Return what fields tell.

    Raises:
        DamagedError: one of them is cut off, or cannot be.
    """
    found = Facts()
    target = _Target()
    for field in fields:
        try:
            _take(found, target, field)
        except (struct.error, IndexError):
            raise DamagedError(
                f"iso9660.{field.name.decode('ascii', 'backslashreplace')}", field.offset,
                "it is cut off",
            ) from None  # fmt: skip
    found.target = target.whole()
    return found


def _take(found: Facts, target: _Target, field: Field) -> None:
    data = field.data
    if field.name in _MARKS:
        setattr(found, _MARKS[field.name], True)
        return
    match field.name:
        case b"PX":
            found.mode, found.links, found.uid, found.gid = _OWNER.unpack_from(data, 4)
        case b"PN":
            high, low = struct.unpack_from("<I4xI4x", data, 4)
            found.device = _device(high, low, field.offset)
        case b"NM" if not data[4] & (_CURRENT | _PARENT):
            found.name = (found.name or b"") + data[5:]
            if len(found.name) > _LONGEST_NAME:
                raise DamagedError("iso9660.NM", field.offset, "a name is too long")
        case b"SL":
            target.add(data[5:], field.offset)
        case b"TF":
            found.times = _times(data, found.times)
        case b"CL":
            (found.child,) = struct.unpack_from("<I4x", data, 4)
        case b"ZF":
            (size,) = struct.unpack_from("<I4x", data, 8)
            found.zisofs = Zisofs(data[4:6], data[6] * 4, data[7], size)


def _device(high: int, low: int, offset: int) -> int:
    if not high:
        # Some write all of it into the lower half, as Linux has it.
        high, low = low >> 8, low & 0xFF
    if high >> 12 or low >> 20:
        raise DamagedError("iso9660.PN", offset, f"there is no device {high}, {low}")
    return os.makedev(high, low)


class _Target:
    """Where a symbolic link leads, from its components."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._goes_on = False
        self._size = 0

    def add(self, data: bytes, offset: int) -> None:
        """Take the components of a field."""
        at = 0
        while at < len(data):
            flags, length = data[at], data[at + 1]
            part = data[at + 2 : at + 2 + length]
            if len(part) < length or flags & ~(_CONTINUES | _CURRENT | _PARENT | _ROOT):
                raise DamagedError("iso9660.SL", offset, "a component of it is none")
            if flags & _CURRENT:
                part = b"."
            elif flags & _PARENT:
                part = b".."
            elif flags & _ROOT:
                self._parts, part = [], b""
            if self._goes_on:
                self._parts[-1] += part
            else:
                self._parts.append(part)
            self._goes_on = bool(flags & _CONTINUES)
            self._size += length + 3
            if self._size > _LONGEST_TARGET:
                raise DamagedError("iso9660.SL", offset, "it leads too far")
            at += 2 + length

    def whole(self) -> bytes:
        """Return the path."""
        return b"/" if self._parts == [b""] else b"/".join(self._parts)


def _times(data: bytes, before: Times) -> Times:
    """Return the times in a TF, and those that others told before."""
    flags = data[4]
    width = 17 if flags & _LONG_FORM else 7
    found: dict[int, int | None] = {}
    at = 5
    for bit in range(_TIMES):
        if flags & 1 << bit:
            stored = data[at : at + width]
            if len(stored) < width:
                raise struct.error("a time is cut off")
            found[bit] = long_moment(stored) if flags & _LONG_FORM else moment(stored)
            at += width
    return Times(
        found.get(_MODIFIED, before.modified), found.get(_ACCESSED, before.accessed),
        found.get(_CHANGED, before.changed), found.get(_CREATED, before.created),
    )  # fmt: skip


def moment(data: bytes) -> int | None:
    """Return seven bytes of a directory record as nanoseconds since 1970, None for no time."""
    return _moment((1900 + data[0], *data[1:6]), 0, data[6])


def long_moment(data: bytes) -> int | None:
    """Return seventeen bytes, of which sixteen are digits, in the same way."""
    digits = data[:16]
    if not digits.isdigit():
        return None
    parts = (int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2)))
    return _moment(parts, int(digits[14:]), data[16])


def _moment(parts: tuple[int, ...], hundredths: int, zone: int) -> int | None:
    """Return a time by year, month, day, hour, minute and second, and quarters east of UTC."""
    year, month, day, hour, minute, second = parts
    try:
        local = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    quarters = zone - 256 if zone > 127 else zone  # noqa: PLR2004
    if not -_LAST_ZONE <= quarters <= _LAST_ZONE:
        quarters = 0
    seconds = (local - _EPOCH) // dt.timedelta(seconds=1) - quarters * _QUARTER
    return seconds * _SECOND + hundredths * (_SECOND // 100)


def kind_of(mode: int) -> int:
    """Return the type of a mode.

    Raises:
        DamagedError: there is no such type.
    """
    kind = stat.S_IFMT(mode)
    kinds = {
        stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO,
        stat.S_IFSOCK,
    }  # fmt: skip
    if kind not in kinds:
        raise DamagedError("iso9660.PX", 0, f"it has the mode 0o{mode:o}")
    return kind
