"""Scanning partclone images that are whole, cut off, contradictory or absurd."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from imgcat.formats import registry
from imgcat.formats.errors import (
    ChecksumError,
    CorruptImageError,
    FormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from imgcat.formats.partclone import reader as partclone
from imgcat.formats.reader import ImageInfo, read_bytes
from support.memory_source import MemorySource
from support.opening import open_scanned, scan_and_open
from support.partclone_writer import (
    Recipe,
    Written,
    crc_register,
    header_v1,
    header_v2,
    pack_bits,
    pattern,
    write,
)

if TYPE_CHECKING:
    from support.samples import Sample

_PRESENT = [number % 7 not in {2, 3} and number not in range(20, 29) for number in range(43)]
_USED = sum(_PRESENT)

_PLAIN = Recipe(present=_PRESENT, block_size=16, blocks_per_checksum=4)
_OLD = Recipe(present=_PRESENT, block_size=16, version="0001")

_RECIPES = {
    "crc32": _PLAIN,
    "crc32-k1": dataclasses.replace(_PLAIN, blocks_per_checksum=1),
    "xxh64-noreseed": dataclasses.replace(_PLAIN, checksum="XXH64", reseed=False),
    "xxh128": dataclasses.replace(_PLAIN, checksum="XXH128"),
    "none": dataclasses.replace(_PLAIN, checksum="NONE", blocks_per_checksum=0),
    "no-bitmap": dataclasses.replace(_PLAIN, present=[True] * 43, bitmap="NONE"),
    "blocks-smaller-than-checksums": dataclasses.replace(_PLAIN, block_size=3, checksum="XXH128"),
    "tail": dataclasses.replace(_PLAIN, tail=21),
    "0001": _OLD,
    "0001-wide": dataclasses.replace(_OLD, wide=True),
}


def _scan(image: bytes) -> ImageInfo:
    return registry.scan(MemorySource(image)).info


def _refusal(image: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        _scan(image)
    return caught.value


# --- whole images ------------------------------------------------------------------------------


def test_scan_of_each_real_image(samples: list[Sample]) -> None:
    for sample in samples:
        info = _scan(sample.path.read_bytes())
        is_old = sample.format_version == "0001"
        assert info.format == "partclone"
        assert info.format_version == sample.format_version
        assert info.creator == (None if is_old else sample.partclone)
        assert info.fs_type == "EXTFS"
        assert info.size == sample.volume_bytes
        assert info.block_size == sample.block_size
        assert info.total_blocks == sample.total_blocks
        assert info.used_blocks == sample.used_blocks
        assert info.used_bytes == sample.used_blocks * sample.block_size
        assert info.checksum == sample.checksum.lower()
        assert len(info.fingerprint) == 16
        assert (info.missing, info.damage, info.warnings) == (None, None, ())


def test_every_header_field_is_kept_in_order(samples_by_name: dict[str, Sample]) -> None:
    info = _scan(samples_by_name["ext4-0.3.47-a3-k7-noreseed"].path.read_bytes())
    assert list(info.header.items()) == [
        ("file_system", "EXTFS"),
        ("device_size", 9437184),
        ("total_blocks", 9216),
        ("used_blocks_superblock", 1921),
        ("used_blocks_bitmap", 1921),
        ("block_size", 1024),
        ("image_format", "0002"),
        ("platform_bits", 64),
        ("partclone_version", "0.3.47"),
        ("bitmap_mode", "BIT"),
        ("checksum_algorithm", "XXH128"),
        ("checksum_size", 16),
        ("blocks_per_checksum", 7),
        ("reseed_checksum", False),
        ("header_crc32", "c9ef1ac6"),
        ("data_offset", 1266),
    ]


def test_header_fields_of_the_old_version(samples_by_name: dict[str, Sample]) -> None:
    header = _scan(samples_by_name["ext4-0.2.89-v0001"].path.read_bytes()).header
    assert header["image_format"] == "0001"
    assert header["bitmap_mode"] == "BYTE"
    assert header["checksum_algorithm"] == "CRC32_0001"
    assert header["data_offset"] == 4160 + 9216 + 8
    nothing = [key for key, value in header.items() if value is None]
    assert nothing == ["platform_bits", "partclone_version", "header_crc32"]


@pytest.mark.parametrize("name", _RECIPES)
def test_whole_image_has_no_damage(name: str) -> None:
    info = _scan(write(_RECIPES[name]).image)
    assert (info.missing, info.damage) == (None, None)
    assert info.warnings == (_WIDE if name == "0001-wide" else ())


def test_padding_bits_are_not_counted() -> None:
    for block_count in range(1, 18):
        for ones in (False, True):
            recipe = Recipe(present=[True] * block_count, block_size=16, ones_in_padding=ones)
            assert _scan(write(recipe).image).used_blocks == block_count


def test_tail_behind_the_blocks_is_zeros_of_the_exact_size() -> None:
    # As NTFS has it: the last sector of the device, with the backup boot sector, is not saved.
    recipe = Recipe(present=[True] * 20, block_size=64, tail=33)
    written = write(recipe)
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.size == reader.size == 20 * 64 + 33
    assert read_bytes(reader, 20 * 64, 33) == bytes(33)
    assert read_bytes(reader, 20 * 64 - 5, 20) == written.guest[20 * 64 - 5 : 20 * 64] + bytes(15)


def test_old_version_with_a_device_smaller_than_its_blocks_loses_none() -> None:
    written = write(dataclasses.replace(_OLD, device_size=100))
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.size == 43 * 16
    assert read_bytes(reader, 0, reader.size) == written.guest


def test_only_the_byte_one_marks_a_used_block() -> None:
    written = write(dataclasses.replace(_OLD, free_bytes=b"\0\x02\x80\xff"))
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.used_blocks == _USED
    assert read_bytes(reader, 0, reader.size) == written.guest


def test_image_of_a_32_bit_machine_is_read_alike() -> None:
    written = write(dataclasses.replace(_PLAIN, cpu_bits=32))
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.header["platform_bits"] == 32
    assert read_bytes(reader, 0, reader.size) == written.guest


@pytest.mark.parametrize("recipe", [_PLAIN, _OLD], ids=["0002", "0001"])
def test_image_of_a_big_endian_machine_is_refused_by_name(recipe: Recipe) -> None:
    error = _refusal(write(dataclasses.replace(recipe, big_endian=True)).image)
    assert type(error) is UnsupportedFeatureError
    assert error.detail.startswith("written on a big-endian machine")


def test_byte_bitmap_in_version_2_is_refused() -> None:
    error = _refusal(write(dataclasses.replace(_PLAIN, bitmap="BYTE")).image)
    assert type(error) is UnsupportedFeatureError
    assert error.detail == "a byte bitmap in format 0002: no release writes one"


def test_without_a_bitmap_no_index_is_made() -> None:
    scan = registry.scan(MemorySource(write(_RECIPES["no-bitmap"]).image))
    assert scan.chunks is None
    assert scan.info.used_blocks == 43
    assert scan.info.header["bitmap_mode"] == "NONE"


# --- the bitmap --------------------------------------------------------------------------------


def test_wrong_bitmap_checksum() -> None:
    image = bytearray(write(_PLAIN).image)
    stored = int.from_bytes(image[116:120], "little")
    image[112] ^= 0x04
    error = _refusal(bytes(image))
    assert type(error) is ChecksumError
    assert (error.structure, error.offset, error.group) == ("partclone.bitmap", 110, 0)
    assert error.expected == stored
    assert error.actual == crc_register(bytes(image[110:116]))
    assert error.actual != stored


def test_changed_padding_is_found_as_well() -> None:
    image = bytearray(write(_PLAIN).image)
    image[115] ^= 0x80
    assert type(_refusal(bytes(image))) is ChecksumError


def test_wrong_stored_bitmap_checksum() -> None:
    image = bytearray(write(_PLAIN).image)
    image[119] ^= 0x01
    assert type(_refusal(bytes(image))) is ChecksumError


@pytest.mark.parametrize("position", range(8))
def test_wrong_marker(position: int) -> None:
    image = bytearray(write(_OLD).image)
    image[4160 + 43 + position] ^= 0x20
    error = _refusal(bytes(image))
    assert type(error) is CorruptImageError
    assert (error.structure, error.offset) == ("partclone.bitmap", 4160 + 43)
    found = bytes(image[4160 + 43 : 4160 + 51])
    assert error.detail == f"{found!r} where b'BiTmAgIc' ends it"


_HUGE = {
    "0002": (
        header_v2(device_size=1 << 60, total_blocks=1 << 50, used_bitmap=1 << 49, block_size=1024),
        (1 << 47) + 4,
        110,
    ),
    "0001": (
        header_v1(device_size=1 << 60, total_blocks=1 << 50, used_bitmap=1 << 49, block_size=1024),
        (1 << 50) + 8,
        4160,
    ),
}


@pytest.mark.parametrize(("header", "needed", "start"), _HUGE.values(), ids=_HUGE)
def test_bitmap_longer_than_the_file_allocates_nothing(
    header: bytes, needed: int, start: int
) -> None:
    source = MemorySource(header, bytes(5000))
    tracemalloc.start()
    try:
        with pytest.raises(TruncatedImageError) as caught:
            registry.scan(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value) == (
        f"partclone.bitmap @0x{start:x}: {needed} bytes of it belong here, 5000 are left"
    )
    assert peak < 200_000


def test_absurd_image_without_a_bitmap_allocates_nothing() -> None:
    header = header_v2(
        device_size=(1 << 63) - 1,
        total_blocks=(1 << 54) - 1,
        used_bitmap=(1 << 54) - 1,
        block_size=512,
        bitmap="NONE",
        blocks_per_checksum=0xFFFFFFFF,
    )
    tracemalloc.start()
    try:
        info = _scan(header + bytes(1024))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert info.missing == (1024, ((1 << 54) - 1) * 512)
    assert peak < 200_000


@pytest.mark.parametrize("name", _RECIPES)
def test_cut_inside_the_bitmap(name: str) -> None:
    written = write(_RECIPES[name])
    header_size = 4160 if name.startswith("0001") else 110
    for length in range(header_size, written.data_offset):
        error = _refusal(written.image[:length])
        assert type(error) is TruncatedImageError
        assert (error.structure, error.offset) == ("partclone.bitmap", header_size)
        assert error.detail == (
            f"{written.data_offset - header_size} bytes of it belong here, "
            f"{length - header_size} are left"
        )


# --- counts that disagree ----------------------------------------------------------------------


def _stored_size(recipe: Recipe, used_blocks: int) -> int:
    """Return the length of the image if it stored this many blocks."""
    present = [number < used_blocks for number in range(len(recipe.present))]
    return len(write(dataclasses.replace(recipe, present=present)).image)


def _disagreeing(counted: int) -> str:
    return (
        f"the header counts {counted} used blocks, the bitmap marks {_USED}: the bitmap is trusted"
    )


@pytest.mark.parametrize("counted", [0, _USED - 1, _USED + 1, 43])
@pytest.mark.parametrize("recipe", [_PLAIN, _OLD], ids=["0002", "0001"])
def test_count_that_only_the_header_has_wrong_is_a_warning(recipe: Recipe, counted: int) -> None:
    written = write(dataclasses.replace(recipe, used_bitmap=counted))
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.used_blocks == _USED
    assert scan.info.warnings == (_disagreeing(counted),)
    assert scan.info.damage is None
    assert read_bytes(reader, 0, reader.size) == written.guest


@pytest.mark.parametrize("counted", [_USED - 1, _USED + 1, _USED + 9, 3])
def test_count_that_the_length_confirms_is_refused(counted: int) -> None:
    image = write(dataclasses.replace(_PLAIN, used_bitmap=counted)).image
    length = _stored_size(_PLAIN, counted)
    error = _refusal((image + bytes(1000))[:length])
    assert type(error) is CorruptImageError
    assert str(error) == (
        f"partclone.bitmap @0x6e: {_USED} blocks are marked as used, but the header counts and the "
        f"file holds {counted}: which ones cannot be known"
    )


def test_count_that_nothing_confirms_is_a_warning_beside_the_damage() -> None:
    image = write(dataclasses.replace(_PLAIN, used_bitmap=_USED - 3)).image
    info = _scan(image[: _stored_size(_PLAIN, _USED - 3) + 1])
    assert info.warnings == (_disagreeing(_USED - 3),)
    assert info.damage is not None
    assert info.damage.startswith("truncated at ")


def test_old_version_is_not_refused_for_its_count() -> None:
    image = write(dataclasses.replace(_OLD, used_bitmap=_USED - 1)).image
    info = _scan(image[: _stored_size(_OLD, _USED - 1)])
    assert info.damage is not None
    assert len(info.warnings) == 1


def test_superblock_count_is_never_held_against_the_image() -> None:
    info = _scan(write(dataclasses.replace(_PLAIN, used_superblock=9)).image)
    assert info.warnings == ()
    assert info.header["used_blocks_superblock"] == 9


@pytest.mark.parametrize("recipe", [_PLAIN, _OLD], ids=["0002", "0001"])
def test_bytes_behind_the_image_are_a_warning(recipe: Recipe) -> None:
    written = write(recipe)
    scan, reader = scan_and_open(MemorySource(written.image, b"\0" * 777))
    assert scan.info.warnings == ("777 bytes follow the image's end",)
    assert scan.info.damage is None
    assert read_bytes(reader, 0, reader.size) == written.guest


def test_all_warnings_together() -> None:
    recipe = dataclasses.replace(_OLD, wide=True, used_bitmap=1)
    info = _scan(write(recipe).image + b"\0" * 5)
    assert info.warnings == (
        "5 bytes follow the image's end",
        _disagreeing(1),
        "written by a partclone before 0.1.0 with eight-byte checksums",
    )


# --- data that are cut off ---------------------------------------------------------------------


def _blocks_left(recipe: Recipe, written: Written, length: int) -> list[int]:
    """Return the stored blocks that lie wholly before `length`."""
    return [
        block
        for block, offset in written.block_offsets.items()
        if offset + recipe.block_size <= length
    ]


def _check_cut(recipe: Recipe, written: Written, length: int) -> None:
    """Cut the image to `length` and hold its scan and every block against the naive model."""
    source = MemorySource(written.image[:length])
    scan = registry.scan(source)
    reader = open_scanned(source, scan)
    left = _blocks_left(recipe, written, length)
    lost = [block for block in written.block_offsets if block not in left]
    size = recipe.block_size
    if lost:
        stop = min((lost[-1] + 1) * size, len(written.guest))
        assert scan.info.missing == (lost[0] * size, stop)
        where = f"{len(lost)} blocks are missing, within guest bytes [{lost[0] * size}, {stop})"
    else:
        assert scan.info.missing is None
        where = "only the last checksum is missing"
    whole = len(written.image)
    assert scan.info.damage == f"truncated at {length} of {whole} bytes: {where}"
    assert scan.info.used_blocks == len(written.block_offsets)

    for block in range(len(recipe.present)):
        start = block * size
        if block in lost:
            with pytest.raises(TruncatedImageError):
                read_bytes(reader, start, size)
            assert not reader.read_into_nowait(memoryview(bytearray(size)), start)
        else:
            assert read_bytes(reader, start, size) == written.guest[start : start + size]
    assert read_bytes(reader, len(recipe.present) * size, recipe.tail) == bytes(recipe.tail)


@pytest.mark.parametrize("name", [name for name in _RECIPES if name != "0001-wide"])
def test_cut_at_every_length(name: str) -> None:
    recipe = _RECIPES[name]
    written = write(recipe)
    for length in range(written.data_offset, len(written.image)):
        _check_cut(recipe, written, length)


_WIDE = ("written by a partclone before 0.1.0 with eight-byte checksums",)


def test_wide_checksums_cut_at_every_length_behind_the_second() -> None:
    # The checksums of two blocks tell how wide they are; before, nothing in the file does.
    recipe = _RECIPES["0001-wide"]
    written = write(recipe)
    as_long_as_narrow = len(write(_OLD).image)
    for length in range(written.data_offset + 2 * (16 + 8), len(written.image)):
        if length != as_long_as_narrow:  # the next test's
            assert _scan(written.image[:length]).warnings == _WIDE
            _check_cut(recipe, written, length)


def test_wide_image_that_is_cut_to_the_length_of_a_narrow_one() -> None:
    recipe = _RECIPES["0001-wide"]
    written = write(recipe)
    length = len(write(_OLD).image)
    assert _scan(written.image[:length]).warnings == _WIDE
    _check_cut(recipe, written, length)


def test_wide_checksums_of_a_single_block() -> None:
    recipe = Recipe(present=[True, False], block_size=16, version="0001", wide=True)
    written = write(recipe)
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.damage is None
    assert read_bytes(reader, 0, reader.size) == written.guest


def test_wide_checksums_with_bytes_behind_the_image() -> None:
    written = write(_RECIPES["0001-wide"])
    scan, reader = scan_and_open(MemorySource(written.image, b"\0" * 100))
    assert scan.info.warnings == (
        "100 bytes follow the image's end",
        "written by a partclone before 0.1.0 with eight-byte checksums",
    )
    assert read_bytes(reader, 0, reader.size) == written.guest


@pytest.mark.parametrize("trailing", [1, 4, 100, 1 << 16])
def test_narrow_checksums_are_not_taken_for_wide_ones(trailing: int) -> None:
    written = write(_OLD)
    scan, reader = scan_and_open(MemorySource(written.image, b"\0" * trailing))
    assert scan.info.warnings == (f"{trailing} bytes follow the image's end",)
    assert read_bytes(reader, 0, reader.size) == written.guest


def test_narrow_image_that_is_as_long_as_a_wide_one() -> None:
    # Four bytes a block follow the image, so that its length alone would tell the wrong thing.
    written = write(_OLD)
    scan, reader = scan_and_open(MemorySource(written.image, b"\0" * 4 * _USED))
    assert read_bytes(reader, 0, reader.size) == written.guest
    assert scan.info.warnings == (f"{4 * _USED} bytes follow the image's end",)


def test_narrow_checksums_win_where_both_widths_fit() -> None:
    # The third block holds by chance what the second checksum would be if it were wide.
    guest = bytearray(pattern(43 * 16))
    blocks = guest[:1] * 16 + guest[20:21] * 16
    guest[32:36] = crc_register(bytes(blocks)).to_bytes(4, "little")
    recipe = dataclasses.replace(_OLD, present=[True] * 43, guest=bytes(guest))
    written = write(recipe)
    length = len(written.image) - 50
    assert _scan(written.image[:length]).warnings == ()
    _check_cut(recipe, written, length)


def test_real_images_cut_in_the_middle(samples: list[Sample]) -> None:
    for sample in samples:
        image = sample.path.read_bytes()
        whole = scan_and_open(MemorySource(image))[1]
        scan, reader = scan_and_open(MemorySource(image[: len(image) // 2]))
        assert scan.info.missing is not None
        assert scan.info.damage is not None
        first, last = scan.info.missing
        assert 0 < first < last <= reader.size
        assert read_bytes(reader, 0, first) == read_bytes(whole, 0, first)
        with pytest.raises(TruncatedImageError):
            read_bytes(reader, first, 1024)
        with pytest.raises(TruncatedImageError):
            read_bytes(reader, last - 1024, 1024)


# --- the fingerprint ---------------------------------------------------------------------------


def _fingerprint(image: bytes) -> bytes:
    fingerprint = _scan(image).fingerprint
    assert partclone.fingerprint(MemorySource(image)) == fingerprint
    return fingerprint


@pytest.mark.parametrize("name", _RECIPES)
def test_fingerprint_is_stable(name: str) -> None:
    image = write(_RECIPES[name]).image
    half = len(image) // 2
    other = registry.scan(MemorySource(image[:half], image[half:])).info.fingerprint
    assert _fingerprint(image) == _fingerprint(image) == other


def test_fingerprints_of_the_real_images_differ(samples: list[Sample]) -> None:
    assert len({_fingerprint(sample.path.read_bytes()) for sample in samples}) == 9


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(_PLAIN, creator=b"0.3.46"),
        dataclasses.replace(_PLAIN, used_superblock=1),
        dataclasses.replace(_PLAIN, ones_in_padding=True),
        dataclasses.replace(_PLAIN, reseed=False),
        dataclasses.replace(_PLAIN, tail=1),
        dataclasses.replace(_PLAIN, present=_PRESENT[::-1]),
    ],
)
def test_fingerprint_changes_with_header_and_bitmap(other: Recipe) -> None:
    assert _fingerprint(write(other).image) != _fingerprint(write(_PLAIN).image)


@pytest.mark.parametrize("name", ["crc32", "none", "0001"])
def test_fingerprint_changes_with_the_data_and_the_length(name: str) -> None:
    written = write(_RECIPES[name])
    image = written.image
    original = _fingerprint(image)
    # So small an image is sampled whole.
    for offset in range(written.data_offset, len(image)):
        changed = bytearray(image)
        changed[offset] ^= 1
        assert _fingerprint(bytes(changed)) != original
    assert _fingerprint(image[:-1]) != original
    assert _fingerprint(image + b"\0") != original


def test_fingerprint_changes_with_the_length_of_nothing_but_zeros() -> None:
    zeros = bytes(2000 * 512)
    recipe = Recipe(present=[True] * 2000, block_size=512, checksum="NONE", guest=zeros)
    image = write(recipe).image
    assert _fingerprint(image[:-1]) != _fingerprint(image)


def test_fingerprint_samples_the_whole_length_of_the_data() -> None:
    written = write(Recipe(present=[True] * 2000, block_size=512, checksum="NONE"))
    image = bytearray(written.image)
    original = _fingerprint(bytes(image))
    found = 0
    for offset in range(written.data_offset, len(image), 4096):
        changed = bytearray(image)
        changed[offset : offset + 4096] = bytes(min(4096, len(image) - offset))
        found += _fingerprint(bytes(changed)) != original
    # 16 samples of 4 KiB each touch one or two of these pieces.
    assert 16 <= found <= 32
    image[-1] ^= 1
    assert _fingerprint(bytes(image)) != original


def test_fingerprint_of_what_is_no_longer_an_image() -> None:
    with pytest.raises(FormatError):
        partclone.fingerprint(MemorySource(b"x" * 5000))


def test_bitmap_of_many_pieces_is_packed_as_one() -> None:
    # Longer than what is read of a bitmap at once, in either kind.
    present = [number % 1000 < 3 or number % 5000 > 4700 for number in range((1 << 20) + 77)]
    old = write(Recipe(present=present, block_size=1, version="0001"))
    scan = registry.scan(MemorySource(old.image))
    assert scan.info.used_blocks == sum(present)
    assert scan.chunks is not None
    assert len(scan.chunks) == 2

    bits = pack_bits(present) * 9
    header = header_v2(
        device_size=8 * len(bits),
        total_blocks=8 * len(bits),
        used_bitmap=9 * sum(present),
        block_size=1,
        checksum="NONE",
    )
    crc = crc_register(bits).to_bytes(4, "little")
    info = _scan(header + bits + crc + bytes(9 * sum(present)))
    assert info.used_blocks == 9 * sum(present)
    assert (info.damage, info.warnings) == (None, ())


@pytest.mark.parametrize("extra", range(8))
def test_a_wide_image_that_ends_in_its_second_block_is_not_guessed_at(extra: int) -> None:
    recipe = Recipe(present=[True] * 9, block_size=16, version="0001", wide=True)
    written = write(recipe)
    with pytest.raises(TruncatedImageError, match="too early to tell"):
        _scan(written.image[: written.data_offset + 2 * 16 + 4 + extra])
