"""ext2, ext3 and ext4, of every kind that mke2fs makes and the kernel mounts: file by file."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.files_inside import loop_mounted, of_mount, of_volume, volume_in
from support.trees import grow
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "ext2-1k": "-t ext2 -b 1024",
    "ext2-4k": "-t ext2 -b 4096",
    "ext2-revision-0": "-t ext2 -r 0 -b 1024",
    "ext3-1k": "-t ext3 -b 1024",
    "ext3-4k": "-t ext3 -b 4096",
    "ext4-1k": "-t ext4 -b 1024",
    "ext4-2k": "-t ext4 -b 2048",
    "ext4-4k": "-t ext4 -b 4096",
    "inline_data": "-t ext4 -O inline_data",
    "inline_data-large-inodes": "-t ext4 -O inline_data -I 1024 -b 4096",
    "small-inodes": "-t ext4 -I 128",
    "meta_bg-1k": "-t ext4 -b 1024 -O meta_bg,^resize_inode",
    "meta_bg-4k": "-t ext4 -b 4096 -O meta_bg,^resize_inode,^64bit -N 30000",
    "sparse_super2": "-t ext4 -b 1024 -O sparse_super2,^resize_inode",
    "sparse_super2-meta_bg": "-t ext4 -b 1024 -O sparse_super2,meta_bg,^resize_inode",
    "not-sparse": "-t ext4 -b 1024 -O ^sparse_super,^resize_inode,meta_bg",
    "no-64bit": "-t ext4 -O ^64bit",
    "ea_inode": "-t ext4 -O ea_inode",
    "large_dir": "-t ext4 -b 1024 -O large_dir",
    "bigalloc": "-t ext4 -b 4096 -O bigalloc -C 65536",
    "bigalloc-1k": "-t ext4 -b 1024 -O bigalloc -C 16384",
    "no-filetype": "-t ext4 -O ^filetype",
    "no-extents": "-t ext4 -O ^extent,^64bit",
    "no-flex_bg": "-t ext4 -O ^flex_bg",
    "no-csum": "-t ext4 -O ^metadata_csum,uninit_bg",
    "csum-seed": "-t ext4 -O metadata_csum_seed",
    "verity": "-t ext4 -O verity",
    "mmp": "-t ext4 -O mmp",
    "orphan_file": "-t ext4 -O orphan_file",
    "fast_commit": "-t ext4 -O fast_commit",
    "no-huge_file": "-t ext4 -O ^huge_file,^dir_nlink,^extra_isize",
}


def make(raw: Path, options: str, size: int = 192 * MIB) -> None:
    raw.touch()
    os.truncate(raw, size)
    quiet("mke2fs", "-q", "-F", *options.split(), raw)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_as_the_kernel_shows_it(kind: str, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make(raw, KINDS[kind])
    seed = abs(hash(kind)) % 1000
    print(f"seed {seed}")
    with loop_mounted(raw, tmp_path / "mount") as mount:
        grow(mount, seed)
    with loop_mounted(raw, tmp_path / "mount", "ro") as mount:
        expected = of_mount(mount)
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = of_volume(volume, problems)
        assert volume.caveat is None
    assert problems == []
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        assert found[path] == facts, path


@pytest.mark.parametrize("options", ["-r 0", "-O ^filetype"])
def test_types_that_nobody_wrote_are_no_part_of_a_name(options: str, tmp_path: Path) -> None:
    """The kernel leaves there what was in the block before, and does not look at it."""
    raw, content = tmp_path / "volume.raw", tmp_path / "content"
    content.mkdir()
    for number in range(5):
        (content / f"a file of number {number}").write_text(str(number))
    raw.touch()
    os.truncate(raw, 8 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext2", *options.split(), "-d", content, raw)
    image = bytearray(raw.read_bytes())
    for number in range(5):
        place = image.index(b"a file of number %d" % number)
        assert image[place - 2 : place] == b"\x12\0"
        image[place - 1] = number + 1
    raw.write_bytes(image)
    with loop_mounted(raw, tmp_path / "mount", "ro") as mount:
        expected = of_mount(mount)
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = of_volume(volume, problems)
    assert problems == []
    assert len(found) == 6
    assert found == expected


@pytest.mark.parametrize(
    "options",
    ["-O quota,project", "-O casefold -E encoding=utf8", "-O stable_inodes", "-O encrypt",
     "-O casefold,ea_inode,large_dir -b 1024"],
)  # fmt: skip
def test_what_this_kernel_may_not_mount_is_as_the_files_were(options: str, tmp_path: Path) -> None:
    """`mke2fs -d` puts them in; it keeps 32 bits of seconds."""
    raw, model = tmp_path / "volume.raw", tmp_path / "model.raw"
    make(model, "-t ext4")
    with loop_mounted(model, tmp_path / "mount") as mount:
        grow(mount, 7)
        os.rmdir(mount / "lost+found")
        raw.touch()
        os.truncate(raw, 192 * MIB)
        quiet("mke2fs", "-q", "-F", "-t", "ext4", *options.split(), "-d", mount, raw)
        expected = of_mount(mount)
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = of_volume(volume, problems)
    assert problems == []
    del found[b"lost+found"]
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        for each in (facts, found[path]):
            del each["inode"]
            each["mtime"] = each["mtime"] // 10**9 % (1 << 32)
        assert found[path] == facts, path


def test_an_encrypted_directory_is_refused_by_name(tmp_path: Path) -> None:
    """No key, no names: the flag alone is what debugfs sets here."""
    raw = tmp_path / "volume.raw"
    content = tmp_path / "content"
    (content / "secret").mkdir(parents=True)
    (content / "secret" / "file").write_text("cipher")
    (content / "plain").write_text("plain")
    raw.touch()
    os.truncate(raw, 16 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-O", "encrypt", "-d", content, raw)
    for path in ("/secret", "/secret/file"):
        subprocess.run(
            ["debugfs", "-w", "-R", f"set_inode_field {path} flags 0x80800", raw],
            check=True, capture_output=True,
        )  # fmt: skip
    from imgcat.filesystems.errors import RefusedError

    with volume_in(raw) as volume:
        names = {entry.name: entry for entry in volume.entries()}
        secret = names[b"secret"].inode
        with pytest.raises(RefusedError, match="names are encrypted"):
            volume.entries(secret)
        with pytest.raises(RefusedError, match=r"it is encrypted \(fscrypt\)"):
            volume.content(secret + 1)
        assert names[b"plain"].size == 5
