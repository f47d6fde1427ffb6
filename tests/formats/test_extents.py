"""Extents and the geometry of stored blocks, against the naive writer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats import extent
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.extent import Extent, ExtentKind, check_cover
from imgcat.formats.reader import read_bytes
from imgcat.formats.stored.blocks import StoredBlocks
from imgcat.formats.stored.scatter import Scatter, fill_zero
from support import naive_bitmap
from support.memory_source import CountingSource, MemorySource
from support.opening import open_scanned, scan_and_open
from support.partclone_writer import Recipe, Written, write

if TYPE_CHECKING:
    from collections.abc import Iterator

_ZERO = ExtentKind.ZERO
_DATA = ExtentKind.DATA


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw an image of either version, of any mode."""
    present = draw(naive_bitmap.bitmaps(max_pieces=4, max_piece=30))
    block_size = draw(st.sampled_from((1, 3, 16, 64)))
    tail = draw(st.sampled_from((0, 1, 15, 200)))
    if draw(st.booleans()):
        return Recipe(
            present=present,
            version="0001",
            block_size=block_size,
            tail=tail,
            free_bytes=draw(st.sampled_from((b"\0", b"\0\x02", b"\xff\x80\0"))),
            wide=draw(st.booleans()) and sum(present) > 0,
        )
    checksum = draw(st.sampled_from(("NONE", "CRC32", "XXH64", "XXH128")))
    bitmap = draw(st.sampled_from(("BIT", "BIT", "NONE")))
    return Recipe(
        present=present if bitmap == "BIT" else [True] * len(present),
        block_size=block_size,
        tail=tail,
        checksum=checksum,
        blocks_per_checksum=draw(st.integers(0 if checksum == "NONE" else 1, 9)),
        reseed=draw(st.booleans()),
        bitmap=bitmap,
        ones_in_padding=draw(st.booleans()),
        cpu_bits=draw(st.sampled_from((32, 64))),
    )


def _model_extents(
    recipe: Recipe, written: Written, source: object, start: int, stop: int
) -> list[Extent]:
    """Return the extents byte by byte: one goes on while kind and source offset do."""
    found: list[Extent] = []
    for position in range(start, stop):
        block, within = divmod(position, recipe.block_size)
        stored = written.block_offsets.get(block)
        now = Extent(position, position + 1, _ZERO)
        if stored is not None:
            now = Extent(position, position + 1, _DATA, source, stored + within, 1)
        found.append(now)
    return _joined(iter(found))


def _joined(extents: Iterator[Extent]) -> list[Extent]:
    """Join neighbours that could have been one: a reader may cut at a checksum of no bytes."""
    found: list[Extent] = []
    for each in extents:
        last = found[-1] if found else None
        if (
            last is not None
            and last.kind is each.kind
            and (last.kind is _ZERO or last.offset + last.length == each.offset)
        ):
            length = last.stored_length + each.stored_length
            found[-1] = last._replace(stop=each.stop, stored_length=length)
        else:
            found.append(each)
    return found


@given(recipe=recipes(), data=st.data())
def test_extents_equal_the_model(recipe: Recipe, data: st.DataObject) -> None:
    written = write(recipe)
    source = MemorySource(written.image)
    _, reader = scan_and_open(source)
    for _ in range(3):
        start, stop = data.draw(naive_bitmap.ranges(len(written.guest), min_length=1))
        check_cover(reader.extents(start, stop), start, stop)
        expected = _model_extents(recipe, written, source, start, stop)
        assert _joined(reader.extents(start, stop)) == expected


