"""Scanning ntfsclone images: what is found, what is refused, and how much is read."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imgcat.formats import registry
from imgcat.formats.errors import CorruptImageError, TruncatedImageError
from imgcat.formats.ntfsclone import reader as ntfsclone
from imgcat.formats.reader import read_bytes
from imgcat.formats.sources import prefetch as pieces
from imgcat.formats.sources.file import FileSource
from imgcat.formats.sources.prefetch import PIECE_SIZE
from support.memory_source import CountingSource, MemorySource
from support.ntfsclone_writer import Recipe, gap, header, write
from support.opening import open_scanned, scan_and_open

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.reader import ImageInfo

_SMALL = Recipe(order=[0, 1, 2, 5, 6, 9, 17], cluster_count=20, cluster_size=256, tail=100)


def _info(image: bytes) -> ImageInfo:
    return registry.scan(MemorySource(image)).info


def test_what_a_scan_says() -> None:
    info = _info(write(_SMALL).image)
    assert (info.format, info.format_version, info.fs_type) == ("ntfsclone", "10.1", "NTFS")
    assert (info.size, info.block_size, info.total_blocks) == (5220, 256, 21)
    # The backup boot sector is one more than the header counts, and is stored in part.
    assert (info.used_blocks, info.used_bytes) == (8, 7 * 256 + 100)
    assert (info.checksum, info.content, info.creator) == ("none", "full", None)
    assert (info.damage, info.missing, info.warnings) == (None, None, ())
    assert dict(info.header) == {
        "image_format": "10.1", "cluster_size": 256, "device_size": 5220, "clusters": 20,
        "clusters_in_use": 7, "data_offset": 56, "backup_boot_sector": True, "negative_gaps": 0,
    }  # fmt: skip


# --- cut off -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [
    _SMALL, dataclasses.replace(_SMALL, tail=0), dataclasses.replace(_SMALL, minor=0),
    dataclasses.replace(_SMALL, minor=0, order=[0, 3, 19]),
    dataclasses.replace(_SMALL, major=3, tail=0), dataclasses.replace(_SMALL, tail=700),
], ids=["10.1", "exact-fit", "10.0", "10.0-last-cluster", "3.1", "larger-device"])  # fmt: skip
def test_an_image_that_is_cut_off_at_any_byte(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before the cut is served, all else is an error, and nothing is made up."""
    monkeypatch.setattr(pieces, "PIECE_SIZE", 700)
    written = write(recipe)
    head = 46 if recipe.major < 10 else 56
    for length in range(head, len(written.image)):
        source = MemorySource(written.image[:length])
        scan, reader = scan_and_open(source)
        whole = [cluster for cluster, offset in written.records
                 if offset + 1 + _stored(recipe, cluster) <= length]  # fmt: skip
        assert scan.info.used_blocks == len([n for n in whole if _stored(recipe, n)])
        if scan.info.missing is None:
            assert scan.info.damage is None
            first = scan.info.size
            # Only a record of no bytes at all may be left out.
            left = [n for n, offset in written.records if offset >= length]
            assert not any(_stored(recipe, n) for n in left)
        else:
            first, last = scan.info.missing
            assert 0 <= first < last == scan.info.size
            assert scan.info.damage == (
                f"truncated at {length} bytes: clusters from {first // 256} on are missing, "
                f"guest bytes [{first}, {last})"
            )
            assert first == _first_missing(recipe, written.image, length)
            for start in {first, (first + last) // 2, last - 1}:
                with pytest.raises(TruncatedImageError):
                    read_bytes(reader, start, 1)
                assert not reader.read_into_nowait(memoryview(bytearray(1)), start)
        assert read_bytes(reader, 0, first) == written.guest[:first]


def _stored(recipe: Recipe, cluster: int) -> int:
    left = recipe.cluster_count * recipe.cluster_size + recipe.tail - cluster * recipe.cluster_size
    return max(0, min(recipe.cluster_size, left))


def _first_missing(recipe: Recipe, image: bytes, length: int) -> int:
    """Walk the commands that are whole, and return the guest byte behind them."""
    offset, position = 46 if recipe.major < 10 else 56, 0
    while offset < length:
        size = 9 if image[offset] == 0 else 1 + _stored(recipe, position)
        if offset + size > length:
            break
        if image[offset] == 0:
            position += int.from_bytes(image[offset + 1 : offset + 9], "little", signed=True)
        else:
            position += 1
        offset += size
    return position * recipe.cluster_size


@pytest.mark.parametrize("order", [[4, 5, 2, 9], [0, 1, 9, 2]])
def test_a_cut_off_image_out_of_order_is_refused(order: list[int]) -> None:
    written = write(dataclasses.replace(_SMALL, order=order))
    behind = written.records[3][1]
    with pytest.raises(TruncatedImageError, match="which ones are missing cannot be told"):
        registry.scan(MemorySource(written.image[: behind + 20]))


def test_a_record_of_no_bytes_may_be_missing() -> None:
    written = write(dataclasses.replace(_SMALL, tail=0))
    info = _info(written.image[:-1])
    assert (info.damage, info.missing) == (None, None)
    assert info.warnings == ("ends before the backup boot sector",)


@pytest.mark.parametrize("length", range(16, 56))
def test_a_header_that_is_cut_off(length: int) -> None:
    with pytest.raises(TruncatedImageError):
        registry.scan(MemorySource(write(_SMALL).image[:length]))


# --- commands that cannot be -------------------------------------------------------------------

_HEAD = header(device_size=20 * 256 + 100, cluster_count=20, cluster_size=256)
_CLUSTER = b"\x01" + b"x" * 256
_GAP_MESSAGE = "outside of the 20 that there are"


@pytest.mark.parametrize(("commands", "message"), [
    (gap(0), "ntfsclone.gap @0x38: of zero clusters"),
    (gap(21), f"ntfsclone.gap @0x38: of 21 clusters leads from cluster 0 to 21, {_GAP_MESSAGE}"),
    (gap(-1), f"ntfsclone.gap @0x38: of -1 clusters leads from cluster 0 to -1, {_GAP_MESSAGE}"),
    (_CLUSTER + gap(20), (
        f"ntfsclone.gap @0x139: of 20 clusters leads from cluster 1 to 21, {_GAP_MESSAGE}")),
    (_CLUSTER + gap(-2), (
        f"ntfsclone.gap @0x139: of -2 clusters leads from cluster 1 to -1, {_GAP_MESSAGE}")),
    (gap((1 << 63) - 1), (
        "ntfsclone.gap @0x38: of 9223372036854775807 clusters leads from cluster 0 to "
        f"9223372036854775807, {_GAP_MESSAGE}")),
    (_CLUSTER + gap((1 << 63) - 1), (
        "ntfsclone.gap @0x139: of 9223372036854775807 clusters leads from cluster 1 to "
        f"9223372036854775808, {_GAP_MESSAGE}")),
    (gap(-(1 << 63)), (
        "ntfsclone.gap @0x38: of -9223372036854775808 clusters leads from cluster 0 to "
        f"-9223372036854775808, {_GAP_MESSAGE}")),
    (b"\x02", "ntfsclone.command @0x38: 0x02 is none, for cluster 0"),
    (_CLUSTER * 3 + b"\xff", "ntfsclone.command @0x33b: 0xff is none, for cluster 3"),
])  # fmt: skip
def test_bad_commands(commands: bytes, message: str) -> None:
    with pytest.raises(CorruptImageError) as caught:
        registry.scan(MemorySource(_HEAD + commands + bytes(600)))
    assert str(caught.value) == message


@pytest.mark.parametrize("command", range(2, 256))
def test_every_unknown_command(command: int) -> None:
    with pytest.raises(CorruptImageError, match=f"0x{command:02x} is none, for cluster 12"):
        registry.scan(MemorySource(_HEAD + _CLUSTER * 12 + bytes([command]) * 300))


@pytest.mark.parametrize("size", [0, 1, 255, 257, 768, 3 << 20, 1 << 31])
def test_cluster_sizes_that_cannot_be(size: int) -> None:
    head = header(device_size=1 << 40, cluster_count=1, cluster_size=size)
    with pytest.raises(CorruptImageError, match="is no power of two"):
        registry.scan(MemorySource(head + bytes(600)))


# --- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trailing", [b"\0", b"\0" * 4096, b"\1", b"junk" * 100, gap(3), gap(-1)])
@pytest.mark.parametrize("version", [(10, 1), (10, 0), (3, 1)])
def test_what_follows_the_end_is_not_read(trailing: bytes, version: tuple[int, int]) -> None:
    recipe = dataclasses.replace(
        _SMALL, major=version[0], minor=version[1], trailing=trailing, order=[0, 1, 19]
    )
    written = write(recipe)
    if version < (10, 1) and trailing == gap(-1):
        # That leads back to a cluster, which is missing then.
        with pytest.raises(TruncatedImageError, match="are not in order"):
            registry.scan(MemorySource(written.image))
        return
    scan, reader = scan_and_open(MemorySource(written.image))
    assert read_bytes(reader, 0, reader.size) == written.guest
    assert scan.info.warnings == (f"{len(trailing)} bytes follow the image's end",)


def test_an_old_image_may_have_a_backup_boot_sector() -> None:
    written = write(dataclasses.replace(_SMALL, minor=0, backup_boot=True))
    scan, reader = scan_and_open(MemorySource(written.image))
    assert read_bytes(reader, 0, reader.size) == written.guest
    assert scan.info.used_blocks == 8
    assert scan.info.warnings == ()


def test_a_new_image_must_have_one() -> None:
    written = write(dataclasses.replace(_SMALL, backup_boot=False))
    info = _info(written.image)
    assert info.missing == (20 * 256, 20 * 256 + 100)
    assert info.warnings == ("ends before the backup boot sector",)


# --- full, or metadata -------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "used", "content"), [
    ([0, 1, 2, 9], None, "full"),
    ([4, 5, 2, 9, 0, 7], None, "metadata"),
    # All later inodes lie behind the boot sector, which is reached by the only gap back.
    ([4, 5, 6, 0, 9, 12], None, "metadata"),
    ([4, 5, 6, 9], None, "metadata"),
    # --ignore-fs-check: suspect clusters first, then all from the first one on.
    ([7, 8, 3, 0, 1, 2, 4, 5, 6, 19], 7, "full"),
    ([12, 0, 1, 2], 3, "full"),
    ([0, 7, 0, 1, 2], 3, "full"),
])  # fmt: skip
def test_content(order: list[int], used: int | None, content: str) -> None:
    written = write(dataclasses.replace(_SMALL, order=order, used=used))
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.content == content
    assert any("metadata" in each for each in scan.info.warnings) == (content == "metadata")
    assert read_bytes(reader, 0, reader.size) == written.guest


