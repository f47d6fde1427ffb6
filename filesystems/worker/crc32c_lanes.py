"""CRC-32C of many records of one length at once: byte by byte of all of them, by tables.

A remainder is the sum of what each byte leaves of its place. A column, the bytes of all records at
one place, is looked up as a whole, and columns of zeros, which are most, leave nothing.
"""

from __future__ import annotations

from .crc32c import TABLE

Tables = tuple[bytes, ...]
"""For `bytes.translate`: the four bytes of a remainder, the lowest first."""

Planes = tuple[int, int, int, int]
"""Remainders of records as four large numbers: the lowest byte of each record, and so on."""


def remainders(data: bytes, size: int, skipped: frozenset[int], behind: int = 0) -> Planes:
    """Return what records leave, each from a remainder of zero on.

    Args:
        data: the records, one after the other.
        size: bytes of a record.
        skipped: places in a record that count as zeros.
        behind: bytes that stand behind each record and are zeros.
    """
    planes = [0, 0, 0, 0]
    for place in _places(data, size):
        if place not in skipped:
            column = data[place::size]
            for number, table in enumerate(_tables(size - 1 - place + behind)):
                planes[number] ^= int.from_bytes(column.translate(table), "little")
    return planes[0], planes[1], planes[2], planes[3]


def column(data: bytes, size: int, place: int) -> int:
    """Return the bytes of all records at a place, as one of `Planes`."""
    return int.from_bytes(data[place::size], "little")


def _places(data: bytes, size: int) -> list[int]:
    """Return the places at which not all records have a zero."""
    together, count = int.from_bytes(data, "little"), len(data) // size
    while count > 1:
        half = (count + 1) // 2
        together |= together >> half * size * 8
        count = half
    first = (together & ((1 << size * 8) - 1)).to_bytes(size, "little")
    return [place for place, byte in enumerate(first) if byte]


def _tables(behind: int) -> Tables:
    """Return what each byte leaves that has so many behind it: four tables, the lowest first."""
    while len(_KNOWN) <= behind:
        low, second, third, high = _KNOWN[-1]
        # Behind a zero more, each plane is the one above it, and what the lowest byte leaves.
        above = (second, third, high, bytes(len(low)))
        _KNOWN.append(tuple(map(_sum, above, map(low.translate, _KNOWN[0]))))
    return _KNOWN[behind]


def _sum(first: bytes, second: bytes) -> bytes:
    both = int.from_bytes(first, "little") ^ int.from_bytes(second, "little")
    return both.to_bytes(len(first), "little")


_KNOWN: list[Tables] = [
    tuple(bytes(value >> shift & 0xFF for value in TABLE) for shift in (0, 8, 16, 24))
]
