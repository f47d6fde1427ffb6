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
OF_NAMES = "$I30".encode("utf-16-le")
"""What the index of names of a directory is called."""

STANDARD_SIZE = 36
IS_SYSTEM = 0x4
"""Of the attributes that ``STANDARD`` has."""

_END = 0xFFFFFFFF
_SECTOR = 512
_IN_USE = 1
_RECORD_MASK = (1 << 48) - 1
_IS_DIRECTORY = 2
_DOS_NAME = 2
_NAME_AT = 66

_HEAD = struct.Struct("<IIBBHH")
_HERE = struct.Struct("<IH")
_SIZE = struct.Struct("<Q")
_STANDARD = struct.Struct("<8xq16xI")


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


class Short(NamedTuple):
    """What is told in short of a file that one record tells all of.

    Attributes:
        is_directory: whether it is one; else it is a regular file.
        size: its bytes, 0 of a directory.
        modified: 100 ns since 1601, 0 where there is no time.
        flags: as those of `Attribute`, of its bytes.
    """

    is_directory: bool
    size: int
    modified: int
    flags: int


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

    def in_short(self, number: int, sequence: int) -> Short | None:
        """Return what is told in short of a file, if it is one of those that nothing is wrong with.

        Args:
            number: of its record.
            sequence: how often that had been used before; 0 for any number.

        Returns:
            None also for what more than this record would tell of, and for all that is more than a
            directory or a regular file: see `attributes`.
        """
        try:
            return _short(number, self._fixed(number), sequence)
        except DamagedError:
            return None

    def _of_record(self, number: int, base: int = 0) -> Iterator[Attribute]:
        """Yield the attributes in a record, which is one of the file `base`; 0 for its own."""
        record = self._fixed(number)
        (reference,) = struct.unpack_from("<Q", record, 32)
        if reference & _RECORD_MASK != base:
            raise _damaged(number, f"it belongs to file {reference & _RECORD_MASK}, not to {base}")
        for kind, name, flags, size, at, start, stop in _told_of(number, record):
            (own,) = struct.unpack_from("<H", record, start + 14)
            if at:
                value = record[at : at + size]
                yield Attribute(kind, name, flags, own, value, size, 0, 0, size, b"")
                continue
            first, last, pairs_at = struct.unpack_from("<QqH", record, start + 16)
            (written,) = struct.unpack_from("<Q", record, start + 56)
            pairs = record[start + pairs_at : stop]
            yield Attribute(kind, name, flags, own, None, written, first, last + 1, size, pairs)

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


def _short(number: int, record: bytes, sequence: int) -> Short | None:
    """Return what `Records.in_short` does, of a record; it may also raise."""
    used, is_used_for, base = struct.unpack_from("<H4xH8xQ", record, 16)
    if base & _RECORD_MASK or (sequence and used != sequence):
        raise _damaged(number, "it is another file's")
    data, standard, has_names = None, None, False
    for kind, name, flags, size, at, start, _stop in _told_of(number, record):
        if kind == DATA and not name:
            is_first = bool(at) or not any(record[start + 16 : start + 24])
            if data is not None or not is_first or size >= 1 << 63:
                return None
            data = size, flags
        elif kind == STANDARD:
            if standard is not None or not at or size < STANDARD_SIZE:
                return None
            standard = _STANDARD.unpack_from(record, at)
        elif kind in {LIST, REPARSE}:
            return None
        has_names = has_names or (kind == INDEX_ROOT and name == OF_NAMES)
    if standard is None or has_names is not bool(is_used_for & _IS_DIRECTORY):
        return None
    modified, attributes = standard
    if not has_names and (data is None or attributes & IS_SYSTEM):
        return None
    size, flags = data or (0, 0)
    return Short(has_names, 0 if has_names else size, modified, flags)


def _told_of(number: int, record: bytes) -> Iterator[tuple[int, bytes, int, int, int, int, int]]:
    """Yield the attributes in a record.

    Yields:
        Kind, name and flags; how many bytes it has, and where in the record they are, 0 for
        elsewhere; where in the record the attribute itself is, ``[start, stop)``.

    Raises:
        DamagedError: one is not whole.
    """
    (start,) = struct.unpack_from("<H", record, 20)
    while start + 16 <= len(record):
        kind, length, is_elsewhere, name_length, name_at, flags = _HEAD.unpack_from(record, start)
        if kind == _END:
            return
        stop = start + length
        if length < 24 or length & 7 or stop > len(record):  # noqa: PLR2004
            raise _damaged(number, "an attribute of it is longer than it")
        name = record[start + name_at : stop][: 2 * name_length] if name_length else b""
        if is_elsewhere:
            if length < 64:  # noqa: PLR2004
                raise _damaged(number, "an attribute of it is cut off")
            (size,) = _SIZE.unpack_from(record, start + 48)
            yield kind, name, flags, size, 0, start, stop
        else:
            size, at = _HERE.unpack_from(record, start + 16)
            if size and at + size > length:
                raise _damaged(number, "the value of an attribute is cut off")
            yield kind, name, flags, size, start + at, start, stop
        start = stop


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
