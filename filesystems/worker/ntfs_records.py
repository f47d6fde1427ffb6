"""Records of an NTFS master file table, as far as The Sleuth Kit does not tell what they say.

That is: where the bytes of a file lie and how far they were ever written, what kind of reparse
point it is, times that 32 bits of seconds do not hold, and the roots of directories. Source:
layout.h of ntfs-3g.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STANDARD, LIST, FILE_NAME, DATA, REPARSE = 0x10, 0x20, 0x30, 0x80, 0xC0
INDEX_ROOT, INDEX_BLOCKS = 0x90, 0xA0
_END = 0xFFFFFFFF
_SECTOR = 512
_IN_USE = 1
_RECORD_MASK = (1 << 48) - 1
_DOS_NAME = 2
_NAME_AT = 66


class Attribute(NamedTuple):
    """An attribute of a record.

    Attributes:
        kind: its type.
        name: its name, UTF-16.
        flags: 1 compressed, 0x4000 encrypted, 0x8000 sparse.
        number: its number in its record.
        value: what it holds; None where that is elsewhere.
        written: bytes that were ever written, of one that is elsewhere.
        first: the first cluster of it that is told of here.
        behind: the cluster behind the last of them.
        size: bytes of it; of one that is elsewhere, only where `first` is 0.
        pairs: where its clusters are, of one that is elsewhere; see `ntfs_runs`.
    """

    kind: int
    name: bytes
    flags: int
    number: int
    value: bytes | None
    written: int
    first: int
    behind: int
    size: int
    pairs: bytes


class Records:
    """The records of one volume.

    Args:
        read: reads the master file table, by offset and length.
        size: bytes in a record.
        read_list: returns the list of attributes of a record whose list is elsewhere.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size: int,
        read_list: Callable[[int], bytes],
    ) -> None:
        self._read = read
        self._size = size
        self._read_list = read_list

    def attributes(self, number: int) -> list[Attribute]:
        """Return all attributes of a file, those in other records too.

        Raises:
            DamagedError: one of its records is none.
        """
        here = list(self._of_record(number))
        listing = next((each for each in here if each.kind == LIST), None)
        if listing is None:
            return here
        value = listing.value if listing.value is not None else self._read_list(number)
        for other in sorted(set(_listed(value)) - {number}):
            here += self._of_record(other, number)
        return here

    def _of_record(self, number: int, base: int = 0) -> Iterator[Attribute]:
        """Yield the attributes in a record, which is one of the file `base`; 0 for its own."""
        record = self._fixed(number)
        (reference,) = struct.unpack_from("<Q", record, 32)
        if reference & _RECORD_MASK != base:
            raise _damaged(number, f"it belongs to file {reference & _RECORD_MASK}, not to {base}")
        (position,) = struct.unpack_from("<H", record, 20)
        while position + 16 <= len(record):
            kind, length = struct.unpack_from("<II", record, position)
            if kind == _END:
                return
            if length < 24 or length & 7 or position + length > len(record):  # noqa: PLR2004
                raise _damaged(number, "an attribute of it is longer than it")
            yield _attribute(number, record[position : position + length])
            position += length

    def _fixed(self, number: int) -> bytes:
        """Return a record with the ends of its sectors put back."""
        data = self._read(number * self._size, self._size)
        if len(data) != self._size:
            raise _damaged(number, "it is cut off")
        record = with_sector_ends(data, b"FILE", f"ntfs.record {number}")
        if not record[22] & _IN_USE:
            raise _damaged(number, "it is not in use")
        return record


def with_sector_ends(stored: bytes, magic: bytes, what: str) -> bytes:
    """Return a record, or a block of an index, with the ends of its sectors put back.

    Raises:
        DamagedError: it is none, or its sectors were not written together.
    """
    if stored[:4] != magic:
        raise DamagedError(what, 0, f"it does not begin with {magic.decode()}")
    start, count = struct.unpack_from("<HH", stored, 4)
    if start + 2 * count > len(stored) or (count - 1) * _SECTOR > len(stored) or not count:
        raise DamagedError(what, 0, "the ends of its sectors are kept outside of it")
    data = bytearray(stored)
    for each in range(1, count):
        end = each * _SECTOR
        if data[end - 2 : end] != stored[start : start + 2]:
            raise DamagedError(what, 0, f"sector {each} was not written with the others")
        data[end - 2 : end] = stored[start + 2 * each : start + 2 * each + 2]
    return bytes(data)


def _attribute(record: int, data: bytes) -> Attribute:
    kind, _length, is_elsewhere, name_length, name_at, flags, number = struct.unpack_from(
        "<IIBBHHH", data
    )
    name = data[name_at : name_at + 2 * name_length]
    if is_elsewhere:
        if len(data) < 64:  # noqa: PLR2004
            raise _damaged(record, "an attribute of it is cut off")
        first, last, at = struct.unpack_from("<QqH", data, 16)
        size, written = struct.unpack_from("<QQ", data, 48)
        return Attribute(kind, name, flags, number, None, written, first, last + 1, size, data[at:])
    length, at = struct.unpack_from("<IH", data, 16)
    value = data[at : at + length]
    if len(value) != length:
        raise _damaged(record, "the value of an attribute is cut off")
    return Attribute(kind, name, flags, number, value, length, 0, 0, length, b"")


def _listed(data: bytes) -> Iterator[int]:
    """Yield the records that a list of attributes names."""
    position = 0
    while position + 26 <= len(data):
        (length,) = struct.unpack_from("<H", data, position + 4)
        (reference,) = struct.unpack_from("<Q", data, position + 16)
        if length < 26:  # noqa: PLR2004
            return
        yield reference & _RECORD_MASK
        position += length


def names(attributes: list[Attribute]) -> Iterator[tuple[int, bytes]]:
    """Yield the directory and the name, UTF-16, of each name of a file but those for DOS alone."""
    for each in attributes:
        value = each.value or b""
        if each.kind != FILE_NAME or len(value) < _NAME_AT or value[_NAME_AT - 1] == _DOS_NAME:
            continue
        (parent,) = struct.unpack_from("<Q", value)
        yield parent & _RECORD_MASK, value[_NAME_AT : _NAME_AT + 2 * value[_NAME_AT - 2]]


def _damaged(number: int, what: str) -> DamagedError:
    return DamagedError(f"ntfs.record {number}", 0, what)
