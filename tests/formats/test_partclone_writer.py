"""The tests' own writer of images is right: it rebuilds what real releases of partclone wrote."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from support import samples
from support.partclone_writer import Recipe, pattern, write

if TYPE_CHECKING:
    from support.samples import Sample

_BITMAP_SIZE = 9216 // 8
_DATA_OFFSET = 110 + _BITMAP_SIZE + 4


def _present(sample: Sample, image: bytes) -> list[bool]:
    if sample.format_version == "0001":
        return [byte == 1 for byte in image[4160 : 4160 + sample.total_blocks]]
    bitmap = image[110 : 110 + _BITMAP_SIZE]
    return [bool(bitmap[number // 8] >> number % 8 & 1) for number in range(sample.total_blocks)]


def _volume(plain: Sample) -> bytes:
    """Restore the sample that has no checksums between its blocks."""
    image = plain.path.read_bytes()
    out = bytearray()
    offset = _DATA_OFFSET
    for is_present in _present(plain, image):
        if is_present:
            out += image[offset : offset + plain.block_size]
            offset += plain.block_size
        else:
            out += bytes(plain.block_size)
    return bytes(out)


@pytest.mark.parametrize("name", samples.names())
def test_writer_rebuilds_the_real_image(samples_by_name: dict[str, Sample], name: str) -> None:
    sample = samples_by_name[name]
    image = sample.path.read_bytes()
    volume = _volume(samples_by_name["ext4-0.3.47-a0"])
    assert hashlib.sha256(volume).hexdigest() == sample.volume_sha256

    written = write(
        Recipe(
            present=_present(sample, image),
            version=sample.format_version,
            block_size=sample.block_size,
            checksum=sample.checksum.replace("CRC32_0001", "NONE"),
            blocks_per_checksum=sample.blocks_per_checksum,
            reseed=sample.reseed,
            creator=sample.partclone.encode("ascii"),
            guest=volume,
        )
    )

    assert written.guest == volume
    assert hashlib.sha256(written.image).hexdigest() == sample.image_sha256
    assert written.image == image


def test_samples_are_what_the_manifest_says(samples_by_name: dict[str, Sample]) -> None:
    assert len(samples_by_name) == 9
    for sample in samples_by_name.values():
        image = sample.path.read_bytes()
        assert len(image) == sample.image_bytes
        assert hashlib.sha256(image).hexdigest() == sample.image_sha256


def test_pattern_names_each_offset() -> None:
    assert pattern(40) == b"0ghijklmnopqrstu10ghijklmnopqrst20ghijkl"
    assert pattern(0) == b""
