"""A hex dump is what `xxd -g1` prints."""

from __future__ import annotations

import random
import subprocess

import pytest
from imgcat.cli.hexdump import hexdump

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    ("data", "offset", "text"),
    [
        (b"", 0, ""),
        (b"h", 0, f"00000000: 68{' ' * 47}h\n"),
        (b"hello", 0x1_2345_6789, f"123456789: 68 65 6c 6c 6f{' ' * 35}hello\n"),
        (
            b"hello\nabc def ghi\x7f\x80",
            5,
            (
                "00000005: 68 65 6c 6c 6f 0a 61 62 63 20 64 65 66 20 67 68  hello.abc def gh\n"
                f"00000015: 69 7f 80{' ' * 41}i..\n"
            ),
        ),
    ],
)
def test_lines(data: bytes, offset: int, text: str) -> None:
    assert hexdump(data, offset) == text


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 256, 1000])
@pytest.mark.parametrize("offset", [0, 7, 4096, 0xFFFFFFF8, 0x123456789A])
def test_what_xxd_prints(length: int, offset: int) -> None:
    data = (EVERY_BYTE + random.Random(length).randbytes(1000))[:length]
    said = subprocess.run(
        ["xxd", "-g1", "-o", str(offset)], input=data, capture_output=True, check=True
    )
    assert hexdump(data, offset) == said.stdout.decode("ascii")


def test_pieces_make_the_whole() -> None:
    data = EVERY_BYTE * 3
    pieces = [hexdump(memoryview(data)[at : at + 48], 100 + at) for at in range(0, len(data), 48)]
    assert "".join(pieces) == hexdump(data, 100)
