"""Real NTFS volumes, saved by the real ntfsclone: what the mount shows is what it restores."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.volumes import MIB, mounted, quiet, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

_SIZES = {512: 24 * MIB + 512, 4096: 48 * MIB + 1024, 65536: 96 * MIB + 34816}
"""Bytes of the volume for each cluster size; the last cluster is one that the device ends in."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Saved:
    """A volume, and its images.

    Attributes:
        raw: the volume.
        image: all of it.
        piped: all of it, saved to a pipe.
        metadata: its metadata.
        restored: what ntfsclone makes of each image, by the image's name.
        hashes: sha256 of each file, and of each alternate stream, by path.
    """

    raw: Path
    image: Path
    piped: Path
    metadata: Path
    restored: dict[str, Path]
    hashes: dict[str, str]


def _content(name: str, size: int) -> bytes:
    """Return bytes of which every 16 name file and offset."""
    return b"".join(b"%-7s%09d" % (name[-7:].encode(), n) for n in range(0, size, 16))[:size]


@contextlib.contextmanager
def _loop(path: Path, *options: str) -> Iterator[str]:
    """Attach a loop device, and detach it at the end of the block."""
    device = quiet("losetup", "-f", "--show", *options, path).strip()
    try:
        yield device
    finally:
        quiet("losetup", "-d", device)


def _fill(device: str, point: Path, cluster_size: int) -> dict[str, str]:
    hashes = {}

    def put(name: str, data: bytes) -> None:
        (point / name).write_bytes(data)
        hashes[name] = hashlib.sha256(data).hexdigest()

    options = "compression,streams_interface=windows"
    with mounted(["ntfs-3g", "-o", options, device, point], point):
        generator = random.Random(cluster_size)
        # Written alternately, and every other one deleted: what comes later lies in the holes.
        for number in range(40):
            put(f"a{number:02d}", _content(f"a{number}", 3 * cluster_size))
            put(f"gone{number:02d}", _content("gone", 2 * cluster_size))
        quiet("sync")
        for number in range(40):
            (point / f"gone{number:02d}").unlink()
            del hashes[f"gone{number:02d}"]
        put("fragmented", _content("frag", 60 * cluster_size + 77))
        for number in range(30):
            put(f"resident{number:02d}", _content("res", generator.randrange(300)))
        put("with-streams", _content("plain", 900))
        put("with-streams:more", _content("stream", 3 * cluster_size + 5))
        with (point / "sparse").open("wb") as file:
            file.write(b"begin")
            file.seek(40 * cluster_size)
            file.write(b"end")
        hashes["sparse"] = sha256(point / "sparse")
        if cluster_size <= 4096:
            # Compression is only for clusters of up to 4 KiB.
            (point / "packed").mkdir()
            os.setxattr(point / "packed", "system.ntfs_attrib_be", (0x800).to_bytes(4, "big"))
            put("packed/text", b"the same words again and again\n" * 20_000)
    return hashes


def _make(cluster_size: int, directory: Path) -> _Saved:
    raw = directory / "raw"
    with raw.open("wb") as file:
        file.truncate(_SIZES[cluster_size])
    with _loop(raw) as device:
        quiet("mkntfs", "-F", "-Q", "-q", "-c", cluster_size, device)
        hashes = _fill(device, directory / "fill", cluster_size)
        image, piped, metadata = (directory / f"{name}.img" for name in ("full", "piped", "meta"))
        quiet("ntfsclone", "--save-image", "-o", image, device)
        quiet("ntfsclone", "--metadata", "--save-image", "-o", metadata, device)
        with piped.open("wb") as file:
            saving = subprocess.Popen(
                ["ntfsclone", "--save-image", "-o", "-", device],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            subprocess.run(["cat"], stdin=saving.stdout, stdout=file, check=True)
            assert saving.stdout is not None
            saving.stdout.close()
            assert saving.wait() == 0
    restored = {}
    for each in (image, piped, metadata):
        target = restored[each.stem] = directory / f"{each.stem}.restored"
        with target.open("wb") as file:
            file.truncate(_SIZES[cluster_size])
        quiet("ntfsclone", "--restore-image", "-O", target, each)
        with target.open("r+b") as file:
            file.truncate(_SIZES[cluster_size])
    return _Saved(raw, image, piped, metadata, restored, hashes)


@pytest.fixture(scope="module")
def saved_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], _Saved]:
    """Make the volume of a cluster size, once."""
    return functools.cache(lambda size: _make(size, tmp_path_factory.mktemp(f"ntfs{size}")))


