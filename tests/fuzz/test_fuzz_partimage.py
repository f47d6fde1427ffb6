"""Whatever the bytes of a partimage image are, only documented errors are raised."""

from __future__ import annotations

import random

import pytest
from imgcat.formats.errors import FormatError
from imgcat.formats.partimage import layout, reader
from imgcat.formats.reader import read_bytes
from support import partimage_writer as writer
from support.memory_source import MemorySource
from support.opening import open_scanned

RECIPE = writer.Recipe(present=[True, False, True] * 60, extensions=(b"abc",), mbr_count=1)
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


def _mutated(generator: random.Random, data: bytes, start: int, stop: int) -> bytearray:
    mutated = bytearray(data)
    for _ in range(generator.randrange(1, 6)):
        at = generator.randrange(start, stop)
        length = generator.choice((1, 1, 2, 4, 8))
        octets = generator.choice(
            (generator.randbytes(length), bytes([generator.choice(_INTERESTING)]) * length)
        )
        mutated[at : at + length] = octets
    if generator.random() < 0.2:
        del mutated[generator.randrange(len(mutated)) :]
    return mutated


def _mend(stream: bytearray) -> None:
    """Let the sums fit again, so that mutations get past them."""
    for magic in (b"", b"MAGIC-BEGIN-LOCALHEADER", b"MAGIC-BEGIN-INFO"):
        start = stream.find(magic) + len(magic)
        header = bytes(stream[start : start + writer.HEADER])
        if start >= len(magic) and len(header) == writer.HEADER:
            stream[start + writer.HEADER : start + writer.HEADER + 4] = writer.header_sum(header)


@pytest.mark.parametrize("seed", range(4))
def test_mutations_of_the_headers(seed: int) -> None:
    written = writer.write(RECIPE)
    interesting = [
        range(9540, 9810), range(len(written.stream) // 3 - 50, written.data_offset),
    ]  # fmt: skip
    local = written.stream.index(b"MAGIC-BEGIN-LOCALHEADER")
    generator = random.Random(seed)
    read = 0
    for _ in range(150):
        area = generator.choice([*interesting, range(local, local + 80)])
        stream = _mutated(generator, written.stream, area.start, area.stop)
        if generator.random() < 0.7:
            _mend(stream)
        source = MemorySource(bytes(stream))
        try:
            scan = reader.scan(source)
            opened = open_scanned(source, scan)
            for offset in (0, opened.size // 2, max(0, opened.size - 700)):
                read_bytes(opened, offset, min(700, opened.size - offset))
        except FormatError:
            continue
        read += 1
    assert read > 0


def test_ten_thousand_mutations_of_the_small_structures() -> None:
    generator = random.Random(11)
    volume, local = writer.volume_header(1, 2), writer.local_header(512, 5, 10, 9)
    refused = 0
    for _ in range(5000):
        try:
            layout.parse_volume_header(bytes(_mutated(generator, volume, 0, 120)))
        except FormatError:
            refused += 1
        data = bytes(_mutated(generator, local, 0, 48)).ljust(writer.HEADER, b"\0")
        # All but the first hundred bytes are zeros and add nothing.
        octets = sum(each - 256 * (each > 127) for each in data[:120])
        try:
            layout.parse_local_header(data + (octets % (1 << 32)).to_bytes(4, "little"), 0, 100_000)
        except FormatError:
            refused += 1
    assert 1000 < refused < 10_000
