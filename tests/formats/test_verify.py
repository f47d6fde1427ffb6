"""Verification: one bit flipped wherever a checksum covers it is found, named, and nothing else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from imgcat.formats import registry
from imgcat.formats.passes import verify
from imgcat.formats.stored.blocks import StoredBlocks
from support.memory_source import MemorySource
from support.partclone_writer import Recipe, Written, write

if TYPE_CHECKING:
    from imgcat.formats.finding import Finding
    from imgcat.formats.reader import Scan
    from support.samples import Sample

PRESENT = [random.Random(7).random() < 0.6 for _ in range(300)]

RECIPES = {
    "crc32": Recipe(present=PRESENT, checksum="CRC32", blocks_per_checksum=7),
    "crc32-one-block": Recipe(present=PRESENT, checksum="CRC32", blocks_per_checksum=1),
    "crc32-no-reseed": Recipe(
        present=PRESENT, checksum="CRC32", blocks_per_checksum=7, reseed=False
    ),
    "xxh64": Recipe(present=PRESENT, checksum="XXH64", blocks_per_checksum=7),
    "xxh128": Recipe(present=PRESENT, checksum="XXH128", blocks_per_checksum=1000),
}


def _findings(image: bytes, scan: Scan) -> list[Finding]:
    progress: list[int] = []
    found = list(
        verify.verify(
            scan.info.format, MemorySource(image), scan.info.layout, scan.stored_index(),
            progress=progress.append, jobs=2,
        )
    )  # fmt: skip
    assert progress == sorted(progress)
    return found


def _guest_range(written: Written, scan: Scan, offset: int) -> tuple[int, int]:
    """Return the guest bytes of the group whose data or checksum lies at `offset`."""
    blocks = StoredBlocks.from_json(scan.info.layout)
    size = blocks.block_size
    stride = blocks.group_size + blocks.checksum_size
    group = (offset - blocks.data_offset) // stride
    per_group = blocks.group_size // size
    members = sorted(written.block_offsets)[group * per_group : (group + 1) * per_group]
    return members[0] * size, (members[-1] + 1) * size


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_flipped_bit_is_found_in_its_group_and_nowhere_else(recipe: Recipe) -> None:
    written = write(recipe)
    scan = registry.scan(MemorySource(written.image))
    assert _findings(written.image, scan) == []
    image = bytearray(written.image)
    generator = random.Random(1)
    for offset in generator.sample(range(scan.info.layout["data_offset"], len(image)), 80):
        image[offset] ^= 1 << generator.randrange(8)
        (found,) = _findings(bytes(image), scan)
        assert (found.start, found.stop) == _guest_range(written, scan, offset)
        image[offset] = written.image[offset]


def test_each_of_many_groups_in_many_batches_is_checked() -> None:
    written = write(
        Recipe(present=[True] * 9000, block_size=4096, checksum="CRC32", blocks_per_checksum=1)
    )
    scan = registry.scan(MemorySource(written.image))
    image = bytearray(written.image)
    flipped = random.Random(2).sample(range(9000), 40)
    for block in flipped:
        image[written.block_offsets[block] + 100] ^= 1
    found = _findings(bytes(image), scan)
    assert [(each.start, each.stop) for each in found] == [
        (block * 4096, (block + 1) * 4096) for block in sorted(flipped)
    ]


def test_a_group_larger_than_any_buffer() -> None:
    written = write(
        Recipe(present=[True] * 2500, block_size=4096, checksum="XXH128", blocks_per_checksum=2000)
    )
    scan = registry.scan(MemorySource(written.image))
    assert _findings(written.image, scan) == []
    image = bytearray(written.image)
    image[written.block_offsets[1999] + 4095] ^= 128
    (found,) = _findings(bytes(image), scan)
    assert (found.start, found.stop) == (0, 2000 * 4096)


def test_a_hash_that_runs_on_tells_the_first_damage_only() -> None:
    written = write(
        Recipe(present=[True] * 70, checksum="XXH64", blocks_per_checksum=7, reseed=False)
    )
    scan = registry.scan(MemorySource(written.image))
    size = scan.info.block_size
    image = bytearray(written.image)
    image[written.block_offsets[20]] ^= 1
    (found,) = _findings(bytes(image), scan)
    assert (found.start, found.stop) == (14 * size, 21 * size)
    assert "the 7 checksums after it go on from there" in found.detail
    # Damage in a checksum is told from damage in the data: the next one is right.
    image = bytearray(written.image)
    image[written.block_offsets[21] - 1] ^= 1
    (found,) = _findings(bytes(image), scan)
    assert (found.start, found.stop) == (14 * size, 21 * size)
    assert "after it" not in found.detail


@pytest.mark.parametrize("offset", [60, 112])
def test_damage_in_header_or_bitmap_does_not_stop_the_rest(offset: int) -> None:
    written = write(RECIPES["crc32"])
    scan = registry.scan(MemorySource(written.image))
    image = bytearray(written.image)
    image[offset] ^= 4
    image[-1] ^= 1
    structure, data = _findings(bytes(image), scan)
    assert structure.start is None
    assert "checksum 0 is" in structure.detail
    assert data.stop == (max(written.block_offsets) + 1) * scan.info.block_size


def test_format_0001_covers_the_first_byte_of_each_block() -> None:
    written = write(Recipe(present=PRESENT, version="0001"))
    scan = registry.scan(MemorySource(written.image))
    size = scan.info.block_size
    for block in random.Random(3).sample(sorted(written.block_offsets), 20):
        image = bytearray(written.image)
        image[written.block_offsets[block]] ^= 1
        (found,) = _findings(bytes(image), scan)
        assert (found.start, found.stop) == (block * size, (block + 1) * size)


def test_what_is_cut_off_is_found_and_the_rest_is_checked() -> None:
    written = write(RECIPES["crc32"])
    image = bytearray(written.image[:-5000])
    scan = registry.scan(MemorySource(bytes(image)))
    assert scan.info.missing is not None
    missing, unchecked = _findings(bytes(image), scan)
    assert (missing.start, missing.stop) == scan.info.missing
    # The blocks that are there, behind the last checksum that is.
    size = scan.info.block_size
    there = sorted(
        block for block, offset in written.block_offsets.items() if offset + size <= len(image)
    )
    assert unchecked.start in {block * size for block in there}
    assert unchecked.stop == (there[-1] + 1) * size
    assert "no checksum covers the last" in unchecked.detail
    # None of them is found by a checksum, all before them are.
    for block in there:
        image[written.block_offsets[block]] ^= 1
        assert len(_findings(bytes(image), scan)) == (3 if block * size < unchecked.start else 2)
        image[written.block_offsets[block]] ^= 1


def test_every_sample_is_right(samples: list[Sample]) -> None:
    for sample in samples:
        image = sample.path.read_bytes()
        assert _findings(image, registry.scan(MemorySource(image))) == []
