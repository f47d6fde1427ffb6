"""QCOW2 images that QEMU's own tools wrote, over what they can be; and what is refused."""

from __future__ import annotations

import functools
import itertools
import random
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from imgcat.formats import registry
from imgcat.formats.errors import (
    CorruptImageError,
    FormatError,
    MissingParentError,
    TruncatedImageError,
    UnsupportedFeatureError,
)
from imgcat.formats.extent import ExtentKind, merged
from imgcat.formats.qcow2 import clusters as pieces
from imgcat.formats.qcow2 import layout
from imgcat.formats.qcow2 import reader as reader_module
from imgcat.formats.reader import ParentName, read_bytes
from support.memory_source import MemorySource
from support.opening import open_scanned, scan_and_open
from support.virtual_disks import (
    KIB,
    MIB,
    changes,
    guest_of,
    map_of,
    qemu_img,
    qemu_io,
    write_raw,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLUSTERS = ("512", "4k", "64k", "2M")
COMPATS = ("0.10", "v3")
COMPRESSIONS = ("none", "zlib", "zstd")
ENTRIES = ("plain", "extended")
SIZES = (7 * MIB, 5 * MIB + 61 * 512, 512)


def is_legal(cluster: str, compat: str, compression: str, entries: str) -> bool:
    if compat == "0.10" and (compression == "zstd" or entries == "extended"):
        return False
    return entries == "plain" or cluster in {"64k", "2M"}


def combinations() -> Iterator[tuple[str, str, str, str, int]]:
    """Yield all that is legal, each with a size in turn."""
    sizes = itertools.cycle(SIZES)
    for each in itertools.product(CLUSTERS, COMPATS, COMPRESSIONS, ENTRIES):
        if is_legal(*each):
            yield (*each, next(sizes))


def options(cluster: str, compat: str, compression: str, entries: str) -> list[object]:
    given = [f"cluster_size={cluster}", f"compat={compat}"]
    if compression == "zstd":
        given.append("compression_type=zstd")
    if entries == "extended":
        given.append("extended_l2=on")
    return ["-O", "qcow2", "-o", ",".join(given), *(["-c"] if compression != "none" else [])]


def make(directory: Path, how: tuple[str, str, str, str, int], seed: int, count: int = 12) -> Path:
    """Return an image that was converted, and then written to."""
    *choices, size = how
    raw = write_raw(directory / "raw", size, seed)
    path = directory / "image.qcow2"
    qemu_img("convert", "-f", "raw", *options(*choices), raw, path)
    qemu_io(path, "qcow2", changes(size, seed, count))
    return path


@pytest.mark.parametrize("how", list(combinations()), ids=lambda how: "-".join(map(str, how)))
def test_what_qemu_wrote_reads_as_qemu_reads_it(
    how: tuple[str, str, str, str, int], tmp_path: Path
) -> None:
    path = make(tmp_path, how, seed=hash_of(how))
    guest = guest_of(path, "qcow2")
    source = MemorySource(path.read_bytes())
    scan, reader = scan_and_open(source)
    assert (scan.info.format, scan.info.size) == ("qcow2", how[-1])
    assert read_bytes(reader, 0, reader.size) == guest
    rng = random.Random(5)
    for _ in range(60):
        start = rng.randrange(reader.size)
        length = rng.randrange(1, reader.size - start + 1)
        assert read_bytes(reader, start, length) == guest[start : start + length]
    assert list(registry.named("qcow2").verify(source, scan.info.layout, scan.stored_index())) == []


def hash_of(how: tuple[object, ...]) -> int:
    return sum(map(ord, repr(how)))


@pytest.mark.parametrize(
    "how",
    [how for how in combinations() if how[0] != "512"],
    ids=lambda how: "-".join(map(str, how)),
)
def test_extents_are_those_of_qemu_img_map(
    how: tuple[str, str, str, str, int], tmp_path: Path
) -> None:
    path = make(tmp_path, how, seed=1 + hash_of(how))
    _scan, reader = scan_and_open(MemorySource(path.read_bytes()))
    size = reader.size
    by_qemu = []
    for each in map_of(path, "qcow2"):
        start, stop = each["start"], min(size, each["start"] + each["length"])
        by_qemu.append((start, stop, each["data"], each["zero"], each.get("offset")))
    ours = [
        (start, stop, kind is not ExtentKind.ZERO, kind is ExtentKind.ZERO, offset)
        for start, stop, kind, offset in _joined(reader.extents(0, size))
    ]
    # QEMU tells of a compressed cluster no place, and of zeros those that are reserved for them.
    assert [each[:4] for each in _flat(by_qemu)] == [each[:4] for each in _flat(ours)]
    places = {start: offset for start, _stop, data, _zero, offset in by_qemu if data}
    for start, _stop, kind, offset in _joined(reader.extents(0, size)):
        if kind is ExtentKind.DATA and places.get(start) is not None:
            assert places[start] == offset


def _joined(extents: Iterator[object]) -> Iterator[tuple[int, int, ExtentKind, int]]:
    for each in merged(extents):  # type: ignore[arg-type]
        yield each.start, each.stop, each.kind, each.offset


def _flat(ranges: list[tuple[int, int, bool, bool, object]]) -> list[tuple[int, int, bool, bool]]:
    """Return the ranges with alike neighbours as one."""
    found: list[tuple[int, int, bool, bool]] = []
    for start, stop, data, zero, _offset in ranges:
        if found and found[-1][1:] == (start, data, zero):
            found[-1] = (found[-1][0], stop, data, zero)
        else:
            found.append((start, stop, data, zero))
    return found


def test_places_of_compressed_clusters_are_those_of_the_entries(tmp_path: Path) -> None:
    path = make(tmp_path, ("64k", "v3", "zlib", "plain", 5 * MIB), seed=3, count=0)
    data = path.read_bytes()
    _scan, reader = scan_and_open(MemorySource(data))
    (l1_offset,) = struct.unpack_from(">Q", data, 40)
    (l1,) = struct.unpack_from(">Q", data, l1_offset)
    table = struct.unpack_from(">8192Q", data, l1 & 0x00FFFFFFFFFFFE00)
    expected = []
    for number, entry in enumerate(table):
        if entry >> 62 & 1:
            host = entry & ((1 << 54) - 1)
            sectors = (entry >> 54 & 0xFF) + 1
            length = min(sectors * 512 - (host & 511), len(data) - host)
            expected.append((number * 64 * KIB, host, length))
    found = [
        (each.start, each.offset, each.stored_length)
        for each in reader.extents(0, reader.size)
        if each.kind is ExtentKind.COMPRESSED
    ]
    assert found == expected
    assert len(found) > 5


def test_internal_snapshots_are_listed(tmp_path: Path) -> None:
    path = make(tmp_path, ("64k", "v3", "none", "plain", 5 * MIB), seed=4, count=2)
    for name in ("before", "after the update"):
        qemu_img("snapshot", "-c", name, path)
        qemu_io(path, "qcow2", ["write -P 9 0 64k"])
    scan, reader = scan_and_open(MemorySource(path.read_bytes()))
    assert scan.info.header["snapshots"] == "before, after the update"
    assert read_bytes(reader, 0, reader.size) == guest_of(path, "qcow2")


def test_more_snapshots_than_can_be_kept_in_memory_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, ("64k", "v3", "none", "plain", 5 * MIB), seed=4, count=2)
    for name in ("one", "two", "three"):
        qemu_img("snapshot", "-c", name, path)
        qemu_io(path, "qcow2", ["write -P 9 0 64k"])
    source = MemorySource(path.read_bytes())
    whole = registry.scan(source)
    assert [name for name, _scan in whole.snapshots] == ["one", "two", "three"]
    one = sum(len(chunk.runs) for chunk in whole.snapshots[0][1].map_chunks or ())
    monkeypatch.setattr(reader_module, "_MOST_SNAPSHOT_MAPS", one)
    scan = registry.scan(source)
    assert [name for name, _scan in scan.snapshots] == ["one"]
    assert scan.info.warnings == ("2 snapshots more than can be mapped are left out",)


