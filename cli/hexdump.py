"""A hex dump exactly as ``xxd -g1`` prints it.

Source: observed: xxd 2022-01-14.
"""

from __future__ import annotations

BYTES_PER_LINE = 16

_TEXT = bytes(byte if 0x20 <= byte < 0x7F else ord(".") for byte in range(256))  # noqa: PLR2004
_HEX_WIDTH = 3 * BYTES_PER_LINE


def hexdump(data: bytes | bytearray | memoryview, offset: int = 0) -> str:
    """Return the lines of a dump of `data`, whose first byte is at `offset`.

    All lines but the last have 16 bytes, so a dump may be made of pieces of a multiple of 16 bytes.
    """
    whole = bytes(data)
    text = whole.translate(_TEXT).decode("ascii")
    lines = []
    for start in range(0, len(whole), BYTES_PER_LINE):
        stop = start + BYTES_PER_LINE
        pairs = whole[start:stop].hex(" ")
        lines.append(f"{offset + start:08x}: {pairs:<{_HEX_WIDTH}} {text[start:stop]}\n")
    return "".join(lines)