@given(recipe=recipes(), data=st.data())
def test_reads_equal_the_model_in_one_call_at_most(recipe: Recipe, data: st.DataObject) -> None:
    written = write(recipe)
    source = CountingSource(MemorySource(written.image))
    _, reader = scan_and_open(source)
    assert read_bytes(reader, 0, reader.size) == written.guest
    for _ in range(3):
        start, stop = data.draw(naive_bitmap.ranges(len(written.guest), min_length=1))
        source.calls.clear()
        buffer = bytearray(b"\xaa" * (stop - start))
        reader.read_into(memoryview(buffer), start)
        assert buffer == written.guest[start:stop]
        # Blocks that are stored side by side are one read, whatever checksums lie between.
        touched = {
            block
            for block in range(start // recipe.block_size, -(-stop // recipe.block_size))
            if block in written.block_offsets
        }
        assert [call.method for call in source.calls] == ["readv"] * bool(touched)

        buffer = bytearray(b"\xaa" * (stop - start))
        assert reader.read_into_nowait(memoryview(buffer), start)
        assert buffer == written.guest[start:stop]


@given(recipe=recipes())
def test_stored_size_and_block_offsets_are_the_writers(recipe: Recipe) -> None:
    written = write(recipe)
    source = MemorySource(written.image)
    scan, reader = scan_and_open(source)
    blocks = StoredBlocks.from_json(scan.info.layout)
    assert blocks.stored_size == len(written.image)
    assert blocks.data_offset == written.data_offset
    assert blocks.used_blocks == len(written.block_offsets)
    assert scan.info.damage is None
    assert scan.info.missing is None
    for block, offset in written.block_offsets.items():
        start = block * recipe.block_size
        first = next(iter(reader.extents(start, start + 1)))
        assert first == extent.data(start, start + 1, source, offset)


def test_extents_between_checksums() -> None:
    """The one example to read: 8 blocks of 16 bytes, a CRC32 after each second stored one."""
    present = [False, True, True, True, False, False, True, False]
    written = write(Recipe(present=present, block_size=16, blocks_per_checksum=2, tail=5))
    source = MemorySource(written.image)
    _, reader = scan_and_open(source)
    data = 110 + 1 + 4
    assert list(reader.extents(0, 133)) == [
        extent.zero(0, 16),
        extent.data(16, 48, source, data),
        extent.data(48, 64, source, data + 32 + 4),
        extent.zero(64, 96),
        extent.data(96, 112, source, data + 48 + 4),
        extent.zero(112, 133),
    ]
    assert list(reader.extents(20, 50)) == [
        extent.data(20, 48, source, data + 4),
        extent.data(48, 50, source, data + 36),
    ]
    assert list(reader.extents(130, 133)) == [extent.zero(130, 133)]
    assert read_bytes(reader, 0, 133) == written.guest


def test_read_without_waiting_needs_a_loaded_index() -> None:
    present = [True, False] * 50
    source = CountingSource(MemorySource(write(Recipe(present=present)).image))
    scan, reader = scan_and_open(source)
    source.calls.clear()
    buffer = memoryview(bytearray(300))
    assert not reader.read_into_nowait(buffer, 0)
    assert source.calls == []
    reader.read_into(buffer, 0)
    assert reader.read_into_nowait(buffer, 0)
    # Another reader with an index of its own starts anew.
    assert not open_scanned(source, scan).read_into_nowait(buffer, 0)


def test_the_tail_behind_the_blocks_needs_no_index() -> None:
    present = [True, False] * 50
    source = CountingSource(MemorySource(write(Recipe(present=present, tail=200)).image))
    _, reader = scan_and_open(source)
    source.calls.clear()
    buffer = bytearray(b"\xaa" * 100)
    assert reader.read_into_nowait(memoryview(buffer), 6500)
    assert buffer == bytes(100)
    assert source.calls == []


# --- check_cover -------------------------------------------------------------------------------


def test_a_good_cover_is_accepted() -> None:
    check_cover([], 5, 5)
    check_cover([Extent(5, 6, _ZERO), Extent(6, 9, _DATA, 100)], 5, 9)


@pytest.mark.parametrize(
    ("extents", "message"),
    [
        ([], "extents end at 5, not at 9"),
        ([Extent(5, 8, _ZERO)], "extents end at 8, not at 9"),
        ([Extent(6, 9, _ZERO)], "does not continue at 5 inside [5, 9)"),
        ([Extent(5, 10, _ZERO)], "does not continue at 5 inside [5, 9)"),
        ([Extent(5, 6, _ZERO), Extent(7, 9, _ZERO)], "does not continue at 6 inside [5, 9)"),
        ([Extent(5, 7, _ZERO), Extent(6, 9, _ZERO)], "does not continue at 7 inside [5, 9)"),
        ([Extent(5, 5, _ZERO), Extent(5, 9, _ZERO)], "does not continue at 5 inside [5, 9)"),
        ([Extent(5, 4, _ZERO), Extent(4, 9, _ZERO)], "does not continue at 5 inside [5, 9)"),
        ([Extent(5, 9, _ZERO), Extent(9, 9, _ZERO)], "does not continue at 9 inside [5, 9)"),
    ],
)
def test_a_bad_cover_is_named(extents: list[Extent], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_cover(extents, 5, 9)
    assert str(caught.value).endswith(message)


def test_extent_says_what_it_is() -> None:
    stored = extent.data(5, 9, "source", 100)
    assert stored == Extent(5, 9, _DATA, "source", 100, 4, "")
    assert stored.length == 4
    assert stored.is_stored
    assert extent.zero(5, 9) == Extent(5, 9, _ZERO, None, -1, 0, "")
    assert not extent.zero(5, 9).is_stored
    lost = extent.unreadable(5, 9, "source", 100, "cut off")
    assert lost == Extent(5, 9, ExtentKind.UNREADABLE, "source", 100, 0, "cut off")
    assert lost.is_stored


def test_what_is_cut_off_is_unreadable() -> None:
    written = write(
        Recipe(
            present=[True, False, True, True], block_size=64, checksum="NONE", blocks_per_checksum=0
        )
    )
    # Within the third block that is stored.
    source = MemorySource(written.image[:-30])
    scan, reader = scan_and_open(source)
    assert scan.info.missing == (192, 256)
    *others, lost = reader.extents(0, 256)
    assert [(e.start, e.stop, e.kind) for e in others] == [
        (0, 64, _DATA),
        (64, 128, _ZERO),
        (128, 226, _DATA),
    ]
    assert (lost.start, lost.stop, lost.kind) == (226, 256, ExtentKind.UNREADABLE)
    assert "cut off" in lost.reason
    for each in others:
        assert read_bytes(reader, each.start, each.length) == written.guest[each.start : each.stop]


def test_neighbours_are_merged_if_they_are_alike() -> None:
    one, other = object(), object()
    parts = [
        extent.data(0, 4, one, 10),
        extent.data(4, 6, one, 20),
        extent.data(6, 8, other, 22),
        extent.zero(8, 9),
        extent.zero(9, 11),
        extent.unreadable(11, 12, one, 3, "bad"),
        extent.unreadable(12, 15, one, 4, "bad"),
        extent.unreadable(15, 16, one, 7, "worse"),
    ]
    assert list(extent.merged(parts)) == [
        Extent(0, 6, _DATA, one, 10, 6),
        extent.data(6, 8, other, 22),
        extent.zero(8, 11),
        extent.unreadable(11, 15, one, 3, "bad"),
        extent.unreadable(15, 16, one, 7, "worse"),
    ]


# --- the geometry by itself --------------------------------------------------------------------

_BLOCKS = StoredBlocks(
    size=1000,
    block_size=10,
    total_blocks=100,
    used_blocks=7,
    data_offset=50,
    group_size=30,
    checksum_size=4,
    partial_checksum=4,
)


def test_geometry_survives_json() -> None:
    assert StoredBlocks.from_json(_BLOCKS.to_json()) == _BLOCKS
    fields = _BLOCKS.to_json()
    del fields["group_size"]
    with pytest.raises(CorruptImageError, match="group_size"):
        StoredBlocks.from_json(fields)


@pytest.mark.parametrize(
    ("used_blocks", "size"),
    # 3 blocks and a checksum make 34 bytes; a group that is not full has a checksum too.
    [(0, 50), (1, 64), (2, 74), (3, 84), (4, 98), (6, 118), (7, 132)],
)
def test_stored_size(used_blocks: int, size: int) -> None:
    assert _BLOCKS.size_with(used_blocks) == size
    assert dataclasses.replace(_BLOCKS, used_blocks=used_blocks).stored_size == size


def test_stored_size_without_checksums() -> None:
    bare = dataclasses.replace(_BLOCKS, group_size=0, checksum_size=0)
    assert bare.stored_size == 120
    assert [bare.whole_blocks(size) for size in (0, 50, 59, 60, 119, 120, 999)] == [
        0, 0, 0, 1, 6, 7, 7,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stored_size", "whole"),
    [
        (0, 0), (50, 0), (59, 0), (60, 1), (69, 1), (70, 2), (79, 2), (80, 3), (84, 3), (93, 3),
        (94, 4), (114, 6), (118, 6), (127, 6), (128, 7), (132, 7), (5000, 7),
    ],
)  # fmt: skip
def test_whole_blocks_in_a_cut_stream(stored_size: int, whole: int) -> None:
    assert _BLOCKS.whole_blocks(stored_size) == whole


def test_missing_without_an_index() -> None:
    full = dataclasses.replace(_BLOCKS, used_blocks=100)
    assert full.missing(full.stored_size, None) is None
    assert full.missing(50, None) == (0, 1000)
    assert full.missing(94, None) == (40, 1000)
    assert dataclasses.replace(full, size=995).missing(94, None) == (40, 995)


# --- scattering into one buffer ----------------------------------------------------------------


def test_pieces_far_apart_in_the_source_are_several_reads() -> None:
    source = CountingSource(MemorySource(bytes(range(100))))
    buffer = bytearray(b"\xaa" * 12)
    scatter = Scatter(memoryview(buffer), 4)
    scatter.piece(1, 3, 10)
    scatter.piece(3, 5, 16)  # 4 bytes further on: read through
    scatter.piece(6, 8, 23)  # 5 bytes further on: another read
    scatter.piece(8, 10, 20)  # backwards: another read
    scatter.finish()
    scatter.read(source)
    assert buffer == bytes([0, 10, 11, 16, 17, 0, 23, 24, 20, 21, 0, 0])
    assert [call.offset for call in source.calls] == [10, 23, 20]

    source.calls.clear()
    assert scatter.read_nowait(source)
    assert [call.method for call in source.calls] == ["readv_nowait"] * 3


@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_fill_zero(length: int) -> None:
    buffer = bytearray(b"\xaa" * (length + 2))
    fill_zero(memoryview(buffer)[1 : 1 + length])
    assert buffer == b"\xaa" + bytes(length) + b"\xaa"