def test_what_stands_upon_others_is_never_zeros_without_them(tmp_path: Path) -> None:
    base = make(tmp_path, ("64k", "v3", "none", "plain", 5 * MIB), seed=4, count=2)
    above = tmp_path / "above.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", base.name, "-F", "qcow2", above)
    scan, reader = scan_and_open(MemorySource(above.read_bytes()))
    assert scan.info.parent == ParentName(("image.qcow2",), "qcow2")
    with pytest.raises(MissingParentError):
        read_bytes(reader, 0, 1)
    assert {each.kind for each in reader.extents(0, 4096)} == {ExtentKind.UNREADABLE}
    beside = tmp_path / "beside.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'd'}", beside, "5M")
    with pytest.raises(UnsupportedFeatureError, match="its data are in another file"):
        registry.scan(MemorySource(beside.read_bytes()))


@functools.cache
def _plain(directory: Path) -> bytes:
    how = ("64k", "v3", "zlib", "plain", 5 * MIB)
    return make(directory, how, seed=7).read_bytes()


def _poke(offset: int, form: str, value: int) -> object:
    return lambda data: struct.pack_into(form, data, offset, value)


def _entry(value: int) -> object:
    """Let the first entry of the first L2 table be another."""

    def change(data: bytearray) -> None:
        (l1_offset,) = struct.unpack_from(">Q", data, 40)
        (l1,) = struct.unpack_from(">Q", data, l1_offset)
        struct.pack_into(">Q", data, l1 & 0x00FFFFFFFFFFFE00, value)

    return change


