"""Bytes that are taken from several places in turn, against a table of every byte."""

from __future__ import annotations

import random

from imgcat.formats.composed.segments import Stripes


def test_each_byte_is_where_it_belongs() -> None:
    generator = random.Random(4)
    for _ in range(300):
        size, width = generator.randrange(1, 9), generator.randrange(1, 5)
        offsets = tuple(generator.sample(range(0, 400, 100), width))
        stripes = Stripes(size, offsets)
        # Column by column and row by row: where each byte of the volume lies.
        table = [
            offsets[column] + row * size + byte
            for row in range(12)
            for column in range(width)
            for byte in range(size)
        ]
        start = generator.randrange(len(table))
        stop = generator.randrange(start, len(table) + 1)
        found = [
            at + number
            for first, last, at in stripes.cut(start, stop)
            for number in range(last - first)
        ]
        assert found == table[start:stop]
        first = generator.randrange(400)
        last = generator.randrange(first, 401)
        among = sorted(
            byte for a, b in stripes.among(start, stop, first, last) for byte in range(a, b)
        )
        expected = [byte for byte in range(start, stop) if first <= table[byte] < last]
        assert among == expected
