"""Entering a deflate stream in the middle of a byte.

Decoders begin at a byte. Shifting the stream would move the stored blocks in it, which begin at
bytes too. So the bits before the place are replaced by empty blocks that fill as many: what comes
after them lies where it lay.

Source: RFC 1951.
"""

from __future__ import annotations

import functools

_EMPTY_FIXED = (0, 1, 0) + 7 * (0,)
"""A block with fixed codes that ends at once: not the last, kind 1, the code of the end."""


def _empty_dynamic() -> tuple[int, ...]:
    """Return a block with codes of its own that ends at once; of an odd number of bits, 91."""

    def number(value: int, width: int) -> list[int]:
        return [value >> place & 1 for place in range(width)]

    # Not the last, kind 2; 257 literal codes, 1 distance code, 18 lengths of length codes.
    bits = [0, 0, 1, *number(0, 5), *number(0, 5), *number(14, 4)]
    # In the order of the format: the codes for "18" and "1", the third and the last, have one bit.
    for place in range(18):
        bits += number(1 if place in {2, 17} else 0, 3)
    one, zeros = [0], [1]
    # Literal 0 and the end have codes of one bit; between them are 138 + 117 that have none.
    bits += [*one, *zeros, *number(138 - 11, 7), *zeros, *number(117 - 11, 7), *one]
    # The one distance code, and the end.
    return (*bits, *one, 1)


@functools.cache
def _prefix(skipped: int) -> tuple[int, ...]:
    """Return empty blocks whose last byte ends after `skipped` bits of it."""
    odd = _empty_dynamic() if skipped % 2 else ()
    fixed = next(
        count for count in range(4) if (len(odd) + count * len(_EMPTY_FIXED)) % 8 == skipped
    )
    return odd + fixed * _EMPTY_FIXED


def enter(first_byte: int, skipped: int) -> bytes:
    """Return what stands for the first byte of a stream of which some bits are left out.

    Args:
        first_byte: the byte that the stream begins in.
        skipped: how many of its low bits do not belong to the stream, 1 to 7.
    """
    bits = _prefix(skipped)
    value = sum(bit << place for place, bit in enumerate(bits))
    place = len(bits) - skipped
    value |= (first_byte >> skipped << skipped) << place
    return value.to_bytes(place // 8 + 1, "little")
