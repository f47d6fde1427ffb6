"""Runs as the catalog has them, and what is said of ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from imgcat.catalog.errors import CatalogError
from imgcat.catalog.recovery.hashing import Hasher
from imgcat.catalog.recovery.judging import read_file, verdict_of, with_owners
from imgcat.catalog.recovery.present import Wanted
from imgcat.catalog.recovery.records import Cause, Range, SavedFile, Verdict
from imgcat.catalog.recovery.runs import NO_HASH, PIECE, merged, pack, pieces_of, unpack
from imgcat.formats.errors import CorruptImageError

if TYPE_CHECKING:
    from collections.abc import Callable

Run = tuple[int, int, int]

TABLE = [
    ("", [], 0),
    # 1 byte at 0; 300 zeros behind it.
    ("04 00", [(0, 1, 0)], 1),
    ("04 00 b1 09", [(0, 1, 0), (1, 300, -1)], 301),
    # 2 bytes at 10, then 2 at 8: four before the end of the first, at 12.
    ("08 14 08 07", [(0, 2, 10), (2, 2, 8)], 4),
    # Nobody knows where 5 bytes are.
    ("16", [(0, 5, -2)], 5),
]


@pytest.mark.parametrize(("packed", "runs", "size"), TABLE)
def test_bytes_and_runs(packed: str, runs: list[Run], size: int) -> None:
    assert pack(runs) == bytes.fromhex(packed)
    assert unpack(bytes.fromhex(packed), size) == runs


@pytest.mark.parametrize(
    ("packed", "size"),
    [("04", 1), ("04 00", 2), ("00 00", 0), ("07", 1), ("04 01", 1), ("84", 1), ("08 80", 2)],
    ids=["no place", "too few", "no length", "no kind", "before 0", "cut off", "place cut off"],
)
def test_what_are_no_runs(packed: str, size: int) -> None:
    with pytest.raises(CatalogError, match="take the snapshot again"):
        unpack(bytes.fromhex(packed), size)


@given(st.lists(st.tuples(st.integers(1, 1 << 40), st.integers(-2, 1 << 50)), max_size=20))
def test_what_is_packed_comes_back(parts: list[tuple[int, int]]) -> None:
    runs, start = [], 0
    for length, place in parts:
        runs.append((start, length, place))
        start += length
    assert unpack(pack(runs), start) == runs


@given(st.binary(max_size=40), st.integers(0, 1 << 20))
def test_any_bytes_are_runs_or_refused(packed: bytes, size: int) -> None:
    try:
        runs = unpack(packed, size)
    except CatalogError:
        return
    assert sum(length for _start, length, _place in runs) == size


def test_runs_are_as_long_as_they_can_be_and_end_with_the_file() -> None:
    runs = [(0, 4, 8), (4, 4, 12), (8, 4, -1), (12, 4, -1), (16, 8, 40), (24, 8, 0)]
    assert merged(runs, 22) == [(0, 8, 8), (8, 8, -1), (16, 6, 40)]


class Memory:
    """A volume in memory, some of which cannot be read."""

    def __init__(self, data: bytes, bad: range = range(0)) -> None:
        self.data, self.bad = data, bad
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []

    def read_into(self, view: memoryview, offset: int) -> None:
        self.reads.append((offset, len(view)))
        stop = offset + len(view)
        assert stop <= self.size
        if self.bad and offset < self.bad.stop and self.bad.start < stop:
            raise CorruptImageError("memory", offset, "bad")
        view[:] = self.data[offset:stop]


def hashed(data: bytes, runs: list[Run]) -> SavedFile:
    """Return a file, whose hashes are made here."""
    size = runs[-1][0] + runs[-1][1]
    hashes = b"".join(
        xxhash.xxh3_128(data[each.place : each.place + each.length]).digest()
        for each in pieces_of(runs)
    )
    return SavedFile(size, runs, None, hashes, None)


def hash_all(
    volume: Memory,
    runs: list[tuple[int, int, int]],
    put: Callable[[int, bytes], None],
    tell: Callable[[str], None],
) -> None:
    hasher = Hasher(volume, put, tell)  # type: ignore[arg-type]
    try:
        hasher.add(runs)
        hasher.finish()
    finally:
        hasher.close()


DATA = b"".join(b"%016d" % number for number in range(0, 1 << 20, 16))


def test_hashes_are_of_the_bytes_of_the_file_and_read_in_the_order_of_the_disk() -> None:
    volume = Memory(DATA)
    runs = [(700_000, 100_000, 7), (0, 70_000, 0), (70_100, 10, 3), (70_100, 65_536, 4)]
    found: dict[int, bytes] = {}

    def put(piece: int, hashes: bytes) -> None:
        for at in range(0, len(hashes), 16):
            found[piece + at // 16] = hashes[at : at + 16]

    hash_all(volume, sorted(runs), put, pytest.fail)
    for place, length, piece in runs:
        for at in range(0, length, PIECE):
            data = DATA[place + at : place + min(length, at + PIECE)]
            if (place, at) != (70_100, 0):
                assert found[piece + at // PIECE] == xxhash.xxh3_128(data).digest()
    # What lies close together is read at once.
    assert [offset for offset, _length in volume.reads] == [0, 700_000]


def test_what_cannot_be_read_has_no_hash_and_the_rest_has() -> None:
    volume = Memory(DATA, range(70_000, 70_001))
    found: dict[int, bytes] = {}
    told: list[str] = []
    hash_all(
        volume, [(0, 3 * PIECE, 0)], lambda piece, data: found.update({piece: data}), told.append
    )
    assert len(told) == 1
    assert found == {
        0: xxhash.xxh3_128(DATA[:PIECE]).digest(),
        1: NO_HASH,
        2: xxhash.xxh3_128(DATA[2 * PIECE : 3 * PIECE]).digest(),
    }


def test_each_piece_is_told_by_what_became_of_it() -> None:
    runs = [(0, 4 * PIECE, 0), (4 * PIECE, 100, -1), (4 * PIECE + 100, 5000, 500_000)]
    file = hashed(DATA, runs)
    now = bytearray(DATA)
    now[PIECE + 9] ^= 1
    now[2 * PIECE : 3 * PIECE] = bytes(PIECE)
    now[504_999] ^= 1
    written = bytearray(file.size)

    def write(offset: int, data: memoryview) -> None:
        written[offset : offset + len(data)] = data

    assert read_file(Memory(bytes(now)), file, write) == [  # type: ignore[arg-type]
        Range(0, PIECE, 0, Cause.HOLDS),
        Range(PIECE, 2 * PIECE, PIECE, Cause.CHANGED),
        Range(2 * PIECE, 3 * PIECE, 2 * PIECE, Cause.ZEROS),
        Range(3 * PIECE, 4 * PIECE, 3 * PIECE, Cause.HOLDS),
        Range(4 * PIECE + 100, file.size, 500_000, Cause.CHANGED),
    ]
    assert written == now[: 4 * PIECE] + bytes(100) + now[500_000:505_000]


def test_what_lies_behind_the_end_of_the_source_cannot_be_read() -> None:
    file = hashed(DATA, [(0, 3 * PIECE, 0)])
    found = read_file(Memory(DATA[: 2 * PIECE + 1]), file)  # type: ignore[arg-type]
    assert [(each.stop, each.cause) for each in found] == [
        (2 * PIECE, Cause.HOLDS), (3 * PIECE, Cause.UNREADABLE),
    ]  # fmt: skip


def test_bytes_of_other_files_are_told_apart() -> None:
    wanted = Wanted([(1000, 1000), (1500, 1000), (9000, 10)], 512)
    wanted.give(7, [(0, 100, 1600), (100, 5, -1)])
    wanted.give(8, [(0, 9000, 2400)])
    wanted.give(9, [(0, 10, 4000)])
    wanted.settle()
    # A file has all of its last block: that of 7 ends at 2112.
    assert list(wanted.holders(1000, 2500)) == [(1600, 2112, 7), (2400, 2500, 8)]
    assert list(wanted.holders(9000, 9010)) == [(9000, 9010, 8)]
    assert list(wanted.holders(1700, 1800)) == [(1700, 1800, 7)]
    ranges = [Range(0, 100, 900, Cause.HOLDS), Range(100, 1600, 1000, Cause.CHANGED)]
    owners = {7: b"seven", 8: b"eight"}
    found = with_owners(
        ranges, lambda start, stop: ((*held, owners[held.inode]) for held in
                                     wanted.holders(start, stop))
    )  # fmt: skip
    assert found == [
        Range(0, 100, 900, Cause.HOLDS),
        Range(100, 700, 1000, Cause.CHANGED),
        Range(700, 1212, 1600, Cause.OTHERS, 7, b"seven"),
        Range(1212, 1500, 2112, Cause.CHANGED),
        Range(1500, 1600, 2400, Cause.OTHERS, 8, b"eight"),
    ]


H, U, O, Z, C, N, L = (  # noqa: E741
    Cause.HOLDS, Cause.UNKNOWN, Cause.OTHERS, Cause.ZEROS, Cause.CHANGED, Cause.UNREADABLE,
    Cause.LOST,
)  # fmt: skip


@pytest.mark.parametrize(
    ("causes", "verdict"),
    [
        # Nothing lay anywhere: it is empty, or holes only.
        ([], Verdict.VERIFIED),
        ([H], Verdict.VERIFIED),
        ([H, U], Verdict.UNVERIFIABLE),
        ([U], Verdict.UNVERIFIABLE),
        ([U, Z], Verdict.UNVERIFIABLE),
        ([H, C], Verdict.PARTIAL),
        ([H, Z], Verdict.PARTIAL),
        ([H, O], Verdict.PARTIAL),
        ([H, U, O, Z, C, N, L], Verdict.PARTIAL),
        ([C], Verdict.PARTIAL),
        ([C, Z], Verdict.PARTIAL),
        ([U, N], Verdict.PARTIAL),
        ([O], Verdict.REALLOCATED),
        ([U, O], Verdict.REALLOCATED),
        ([O, Z, C, N], Verdict.REALLOCATED),
        ([Z], Verdict.ZEROED),
        ([Z, N], Verdict.PARTIAL),
        ([N], Verdict.ABSENT),
        ([L, N], Verdict.ABSENT),
    ],
)
def test_which_word_wins(causes: list[Cause], verdict: Verdict) -> None:
    ranges = [Range(at, at + 1, at, cause) for at, cause in enumerate(causes)]
    assert verdict_of(ranges) == verdict
    assert verdict_of(reversed(ranges)) == verdict
