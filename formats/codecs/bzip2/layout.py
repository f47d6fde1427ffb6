"""bzip2 blocks: finding them at any bit, and making a stream of one.

A stream is ``BZh`` and a digit, blocks, and an end with a CRC of the blocks' CRCs. A block begins
with 48 bits that are always the same, and the CRC of what is in it. Bits count from a byte's high
end. Source: the bzip2 format specification, 0.2.1.
"""

from __future__ import annotations

BLOCK_MAGIC = 0x314159265359
END_MAGIC = 0x177245385090
MAGIC_BITS = 48
CRC_BITS = 32
HEADER_SIZE = 4


def bits_at(data: bytes, bit: int, count: int) -> int:
    """Return `count` bits from the bit `bit` on, all of which must be there."""
    first, last = bit // 8, -(-(bit + count) // 8)
    value = int.from_bytes(data[first:last], "big")
    return (value >> (last * 8 - bit - count)) & ((1 << count) - 1)


def find_magic(data: bytes, start_bit: int) -> int | None:
    """Return the first bit from `start_bit` on where a block or an end begins, or None."""
    found = None
    for magic in (BLOCK_MAGIC, END_MAGIC):
        for shift in range(8):
            # The bytes that lie wholly inside of the magic when it begins `shift` bits into one.
            inner = (magic >> shift) & ((1 << 40) - 1) if shift else magic
            pattern = inner.to_bytes(5 if shift else 6, "big")
            stop = len(data) if found is None else found // 8 + 8
            at = data.find(pattern, (start_bit + 7) // 8, stop)
            while at >= 0:
                bit = at * 8 - (8 - shift if shift else 0)
                if found is not None and bit >= found:
                    break
                is_whole = bit >= start_bit and bit + MAGIC_BITS <= len(data) * 8
                if is_whole and bits_at(data, bit, MAGIC_BITS) == magic:
                    found = bit
                    break
                at = data.find(pattern, at + 1, stop)
    return found


def single_block_stream(data: bytes, start_bit: int, stop_bit: int) -> bytes:
    """Return a stream of the one block that lies at bits ``[start_bit, stop_bit)``."""
    block = bits_at(data, start_bit, stop_bit - start_bit)
    crc = bits_at(data, start_bit + MAGIC_BITS, CRC_BITS)
    count = stop_bit - start_bit + MAGIC_BITS + CRC_BITS
    padding = -count % 8
    value = ((block << MAGIC_BITS | END_MAGIC) << CRC_BITS | crc) << padding
    return b"BZh9" + value.to_bytes((count + padding) // 8, "big")
