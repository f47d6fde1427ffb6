"""What is read and what is refused: every feature bit that has a name, and those that have none."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from imgcat.filesystems import gate
from imgcat.filesystems.errors import RefusedError
from support.files_inside import volume_in
from support.volumes import MIB, quiet

INCOMPAT, RO_COMPAT = 1024 + 96, 1024 + 100

READ = {
    ("incompat", bit) for bit in gate.EXT_INCOMPAT_READ
} | {("ro_compat", bit) for bit in gate.EXT_RO_COMPAT_READ}  # fmt: skip
NAMED = {
    ("incompat", bit) for bit in gate.EXT_INCOMPAT
} | {("ro_compat", bit) for bit in gate.EXT_RO_COMPAT}  # fmt: skip

# What another option of mke2fs, or a mount, sets; each kind in test_ext.py has some of the rest.
TRIED_ELSEWHERE = {
    "filetype": "ext4-4k", "needs_recovery": "test_ext_journal", "meta_bg": "meta_bg-4k",
    "extent": "ext4-4k", "64bit": "ext4-4k", "mmp": "mmp", "flex_bg": "ext4-4k",
    "ea_inode": "ea_inode", "metadata_csum_seed": "csum-seed", "large_dir": "large_dir",
    "inline_data": "inline_data", "encrypt": "-O encrypt", "casefold": "-O casefold",
    "sparse_super": "ext4-4k", "large_file": "ext4-4k", "huge_file": "ext4-4k",
    "uninit_bg": "no-csum", "dir_nlink": "ext4-4k", "extra_isize": "ext4-4k",
    "quota": "-O quota", "bigalloc": "bigalloc", "metadata_csum": "ext4-4k",
    "project": "-O quota,project", "verity": "verity", "orphan_present": "orphan_file",
    "btree_dir": "test_bits_that_only_forbid_writing",
    "read-only": "test_bits_that_only_forbid_writing",
    "shared_blocks": "test_bits_that_only_forbid_writing",
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gate")
    content = place / "content"
    content.mkdir()
    (content / "file").write_text("content")
    raw = place / "volume.raw"
    raw.touch()
    os.truncate(raw, 8 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d", content, raw)
    return raw


def names_of(word: str) -> dict[int, str]:
    return gate.EXT_INCOMPAT_READ if word == "incompat" else gate.EXT_RO_COMPAT_READ


def with_bit(plain: Path, tmp_path: Path, word: str, bit: int) -> Path:
    image = bytearray(plain.read_bytes())
    offset = INCOMPAT if word == "incompat" else RO_COMPAT
    (before,) = struct.unpack_from("<I", image, offset)
    struct.pack_into("<I", image, offset, before | bit)
    path = tmp_path / "volume.raw"
    path.write_bytes(image)
    return path


def test_every_bit_that_is_read_is_tried() -> None:
    names = set(gate.EXT_INCOMPAT_READ.values()) | set(gate.EXT_RO_COMPAT_READ.values())
    assert set(TRIED_ELSEWHERE) == names
    here = Path(__file__).parent
    kinds = (here / "test_ext.py").read_text()
    own = (here / "test_gate.py").read_text()
    for kind in TRIED_ELSEWHERE.values():
        is_there = (here / f"{kind}.py").exists() or f"def {kind}(" in own or f'"{kind}' in kinds
        assert is_there, kind


@pytest.mark.parametrize("word", ["incompat", "ro_compat"])
@pytest.mark.parametrize("number", range(32))
def test_what_is_not_read_is_refused_by_name(
    plain: Path, tmp_path: Path, word: str, number: int
) -> None:
    bit = 1 << number
    if (word, bit) in READ:
        # Those are read, by the kinds of `TRIED_ELSEWHERE`.
        assert names_of(word)[bit] in TRIED_ELSEWHERE
        return
    path = with_bit(plain, tmp_path, word, bit)
    names = gate.EXT_INCOMPAT if word == "incompat" else gate.EXT_RO_COMPAT
    name = names.get(bit, f"0x{bit:x}")
    with (
        pytest.raises(RefusedError, match=rf"{word} feature {name}|jbd is not read"),
        volume_in(path),
    ):
        pass


@pytest.mark.parametrize("bit", [0x4, 0x1000, 0x4000])
def test_bits_that_only_forbid_writing(plain: Path, tmp_path: Path, bit: int) -> None:
    with volume_in(with_bit(plain, tmp_path, "ro_compat", bit)) as volume:
        inode = volume.find(0, b"file").inode
        view = memoryview(bytearray(7))
        volume.content(inode).read_into(view, 0)
        assert bytes(view) == b"content"


OTHERS = {
    "btrfs": (("mkfs.btrfs", "-q", "-f"), 128, "Btrfs is not read"),
    "f2fs": (("mkfs.f2fs", "-q", "-f"), 64, "F2FS is not read"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_file_systems_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    command, size, message = OTHERS[kind]
    path = tmp_path / "volume.raw"
    path.touch()
    os.truncate(path, size * MIB)
    quiet(*command, path)
    with (
        pytest.raises(RefusedError, match=f"{message}: `imgcat show` prints what can"),
        volume_in(path),
    ):
        pass


def test_no_file_system_at_all(tmp_path: Path) -> None:
    path = tmp_path / "volume.raw"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(RefusedError, match="no file system that is known"), volume_in(path):
        pass


def test_the_iso_9660_side_of_a_udf_is_read_where_asked_for(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "file").write_text("content")
    path = tmp_path / "disc.raw"
    quiet("genisoimage", "-quiet", "-R", "-udf", "-o", path, content)
    with pytest.raises(RefusedError, match=r"it is UDF too.*--as-is"), volume_in(path):
        pass
    with volume_in(path, as_is=True) as volume:
        assert volume.caveat is not None
        assert "its ISO 9660 side is read" in volume.caveat
        assert [each.name for each in volume.entries()] == [b"file"]
        assert volume.has_owners
