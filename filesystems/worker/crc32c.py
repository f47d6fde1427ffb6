"""CRC-32C (Castagnoli), byte by byte: for the few blocks of a journal, it is fast enough."""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    found = []
    for number in range(256):
        value = number
        for _bit in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def crc32c(seed: int, data: bytes) -> int:
    """Return the remainder after `data`; not inverted at either end, as Linux keeps it."""
    value = seed
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value