@pytest.mark.parametrize("cluster_size", _SIZES)
def test_the_mount_shows_what_ntfsclone_restores(
    cluster_size: int, saved_of: Callable[[int], _Saved], program: Program, tmp_path: Path
) -> None:
    saved = saved_of(cluster_size)
    added = program.run("add", saved.image, saved.piped, saved.metadata)
    assert "holds the metadata of the file system only" in added.stdout + added.stderr
    mount = program.mount_all(tmp_path / "mount")
    for name, restored in saved.restored.items():
        assert (mount / name).stat().st_size == _SIZES[cluster_size]
        quiet("cmp", mount / name, restored)
        exported = tmp_path / f"{name}.raw"
        program.run("export", name, exported)
        quiet("cmp", exported, restored)
        assert program.run("verify", name).stdout.startswith("ok ")
    rows = {row["name"]: row for row in program.json("ls")}
    for name, row in rows.items():
        assert row["format"] == "ntfsclone"
        assert row["fs_type"] == "NTFS"
        assert row["block_size"] == cluster_size
        assert row["status"] == "ready"
        assert row["content"] == ("metadata" if name == "meta" else "full")
        assert (mount / name).stat().st_blocks == -(-row["used_bytes"] // 512)
    assert rows["full"]["used_bytes"] > rows["meta"]["used_bytes"]


@pytest.mark.parametrize("cluster_size", _SIZES)
def test_the_mounted_volume_is_whole_and_its_files_are_right(
    cluster_size: int, saved_of: Callable[[int], _Saved], program: Program, tmp_path: Path
) -> None:
    saved = saved_of(cluster_size)
    program.run("add", saved.image)
    shown = program.mount_all(tmp_path / "mount") / "full"
    said = quiet("ntfsfix", "-n", shown)
    assert "Processing of $MFT and $MFTMirr completed successfully." in said
    assert "was processed successfully" in said
    point = tmp_path / "files"
    with (
        _loop(shown, "-r") as device,
        mounted(["ntfs-3g", "-o", "ro,streams_interface=windows", device, point], point),
    ):
        found = {path: sha256(point / path) for path in saved.hashes}
    assert found == saved.hashes


def test_a_metadata_image_says_so_everywhere(
    saved_of: Callable[[int], _Saved], program: Program
) -> None:
    saved = saved_of(4096)
    program.run("add", saved.metadata)
    assert "NTFS (metadata)" in program.run("ls").stdout
    (row,) = program.json("ls")
    assert row["content"] == "metadata"
    shown = program.run("show", "meta").stdout
    assert "metadata" in shown
    assert "holds the metadata of the file system only" in " ".join(shown.split())
    assert program.json("show", "meta")["content"] == "metadata"
    (asked,) = program.sql("SELECT content, warnings FROM images")
    assert asked["content"] == "metadata"
    assert "metadata" in str(asked["warnings"])


def test_suspect_clusters_do_not_make_it_metadata(
    saved_of: Callable[[int], _Saved], program: Program, tmp_path: Path
) -> None:
    """Clusters that only the bitmap knows are saved before all others."""
    saved = saved_of(4096)
    raw = tmp_path / "raw"
    quiet("cp", "--sparse=always", saved.raw, raw)
    described = quiet("ntfsinfo", "-f", "-i", "6", "-v", raw)
    bitmap = 4096 * int(described.partition("Runlist:")[2].split()[4], 16)
    with raw.open("r+b") as file:
        for cluster in (900, 901, 950, 11_000):
            file.seek(bitmap + cluster // 8)
            octet = file.read(1)[0] | 1 << cluster % 8
            file.seek(bitmap + cluster // 8)
            file.write(bytes([octet]))
    image, restored = tmp_path / "suspect.img", tmp_path / "restored"
    quiet("ntfsclone", "--save-image", "--rescue", "--ignore-fs-check", "-o", image, raw)
    with restored.open("wb") as file:
        file.truncate(_SIZES[4096])
    quiet("ntfsclone", "--restore-image", "-O", restored, image)
    program.run("add", image)
    quiet("cmp", program.mount_all(tmp_path / "mount") / "suspect", restored)
    (row,) = program.json("ls")
    assert row["content"] == "full"
    header = program.json("show", "suspect")["header"]
    assert header["negative_gaps"] >= 1
