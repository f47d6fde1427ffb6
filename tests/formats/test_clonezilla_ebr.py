"""Boot records of logical partitions: the saved one is used, the others lead to the same places."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.partitions import ebr
from imgcat.formats.partitions.text_tables import PartitionTable, Row, parse_sfdisk

if TYPE_CHECKING:
    from collections.abc import Sequence


def _chain(rows: Sequence[str], saved: dict[int, bytes]) -> tuple[list[int], tuple[str, ...]]:
    text = "label: dos\n" + "".join(f"/dev/sda{row}\n" for row in rows)
    records, problems = ebr.boot_records(parse_sfdisk(text), saved)
    return [record.offset // 512 for record in records], problems


_EXTENDED = "4 : start=100, size=900, type=f"


def test_boot_records_without_saved_ones() -> None:
    logical = ["5 : start=163, size=100, type=83", "6 : start=400, size=10, type=82",
               "7 : start=411, size=9, type=83", "8 : start=300, size=5, type=83"]  # fmt: skip
    assert _chain([_EXTENDED, *logical], {}) == ([100, 337, 348, 299], ())
    assert _chain([_EXTENDED], {}) == ([100], ())
    assert _chain(["1 : start=1, size=9, type=83"], {}) == ([], ())


def test_boot_records_for_which_there_is_no_room() -> None:
    logical = ["5 : start=163, size=100, type=83", "6 : start=263, size=10, type=82"]
    places, problems = _chain([_EXTENDED, *logical], {})
    assert places == [100]
    (problem,) = problems
    assert problem.startswith("there is no room for the boot record of /dev/sda6: it and those")
    places, problems = _chain([_EXTENDED, "5 : start=50, size=10, type=83"], {})
    assert (places, problems) == ([], ("no boot record can lead to /dev/sda5",))


def test_saved_boot_records() -> None:
    rows = [_EXTENDED, "5 : start=163, size=100, type=83", "6 : start=400, size=10, type=82"]
    table = parse_sfdisk("label: dos\n" + "".join(f"/dev/sda{row}\n" for row in rows))

    def record(*entries: tuple[int, int, int]) -> bytes:
        packed = b"".join(struct.pack("<4xB3xII", *entry) for entry in entries)
        return (b"C" * 446 + packed).ljust(510, b"\0") + b"\x55\xaa"

    first = record((0x83, 63, 100), (5, 290, 20))
    records, problems = ebr.boot_records(table, {4: first})
    assert [(r.offset // 512, r.is_saved, r.number) for r in records] == [
        (100, True, 4), (390, False, 6),
    ]  # fmt: skip
    assert (records[0].data, problems) == (first, ())
    # Named after the logical partition that it leads to: its place follows from its entry.
    second = record((0x82, 7, 10))
    records, problems = ebr.boot_records(table, {6: second})
    assert [(r.offset // 512, r.is_saved) for r in records] == [(100, False), (393, True)]
    # One that contradicts the table gives its code only, as in a restore.
    records, problems = ebr.boot_records(table, {4: record((0x83, 64, 100))})
    assert problems == (
        "the saved boot record before /dev/sda5 does not agree with the partition table",
    )
    assert not records[0].is_saved
    assert records[0].data[:446] == b"C" * 446
    # One without a signature is none.
    records, problems = ebr.boot_records(table, {4: bytes(512)})
    assert ([r.is_saved for r in records], problems) == ([False, False], ())


_ROWS = st.lists(
    st.builds(
        lambda number, start, size, kind: Row(
            f"/dev/sda{number}", number, start * 512, (start + size) * 512, kind, False, None
        ),
        st.integers(1, 9), st.integers(0, 1000) | st.integers(0, 1 << 40),
        st.integers(1, 1000) | st.integers(1, 1 << 40), st.sampled_from(["83", "5", "f", ""]),
    ),
    max_size=8,
)  # fmt: skip


@given(rows=_ROWS, saved=st.dictionaries(st.integers(1, 9), st.binary(max_size=520), max_size=3))
def test_any_table_gives_records_that_touch_no_partition(
    rows: list[Row], saved: dict[int, bytes]
) -> None:
    saved = {number: data[:510].ljust(510, b"\1") + b"\x55\xaa" for number, data in saved.items()}
    table = PartitionTable("dos", None, None, 512, None, None, tuple(rows))
    records, _ = ebr.boot_records(table, saved)
    assert all(len(record.data) == 512 for record in records)
    logical = [row for row in rows if row.number >= 5]
    for record in records[1:]:
        assert not any(row.start <= record.offset < row.stop for row in logical)
