"""What of XFS is read and what is refused: every feature bit with a name, and those with none."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems import gate
from imgcat.filesystems.errors import DamagedError, RefusedError
from imgcat.formats.superblocks.find import find_file_system
from support.files_inside import digest, volume_in
from support.volumes import MIB
from support.xfs import (
    FEATURES_2,
    INCOMPAT,
    LOG_INCOMPAT,
    RO_COMPAT,
    VERSION,
    CountedVolume,
    make,
    prototype,
    seal,
    set_bits,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = {
    "version": (VERSION, 16, gate.XFS_VERSION_READ, gate.XFS_VERSION),
    "features_2": (FEATURES_2, 32, gate.XFS_FEATURES_2_READ, gate.XFS_FEATURES_2),
    "incompat": (INCOMPAT, 32, gate.XFS_INCOMPAT_READ, gate.XFS_INCOMPAT),
    "ro_compat": (RO_COMPAT, 32, gate.XFS_RO_COMPAT_READ, gate.XFS_RO_COMPAT),
    "log_incompat": (LOG_INCOMPAT, 32, gate.XFS_LOG_INCOMPAT_READ, gate.XFS_LOG_INCOMPAT),
}

TRIED = {
    "version": {
        "attr": "4", "nlink": "4", "quota": None, "align": "4", "dalign": "stripe",
        "logv2": "4", "sector": "4-sector-4k", "extflg": "4", "dirv2": "4",
        "ascii-ci": "4-ascii-ci", "morebits": "4",
    },
    "features_2": {"lazysbcount": "4", "attr2": "4", "projid32bit": "4", "ftype": "4-ftype"},
    "incompat": {
        "ftype": "as-usual", "sparse_inodes": "as-usual", "meta_uuid": "meta_uuid",
        "bigtime": "as-usual", "nrext64": "nrext64", "exchange": "newest",
        "parent": "newest",
    },
    "ro_compat": {
        "finobt": "as-usual", "rmapbt": "rmapbt", "reflink": "as-usual", "inobtcount": "as-usual",
    },
    "log_incompat": {"log_xattrs": "newest"},
}  # fmt: skip
"""The kind in test_xfs.py or test_xfs_4.py that has each bit; None for one that changes nothing."""


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return one of each version, small ones."""
    place = tmp_path_factory.mktemp("gate")
    content = place / "content"
    content.mkdir()
    (content / "file").write_text("content")
    listed = prototype(content, place / "listed")
    return {
        4: make(place / "4.raw", "--unsupported -m crc=0", "-p", listed, size=20 * MIB),
        5: make(place / "5.raw", "--unsupported", "-p", listed, size=20 * MIB),
    }


@pytest.fixture
def made(once: dict[int, Path]) -> Iterator[dict[int, Path]]:
    """Return the same, whose first blocks may be changed."""
    before = {raw: _head(raw) for raw in once.values()}
    yield once
    for raw, head in before.items():
        _put(raw, head)


def _head(raw: Path) -> bytes:
    with raw.open("rb") as opened:
        return opened.read(4096)


def _put(raw: Path, head: bytes) -> None:
    with raw.open("r+b") as opened:
        opened.write(head)


def refused(raw: Path, message: str) -> None:
    with CountedVolume(raw) as source:
        found = find_file_system(source.read, source.size)
    with pytest.raises(RefusedError, match=re.escape(message)):
        gate.check(found, as_is=True)


def test_every_bit_that_is_read_is_tried() -> None:
    here = Path(__file__).parent
    kinds = (here / "test_xfs.py").read_text() + (here / "test_xfs_4.py").read_text()
    for word, (_at, _bits, read, _named) in WORDS.items():
        assert set(TRIED[word]) == set(read.values())
        for kind in filter(None, TRIED[word].values()):
            assert f'    "{kind}": "' in kinds, kind


@pytest.mark.parametrize(
    ("version", "word", "number"),
    [(5, word, bit) for word in WORDS for bit in range(WORDS[word][1])]
    + [(4, word, bit) for word in ("version", "features_2") for bit in range(WORDS[word][1])],
)
def test_what_is_not_read_is_refused_by_name(
    made: dict[int, Path], version: int, word: str, number: int
) -> None:
    at, _bits, read, named = WORDS[word]
    bit = 1 << number
    is_number = word == "version" and bit & 0xF
    if bit in read or is_number or (version == 5 and (word, bit) == ("features_2", 0x100)):
        # Those are read, by the kinds of `TRIED`; a version is more than its bits.
        assert is_number or bit not in named or version == 5
        return
    raw = made[version]
    set_bits(raw, at, bit)
    refused(raw, f"its {word} feature {named.get(bit, f'0x{bit:x}')}")


@pytest.mark.parametrize("bit", [0, 0x40])
def test_what_changes_no_structure(made: dict[int, Path], bit: int) -> None:
    raw = made[5]
    set_bits(raw, VERSION, bit)
    with volume_in(raw) as volume:
        found = digest(volume, volume.find(0, b"file").inode, by=hashlib.sha256)
    assert found.startswith("ed7002b439e9ac84")


@pytest.mark.parametrize("version", [0, 1, 2, 3, 6, 15])
def test_other_versions(made: dict[int, Path], version: int) -> None:
    raw = made[4]
    set_bits(raw, VERSION, version, without=0xF & ~version)
    refused(raw, f"version {version} is not read")


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("bit", "name"), gate.XFS_VERSION_NEEDED.items())
def test_what_has_to_be_there(made: dict[int, Path], version: int, bit: int, name: str) -> None:
    raw = made[version]
    set_bits(raw, VERSION, 0, without=bit)
    refused(raw, f"without the feature {name} it is not read")


def test_the_second_word_where_some_kernels_wrote_it(made: dict[int, Path]) -> None:
    """Four bytes further: whoever looks at one place only takes types for parts of names."""
    raw = made[4]
    with raw.open("r+b") as opened:
        opened.seek(FEATURES_2)
        word = opened.read(4)
        opened.seek(FEATURES_2)
        opened.write(bytes(4) + word)
    with volume_in(raw) as volume:
        assert volume.find(0, b"file").size == len("content")
    set_bits(raw, FEATURES_2 + 4, 0x10)
    refused(raw, "its features_2 feature parent")


def test_a_superblock_that_was_changed(made: dict[int, Path]) -> None:
    raw = made[5]
    head = bytearray(_head(raw))
    head[108] ^= 1
    _put(raw, head)
    message = "it has another checksum than is stored"
    with pytest.raises(DamagedError, match=message), volume_in(raw) as volume:
        volume.entries()
    head[126] = 1
    seal(head, 0, 512, 224)
    _put(raw, head)
    with pytest.raises(DamagedError, match="had not ended"), volume_in(raw) as volume:
        volume.entries()
