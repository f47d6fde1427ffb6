"""Verifying a compressed image in the pass that scans it: right where `verify` finds nothing."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.formats import registry
from imgcat.formats.errors import FormatError
from imgcat.formats.files import detect
from imgcat.formats.passes import verify
from imgcat.formats.passes.scan import scan_files
from support import ntfsclone_writer, partclone_writer, partimage_writer
from support.codec_counter import CodecCounter
from support.packers import split
from support.partclone_writer import Recipe
from support.streams import compress

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.reader import Scan
    from support.samples import Sample

_RANDOM = random.Random(11)
PRESENT = [_RANDOM.random() < 0.7 for _ in range(900)]


def _partclone(**fields: Any) -> bytes:
    return partclone_writer.write(Recipe(present=PRESENT, block_size=512, **fields)).image


def _ntfsclone() -> bytes:
    recipe = ntfsclone_writer.Recipe(order=[*range(40), *range(60, 300)], cluster_count=320)
    return ntfsclone_writer.write(recipe).image


def _partimage() -> bytes:
    recipe = partimage_writer.Recipe(present=PRESENT, block_size=1024)
    return partimage_writer.write(recipe).volumes[0]


IMAGES = {
    "crc32": _partclone(),
    "crc32-one-block": _partclone(blocks_per_checksum=1),
    "crc32-chained": _partclone(reseed=False),
    # Groups that are larger than what is read at once.
    "crc32-large-groups": partclone_writer.write(
        Recipe(present=[True] * 200, block_size=65536, blocks_per_checksum=96, reseed=False)
    ).image,
    "xxh64": _partclone(checksum="XXH64"),
    "xxh64-running": _partclone(checksum="XXH64", reseed=False),
    "xxh128": _partclone(checksum="XXH128", blocks_per_checksum=1000),
    "none": _partclone(checksum="NONE"),
    "0001": _partclone(version="0001"),
    "0001-wide": _partclone(version="0001", wide=True),
    "ntfsclone": _ntfsclone(),
    "partimage": _partimage(),
}


def _scanned(image: bytes, directory: Path, *, check: bool = True) -> Scan | None:
    """Return the scan of an image that is compressed, None where it cannot be read."""
    path = directory / "image.zst"
    path.write_bytes(compress("zstd", image))
    with detect.open_files(str(path)) as stored:
        try:
            return scan_files(stored, verify=check)
        except FormatError:
            return None


def _verified(image: bytes, directory: Path) -> bool:
    """Tell whether `verify` finds nothing wrong with an image that is not compressed."""
    path = directory / "image"
    path.write_bytes(image)
    with detect.open_files(str(path)) as stored:
        scan = scan_files(stored)
        info, index = scan.info, scan.stored_index()
        return not list(verify.verify(info.format, stored.source, info.layout, index))


@pytest.mark.parametrize("name", IMAGES)
def test_a_right_image_is_right_in_passing(name: str, tmp_path: Path) -> None:
    assert _verified(IMAGES[name], tmp_path)
    scan = _scanned(IMAGES[name], tmp_path)
    assert scan is not None
    assert scan.is_right
    scan = _scanned(IMAGES[name], tmp_path, check=False)
    assert scan is not None
    assert not scan.is_right


@pytest.mark.parametrize("name", [name for name in IMAGES if name != "crc32-large-groups"])
def test_a_flipped_bit_is_not_right_in_passing(name: str, tmp_path: Path) -> None:
    image = IMAGES[name]
    rng = random.Random(name)
    wrong = 0
    for offset in [*range(0, 400, 57), *(rng.randrange(len(image)) for _ in range(30))]:
        flipped = bytearray(image)
        flipped[offset] ^= 1 << rng.randrange(8)
        scan = _scanned(bytes(flipped), tmp_path)
        if scan is not None:
            assert scan.is_right == _verified(bytes(flipped), tmp_path), offset
            wrong += not scan.is_right
    # Where there are no checksums, or they cover little, it shows in the structure only.
    assert wrong > 20 or name in {"none", "ntfsclone", "0001", "0001-wide"}


def test_a_flipped_bit_in_large_groups(tmp_path: Path) -> None:
    image = bytearray(IMAGES["crc32-large-groups"])
    image[-5_000_000] ^= 1
    scan = _scanned(bytes(image), tmp_path)
    assert scan is not None
    assert not scan.is_right


@pytest.mark.parametrize("name", ["crc32", "ntfsclone", "partimage", "none"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_what_is_cut_off_is_not_right(name: str, share: float, tmp_path: Path) -> None:
    scan = _scanned(IMAGES[name][: int(len(IMAGES[name]) * share)], tmp_path)
    assert scan is None or not scan.is_right


def test_a_rescued_sector_is_not_right(tmp_path: Path) -> None:
    # The first sector of the first cluster.
    image = bytearray(IMAGES["ntfsclone"])
    image[57 : 57 + 10] = b"BadSectoR\0"
    scan = _scanned(bytes(image), tmp_path)
    assert scan is not None
    assert not scan.is_right
    assert not _verified(bytes(image), tmp_path)


def test_raw_bytes_are_right_if_they_can_be_decoded(tmp_path: Path) -> None:
    # It begins like an image, but is said to be none.
    path = tmp_path / "sda1.dd.zst"
    path.write_bytes(compress("zstd", IMAGES["ntfsclone"]))
    with detect.open_files(str(path)) as stored:
        scan = scan_files(stored, is_raw=True, verify=True)
    assert scan.is_right
    assert scan.info.format == "raw"
    path.write_bytes(path.read_bytes()[:-9])
    with detect.open_files(str(path)) as stored:
        assert not scan_files(stored, is_raw=True, verify=True).is_right


@pytest.mark.parametrize("tool", ["gzip", "pbzip2", "xz-blocks", "lz4", "lzma"])
def test_in_chunks_and_by_every_codec(tool: str, tmp_path: Path) -> None:
    data = compress(tool, IMAGES["crc32"])
    path = tmp_path / "image"
    path.write_bytes(data)
    first, *_others = split(path, 2, len(data) // 3 + 1)
    with detect.open_files(str(first)) as stored:
        assert scan_files(stored, verify=True).is_right


def test_every_sample_is_right_in_passing(samples: list[Sample], tmp_path: Path) -> None:
    for sample in samples:
        data = sample.path.read_bytes()
        scan = _scanned(data, tmp_path)
        assert scan is not None
        assert scan.is_right == _verified(data, tmp_path), sample


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", ["crc32-large-groups", "none", "ntfsclone", "partimage"])
def test_it_is_decoded_once(
    name: str, check: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CodecCounter(monkeypatch)
    scan = _scanned(IMAGES[name], tmp_path, check=check)
    assert scan is not None
    assert scan.is_right == check
    # Beside the pass, only the look at what it is.
    assert (counter.scans, counter.decodes) == (1, 1)


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_found_in_passing_is_what_the_plain_image_gives(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(IMAGES[name])
    with detect.open_files(str(tmp_path / "plain")) as stored:
        expected = scan_files(stored)
    found = _scanned(IMAGES[name], tmp_path, check=False)
    assert found is not None
    assert found.chunks == expected.chunks
    assert (found.ranges is None) == (expected.ranges is None)
    if found.ranges is not None and expected.ranges is not None:
        assert list(found.ranges) == list(expected.ranges)
    # Of a compressed image, the samples are of the compressed bytes.
    assert dataclasses.replace(found.info, fingerprint=b"") == dataclasses.replace(
        expected.info, fingerprint=b""
    )
    with detect.open_files(str(tmp_path / "image.zst")) as stored:
        scan_files(stored)
        assert registry.fingerprint(found.info.format, stored.source) == found.info.fingerprint


def test_volumes_that_are_compressed_each_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = partimage_writer.Recipe(
        present=PRESENT, block_size=1024, volume_sizes=(90_000, 100_001, 70_000)
    )
    written = partimage_writer.write(recipe)
    for number, volume in enumerate(written.volumes):
        (tmp_path / f"plain.{number:03}").write_bytes(volume)
        (tmp_path / f"image.{number:03}").write_bytes(compress("gzip", volume))
    with detect.open_files(str(tmp_path / "plain.000")) as stored:
        expected = scan_files(stored)
    counter = CodecCounter(monkeypatch)
    with detect.open_files(str(tmp_path / "image.000")) as stored:
        looks = counter.decodes
        found = scan_files(stored, verify=True)
        assert found.is_right
        assert counter.decodes == looks
        assert registry.fingerprint("partimage", stored.source) == found.info.fingerprint
    assert found.chunks == expected.chunks
    assert dataclasses.replace(found.info, fingerprint=b"") == dataclasses.replace(
        expected.info, fingerprint=b""
    )