def _l1_entry(value: int) -> object:
    def change(data: bytearray) -> None:
        (l1_offset,) = struct.unpack_from(">Q", data, 40)
        struct.pack_into(">Q", data, l1_offset, value)

    return change


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_poke(4, ">I", 4), UnsupportedFeatureError, "version 4"),
        (_poke(20, ">I", 8), CorruptImageError, r"clusters of 2\^8"),
        (_poke(20, ">I", 22), CorruptImageError, r"clusters of 2\^22"),
        (_poke(24, ">Q", 1 << 63), CorruptImageError, "a disk of"),
        (_poke(24, ">Q", 1 << 40), CorruptImageError, "need 2048"),
        (_poke(32, ">I", 1), UnsupportedFeatureError, r"encrypted \(AES\)"),
        (_poke(32, ">I", 2), UnsupportedFeatureError, r"encrypted \(LUKS\)"),
        (_poke(36, ">I", 1 << 23), CorruptImageError, "an L1 table of 8388608"),
        (_poke(36, ">I", 0), CorruptImageError, "an L1 table of 0 entries"),
        (_poke(40, ">Q", 65536 + 512), CorruptImageError, "an L1 table at 66048"),
        (_poke(40, ">Q", 1 << 40), TruncatedImageError, "lies behind the end"),
        (_poke(60, ">I", 70_000), CorruptImageError, "70000 snapshots"),
        (_poke(72, ">Q", 1 << 5), UnsupportedFeatureError, "feature bit 5"),
        (_poke(72, ">Q", 1 << 3), CorruptImageError, "compression type 0"),
        (_poke(96, ">I", 7), CorruptImageError, r"refcounts of 2\^7"),
        (_poke(100, ">I", 96), CorruptImageError, "a header of 96 bytes"),
        (_poke(104, ">B", 1), CorruptImageError, "compression type 1"),
        (_l1_entry(1 << 56), CorruptImageError, "entry 0 has reserved bits"),
        (_l1_entry(512), CorruptImageError, "entry 0 is not aligned"),
        (_l1_entry(1 << 50), TruncatedImageError, "entry 0 leads behind the end"),
        (_entry(0x10002), CorruptImageError, "guest byte 0 has reserved bits"),
        (_entry(1 << 60 | 0x10000), CorruptImageError, "guest byte 0 has reserved bits"),
        (_entry(0x10200), CorruptImageError, "guest byte 0 is not aligned"),
        (_entry(1 << 50), TruncatedImageError, "guest byte 0 leads behind the end"),
        (_entry(1 << 62 | 1 << 50), TruncatedImageError, "guest byte 0 leads behind the end"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    change: object, error: type[FormatError], words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(_plain(tmp_path_factory.getbasetemp()))
    change(data)  # type: ignore[operator]
    with pytest.raises(error, match=words) as caught:
        registry.scan(MemorySource(bytes(data)))
    assert caught.value.structure.startswith("qcow2.")


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_a_compressed_cluster_that_is_damaged_is_an_error_and_others_are_read(
    kind: str, tmp_path: Path
) -> None:
    path = make(tmp_path, ("64k", "v3", kind, "plain", 5 * MIB), seed=8, count=0)
    guest = guest_of(path, "qcow2")
    data = bytearray(path.read_bytes())
    scan, reader = scan_and_open(MemorySource(bytes(data)))
    clusters = [e for e in reader.extents(0, reader.size) if e.kind is ExtentKind.COMPRESSED]
    hit = clusters[len(clusters) // 2]
    data[hit.offset : hit.offset + hit.stored_length] = bytes(hit.stored_length)
    source = MemorySource(bytes(data))
    damaged = open_scanned(source, scan)
    with pytest.raises(CorruptImageError, match=r"qcow2\.cluster"):
        read_bytes(damaged, hit.start, 1)
    for each in clusters:
        if each is not hit and each.offset + each.stored_length <= hit.offset:
            wanted = guest[each.start : each.stop]
            assert read_bytes(damaged, each.start, each.length) == wanted
    findings = list(registry.named("qcow2").verify(source, scan.info.layout, scan.stored_index()))
    assert any(found.start == hit.start for found in findings)


def test_a_piece_that_decodes_to_more_gives_a_cluster_and_no_more() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = packer.compress(bytes(1 << 26)) + packer.flush()
    assert pieces.decode(bomb, 0, layout.DEFLATE, 65536) == bytes(65536)
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    short = packer.compress(bytes(100)) + packer.flush()
    with pytest.raises(CorruptImageError, match="decodes to 100 bytes of 65536"):
        pieces.decode(short, 0, layout.DEFLATE, 65536)