def test_a_wrong_count_is_a_warning() -> None:
    info = _info(write(dataclasses.replace(_SMALL, used=99)).image)
    assert info.warnings == ("the header counts 99 clusters, 8 are stored",)


# --- against the model -------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    runs=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 30)), max_size=20),
    tail=st.sampled_from((0, 1, 255, 256, 257, 900)),
    version=st.sampled_from(((3, 1), (10, 0), (10, 1))),
    piece_size=st.integers(20, 600) | st.just(100_000),
)
def test_any_order_of_clusters(
    runs: list[tuple[int, int]], tail: int, version: tuple[int, int], piece_size: int
) -> None:
    order = [n for first, count in runs for n in range(first, min(60, first + count))]
    recipe = Recipe(
        order=order, cluster_count=60, cluster_size=256, tail=tail,
        major=version[0], minor=version[1],
    )  # fmt: skip
    written = write(recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_SIZE", piece_size)
        scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.damage is None
    assert read_bytes(reader, 0, reader.size) == written.guest
    backup = bool(version == (10, 1) and tail)
    assert scan.info.used_blocks == len(set(order)) + backup


@pytest.mark.parametrize("cluster_size", [256, 512, 4096, 65536, 1 << 20, 2 << 20])
def test_images_of_many_pieces(cluster_size: int) -> None:
    """Runs, gaps and clusters across the borders of what is read at once."""
    rng = random.Random(cluster_size)
    count = max(12, 2 * PIECE_SIZE // cluster_size)
    order = [0]
    while order[-1] < count - 1:
        skip = rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 3))
        order += range(order[-1] + skip, order[-1] + skip + rng.choice((1, 2, 8, 9, 10, 400)))
    recipe = Recipe(
        order=[n for n in order if n < count], cluster_count=count, cluster_size=cluster_size
    )
    written = write(recipe)
    scan, reader = scan_and_open(MemorySource(written.image))
    assert scan.info.damage is None
    assert scan.info.warnings == ()
    assert read_bytes(reader, 0, reader.size) == written.guest


