"""Disks with bytes of their partition tables changed: refused by name, or what can be."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.formats.errors import FormatError
from imgcat.formats.partitions.on_disk import begins_file_system, read_table
from support.partition_tables import (
    CONTAINER,
    COPY,
    DOS,
    ENTRIES,
    GPT,
    HEADER,
    MIB,
    SECOND,
    SIZE,
    THIRD,
    entry,
    look,
    partition,
    seal,
)


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A disk with a GPT."""
    return partition(tmp_path_factory.mktemp("gpt") / "disk", GPT)


@pytest.fixture(scope="module")
def dos(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A disk with an MBR and logical partitions."""
    return partition(tmp_path_factory.mktemp("dos") / "disk", DOS)


class Damaged:
    """A disk with a few other bytes."""

    def __init__(self, data: bytes, size: int, changes: list[tuple[int, bytes]]) -> None:
        self.data, self.size = data, size
        self.changes = changes

    def read(self, at: int, length: int) -> bytes:
        assert 0 <= at < self.size
        assert 0 < length <= min(4 * MIB, self.size - at)
        found = bytearray(self.data[at : at + length])
        for where, new in self.changes:
            for number, byte in enumerate(new, where):
                if at <= number < at + len(found):
                    found[number - at] = byte
        return bytes(found)


SPOTS = [0, 440, 446, 462, 478, HEADER, ENTRIES, COPY, COPY - 32 * 512]
SPOTS += [place + 446 for place in (CONTAINER, SECOND, THIRD)]
SIZES = [SIZE, SIZE - 1, 4096, 1024, 513, 512, 511, 0, 20000 * 512, 15000 * 512 + 7]
NUMBERS = [0, 1, 2, 5, 0x0F, 0x80, 0xEE, 128, 6144, 14336, (1 << 32) - 1, (1 << 64) - 1]
CHANGES = st.lists(
    st.tuples(
        st.builds(int.__add__, st.sampled_from(SPOTS), st.integers(0, 130)),
        st.binary(min_size=1, max_size=16)
        | st.sampled_from(NUMBERS).map(lambda number: number.to_bytes(8, "little"))
        | st.builds(
            entry,
            st.sampled_from([0, 0x80]),
            st.sampled_from([0, 5, 0x0F, 0x83, 0xEE]),
            st.integers(0, 30000),
            st.integers(0, 30000),
        ),
    ),
    max_size=6,
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(
    which=st.sampled_from(["gpt", "dos"]), changes=CHANGES, sealed=st.booleans(),
    size=st.just(SIZE) | st.sampled_from(SIZES), sector=st.sampled_from([None, 512, 4096]),
)  # fmt: skip
def test_no_bytes_do_any_harm(  # noqa: PLR0917
    gpt: bytes, dos: bytes, which: str, changes: list[tuple[int, bytes]], sealed: bool,
    size: int, sector: int | None,
) -> None:  # fmt: skip
    damaged = Damaged({"gpt": gpt, "dos": dos}[which], size, changes)
    if sealed and which == "gpt" and size == SIZE:
        # Right checksums, so that what lies behind them is looked at.
        start = bytearray(damaged.read(0, 40 * 512))
        with contextlib.suppress(struct.error, OverflowError):
            seal(start, HEADER)
        damaged.changes = [*changes, (HEADER, bytes(start[HEADER : HEADER + 92]))]
    try:
        found = read_table(damaged.read, size, sector)
    except FormatError:
        return
    if found is None:
        return
    assert found.scheme in {"gpt", "mbr"}
    assert found.partitions == tuple(sorted(found.partitions, key=lambda each: each.number))
    for each in found.partitions:
        assert 0 < each.start < each.stop <= size
        assert each.attributes == 0 or found.scheme == "gpt"
    plain = sorted((p.start, p.stop) for p in found.partitions if not p.is_container)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(plain))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=2048))
def test_bytes_that_are_no_disk(data: bytes) -> None:
    for tail in (b"", b"\x55\xaa"):
        with contextlib.suppress(FormatError):
            look(data.ljust(510, b"\0")[:510] + tail + data)
    begins_file_system(data)
