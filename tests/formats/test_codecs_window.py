"""Which bytes of a window are kept: held against a decoder that says what it copies."""

from __future__ import annotations

import random
from typing import NamedTuple

import lz4.block
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.codecs import registry as codecs
from imgcat.formats.codecs import window_use as window
from imgcat.formats.codecs.scan import scan_stream
from imgcat.formats.codecs.seek_points import SeekPoint
from imgcat.formats.errors import CorruptImageError
from support.memory_source import MemorySource
from support.streams import CODECS, mixed, packed_mixed


class Command(NamedTuple):
    """Of a toy format: some bytes as they are, then a copy from further back."""

    literals: bytes
    distance: int
    length: int


def _decode(commands: list[Command], before: bytes) -> tuple[bytes, set[int]]:
    """Return what comes out, and which bytes of the window it came from, byte by byte."""
    out = bytearray(before)
    origin: list[int | None] = list(range(len(before)))
    for command in commands:
        out += command.literals
        origin += [None] * len(command.literals)
        for _ in range(command.length):
            place = max(0, len(out) - command.distance)
            out.append(out[place])
            origin.append(origin[place])
    used = {each for each in origin[len(before) :] if each is not None}
    return bytes(out[len(before) :]), used


COMMANDS = st.lists(
    st.builds(
        Command,
        literals=st.binary(max_size=6),
        distance=st.integers(1, 1200),
        length=st.integers(0, 40),
    ),
    max_size=12,
)


@given(commands=COMMANDS, size=st.integers(1, 900), seed=st.integers(0, 5))
def test_what_is_referred_to_is_what_a_decoder_copies(
    commands: list[Command], size: int, seed: int
) -> None:
    before = random.Random(seed).randbytes(size)
    plain, used = _decode(commands, before)
    needed = window.referred(lambda marks: _decode(commands, marks)[0], size, plain)
    assert needed is not None
    found = set(map(int, np.flatnonzero(needed)))
    assert used <= found
    # The others are places that cannot be told from a literal: one in 257.
    assert found - used <= {each * 0x101 for each in range(256)}
    sparse = window.unpack(window.pack(before, needed), size)
    assert _decode(commands, sparse)[0] == plain
    assert all(sparse[place] == 0 for place in range(size) if place not in found)


@given(commands=COMMANDS, seed=st.integers(0, 5))
def test_windows_of_more_than_64_kib_are_told_in_larger_places(
    commands: list[Command], seed: int
) -> None:
    size, place = 70_000, 2
    far = [command._replace(distance=command.distance * 58) for command in commands]
    before = random.Random(seed).randbytes(1000) * 70
    plain, used = _decode(far, before)
    needed = window.referred(lambda marks: _decode(far, marks)[0], size, plain)
    assert needed is not None
    found = set(map(int, np.flatnonzero(needed)))
    assert used <= found
    places = {each // place for each in used} | {each * 0x101 for each in range(256)}
    assert {each // place for each in found} <= places


def test_a_decoder_that_gives_less_than_it_gave_tells_nothing() -> None:
    assert window.referred(lambda _marks: b"1234", 1000, b"12345") is None


def test_a_window_of_zeros_costs_nothing() -> None:
    assert len(window.pack(random.Random(1).randbytes(1 << 20), np.zeros(1 << 20, np.bool_))) < 100


@given(before=st.binary(min_size=4, max_size=2000), data=st.data())
def test_lz4_itself_needs_no_more(before: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(before) - 4))
    plain = before[start : start + 700] + b"own" + before[-9:] * 3
    block = lz4.block.compress(plain, dict=before, store_size=False)

    def decode(marks: bytes) -> bytes:
        found: bytes = lz4.block.decompress(block, uncompressed_size=len(plain), dict=marks)
        return found

    needed = window.referred(decode, len(before), plain)
    assert needed is not None
    sparse = window.unpack(window.pack(before, needed), len(before))
    assert decode(sparse) == plain


@pytest.mark.parametrize("tool", ["gzip", "zstd", "zstd-long", "lz4-linked"])
def test_points_keep_a_part_of_their_window_and_that_is_enough(tool: str) -> None:
    size = 4 << 20
    plain, data = mixed(size, 8), packed_mixed(tool, size, 8)
    codec = codecs.named(CODECS[tool])
    index = scan_stream(MemorySource(data), codec, spacing=300_000)
    inside = [point for point in index.points if point.window_size]
    assert len(inside) >= 3
    dropped = 0
    for point in inside:
        start = point.plain_offset
        real = plain[max(0, start - point.window_size) : start].rjust(point.window_size, b"\0")
        kept = window.unpacked(point)
        assert len(kept) == len(real)
        # A byte is kept as it was, or is zero.
        different = np.frombuffer(kept, np.uint8) != np.frombuffer(real, np.uint8)
        assert not np.frombuffer(kept, np.uint8)[different].any()
        dropped += int(different.sum())
        full = point._replace(window=window.pack(real, None))
        for each in (point, full):
            position = start
            for piece in codec.decode(MemorySource(data), each):
                assert piece == plain[position : position + len(piece)]
                position += len(piece)
                if position > start + 500_000:
                    break
    assert dropped > 10_000


def test_a_damaged_window_is_said_with_what_to_do() -> None:
    packed = bytearray(window.pack(b"abc" * 1000, None))
    packed[0] ^= 1
    point = SeekPoint(123, 45, 1, 3000, bytes(packed))
    with pytest.raises(CorruptImageError, match="add the image again with --force") as caught:
        window.unpacked(point)
    assert caught.value.structure == "index.window"
    assert caught.value.offset == 123
    assert window.unpacked(SeekPoint(0, 0)) == b""