def test_every_shift_of_the_border_of_a_piece() -> None:
    """A gap may begin at any byte before the border, and end behind it."""
    size = 65536
    whole = PIECE_SIZE // (size + 1)
    left = PIECE_SIZE - whole * (size + 1)
    # Pairs of gaps take 18 bytes and lead nowhere: they shift what follows.
    head = header(device_size=(whole + 9) * size + 7, cluster_count=whole + 9, cluster_size=size)
    clusters = [b"\x01" + bytes([n + 1]) * size for n in range(whole)]
    pairs = left // 18
    for more in range(-2, 2):
        image = head + b"".join(clusters) + (gap(3) + gap(-3)) * (pairs + more)
        image += gap(4) + b"\x01" + b"m" * size + gap(4) + b"\x01" + b"b" * 7
        scan, reader = scan_and_open(MemorySource(image))
        assert scan.info.damage is None
        expected = b"".join(cluster[1:] for cluster in clusters)
        expected += bytes(4 * size) + b"m" * size + bytes(4 * size) + b"b" * 7
        assert read_bytes(reader, 0, reader.size) == expected


# --- how much is read --------------------------------------------------------------------------


def test_each_byte_is_read_once() -> None:
    count = 3 * PIECE_SIZE // 4096
    order = [n for n in range(count) if n % 7]
    recipe = Recipe(order=order, cluster_count=count, cluster_size=4096)
    image = write(recipe).image
    source = CountingSource(MemorySource(image))
    registry.scan(source)
    # Beside the header and the samples of the fingerprint.
    pieces = sorted(call for call in source.calls if call.method == "readv")
    position = 56
    for _method, offset, length in pieces:
        # Sixteen bytes are read again at each border, so that no command is torn.
        assert position - 16 <= offset <= position
        position = offset + length
    assert position == len(image)
    others = [call for call in source.calls if call.method != "readv"]
    assert sum(call.length for call in others) < 17 * 4096


