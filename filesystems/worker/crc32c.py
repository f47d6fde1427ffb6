"""CRC-32C (Castagnoli): long blocks are folded as one large number, what remains goes by bytes."""

from __future__ import annotations

import functools

_POLYNOMIAL = 0x82F63B78
_STRAIGHT = 0x11EDC6F41
"""The same with its highest power first, and that power."""

_SHORTEST_FOLDED = 128
"""Bits; below that, bytes are as fast."""


def _table() -> tuple[int, ...]:
    found = []
    for number in range(256):
        value = number
        for _bit in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


TABLE = _table()
"""What each byte leaves."""


def crc32c(seed: int, data: bytes) -> int:
    """Return the remainder after `data`; not inverted at either end, as Linux keeps it."""
    bits = len(data) * 8
    if bits > _SHORTEST_FOLDED:
        data = _folded(int.from_bytes(data, "little") ^ seed, bits)
        seed = 0
    value = seed
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value


def _folded(number: int, bits: int) -> bytes:
    """Return a few bytes that have the same remainder.

    The first bits are the highest powers: they are what they are modulo the polynomial, times what
    the rest leaves of its place. What is in the first `head` bits is so added to the others.
    """
    while bits > _SHORTEST_FOLDED:
        head = (bits - 32) // 2 & ~7
        first, number = number & ((1 << head) - 1), number >> head
        bits -= head
        for power in _powers(bits):
            number ^= first << (bits - head - power)
    return number.to_bytes(bits // 8, "little")


@functools.lru_cache(maxsize=1024)
def _powers(exponent: int) -> tuple[int, ...]:
    """Return the powers that x to the `exponent` is the sum of, modulo the polynomial."""
    value = 1
    for digit in f"{exponent:b}":
        value = _squared(value)
        if digit == "1":
            value <<= 1
            if value >> 32:
                value ^= _STRAIGHT
    return tuple(power for power in range(32) if value >> power & 1)


def _squared(value: int) -> int:
    square = 0
    for power in range(32):
        square |= (value >> power & 1) << 2 * power
    for power in range(62, 31, -1):
        if square >> power & 1:
            square ^= _STRAIGHT << power - 32
    return square