def test_progress_only_ever_grows() -> None:
    count = 4 * PIECE_SIZE // 65537
    image = write(Recipe(order=range(count), cluster_count=count, cluster_size=65536)).image
    told: list[int] = []
    registry.scan(MemorySource(image), told.append)
    assert len(told) == 4
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= len(image)


def test_opening_a_reader_reads_nothing_and_a_run_is_one_read() -> None:
    recipe = Recipe(order=[0, *range(10, 300)], cluster_count=400, cluster_size=4096)
    written = write(recipe)
    source = CountingSource(MemorySource(written.image))
    scan = registry.scan(source)
    source.calls.clear()
    reader = open_scanned(source, scan)
    assert source.calls == []
    assert read_bytes(reader, 12 * 4096 + 5, 200_000) == written.guest[49157:][:200_000]
    assert len(source.calls) == 1
    source.calls.clear()
    assert not any(read_bytes(reader, 4096, 9 * 4096))
    assert source.calls == []


def test_a_header_that_says_gigabytes_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "far.img"
    head = header(device_size=1 << 20, cluster_count=2048, data_offset=56)
    with path.open("wb") as file:
        file.write(head[:46] + (4000 << 20).to_bytes(4, "little"))
        file.truncate(4000 << 20)
    source = CountingSource(FileSource(path))
    info = registry.scan(source).info
    assert info.missing == (0, 1 << 20)
    assert max(call.length for call in source.calls) < 64 << 10
    source.close()


def test_fingerprints_are_those_of_the_scan() -> None:
    image = bytearray(write(_SMALL).image)
    found = _info(bytes(image)).fingerprint
    assert ntfsclone.fingerprint(MemorySource(bytes(image))) == found
    image[900] ^= 1
    assert ntfsclone.fingerprint(MemorySource(bytes(image))) != found
    assert ntfsclone.fingerprint(MemorySource(bytes(image[:-1]))) != found
