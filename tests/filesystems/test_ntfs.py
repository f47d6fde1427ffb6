"""NTFS as ntfs-3g shows it: file by file, stream by stream."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import RefusedError
from support.files_inside import HASH, digest, of_mount, of_volume, volume_in
from support.ntfs import grow, make, ntfs_3g
from support.volumes import MIB

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize("cluster", [512, 1024, 4096, 65536])
def test_every_file_is_as_ntfs_3g_shows_it(cluster: int, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make(raw, "-c", str(cluster))
    with ntfs_3g(raw, tmp_path / "mount") as mount:
        grow(mount, cluster)
    streams: dict[bytes, dict[bytes, str]] = {}
    with ntfs_3g(raw, tmp_path / "mount", "ro") as mount:
        expected = of_mount(mount, attributes=False)
        for name in (b"large", b"file1"):
            path = os.path.join(os.fsencode(mount), name)
            streams[name] = {
                os.fsencode(each.removeprefix("user.")): HASH(os.getxattr(path, each)).hexdigest()
                for each in os.listxattr(path)
            }
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = of_volume(volume, problems, attributes=False)
        for name, wanted in streams.items():
            inode = volume.find(0, name).inode
            assert len(wanted) == 1
            assert {each: digest(volume, inode, each) for each, _size in volume.streams(inode)} == (
                wanted
            )
    assert problems == []
    assert found.keys() == expected.keys()
    for path, facts in expected.items():
        # It has no modes; types are told.
        for each in (facts, found[path]):
            each["mode"] &= 0o170000
            if each["mode"] not in {0o100000, 0o120000}:
                # ntfs-3g says how long the file is that stands for a device.
                each.pop("size", None)
        assert found[path] == facts, path


def test_names_that_are_gone_are_not_shown(tmp_path: Path) -> None:
    """Blocks of an index that nothing leads to any more still hold what was in them."""
    raw = tmp_path / "volume.raw"
    make(raw, size=16 * MIB)
    with ntfs_3g(raw, tmp_path / "mount") as mount:
        for number in range(600):
            (mount / f"a file with a name of some length {number:03}").touch()
        for number in range(100, 500):
            path = mount / f"a file with a name of some length {number:03}"
            if number % 7:
                path.unlink()
            else:
                # Its record stays, so what is left of the name leads to a file.
                path.rename(mount / f"{number}")
        names = {os.fsencode(each) for each in os.listdir(mount)}
    assert raw.read_bytes().count("of some length 300".encode("utf-16-le")) > 0
    problems: list[str] = []
    with volume_in(raw) as volume:
        found = [entry.name for entry in volume.entries(0, problems.append)]
    assert problems == []
    assert sorted(found) == sorted(names)


def test_times_that_32_bits_do_not_hold(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make(raw, size=16 * MIB)
    seconds = (-11_644_473_599, -1, 0, 1, 1 << 31, 1 << 32, 1 << 36)
    with ntfs_3g(raw, tmp_path / "mount") as mount:
        for number, each in enumerate(seconds):
            (mount / str(number)).touch()
            os.utime(mount / str(number), (each, each))
    with volume_in(raw) as volume:
        for number, each in enumerate(seconds):
            times = volume.find(0, b"%d" % number).times
            assert (times.modified, times.accessed) == (each * 10**9, each * 10**9)


REPARSE = {
    0x80000017: "Windows Overlay Filter",
    0x80000013: "deduplicated",
    0x9000001A: "in a cloud",
    0x9000701A: "in a cloud",
    0x80000023: "socket of WSL",
    0x80000024: "fifo of WSL",
    0x80000025: "character device of WSL",
    0x80000026: "block device of WSL",
    0x8000001B: "alias of an application",
    0xC0000004: r"\(HSM\)",
    0x80000006: "HSM2",
    0x80000099: "0x80000099 is not known here",
}


STAND_IN = 0x80000098


@pytest.mark.parametrize("tag", REPARSE, ids=hex)
def test_a_file_that_is_elsewhere_is_refused_by_name(tag: int, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make(raw, size=16 * MIB)
    with ntfs_3g(raw, tmp_path / "mount") as mount:
        (mount / "file").write_text("not what the file holds")
        (mount / "plain").write_text("plain")
        # ntfs-3g does not take those of WSL: they are written in place of another.
        value = struct.pack("<IHH", STAND_IN, 16, 0) + b"sixteen bytes of"
        os.setxattr(mount / "file", "system.ntfs_reparse_data", value)
    image = raw.read_bytes()
    assert image.count(value) == 1
    raw.write_bytes(image.replace(value, struct.pack("<I", tag) + value[4:]))
    with volume_in(raw) as volume:
        entry = volume.find(0, b"file")
        with pytest.raises(RefusedError, match=REPARSE[tag]):
            volume.content(entry.inode)
        assert volume.content(volume.find(0, b"plain").inode).size == 5


def _link(tag: int, target: str, flags: bytes) -> bytes:
    name = target.encode("utf-16-le")
    data = struct.pack("<HHHH", 0, len(name), len(name), 0) + flags + name
    return struct.pack("<IHH", tag, len(data), 0) + data


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (_link(0xA000000C, "..\\there\\file", b"\1\0\0\0"), b"../there/file"),
        (_link(0xA0000003, "\\??\\C:\\Users\\anna", b""), b"C:/Users/anna"),
        (struct.pack("<IHHI", 0xA000001D, 9, 0, 2) + b"to/it", b"to/it"),
    ],
    ids=["symbolic link", "junction", "link of WSL"],
)
def test_links_of_windows(value: bytes, target: bytes, tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make(raw, size=16 * MIB)
    with ntfs_3g(raw, tmp_path / "mount") as mount:
        if b"C:" in target:
            (mount / "link").mkdir()
        else:
            (mount / "link").touch()
        os.setxattr(mount / "link", "system.ntfs_reparse_data", value)
    with volume_in(raw) as volume:
        entry = volume.find(0, b"link")
        assert (entry.mode, entry.target) == (0o120777, target)


def test_an_encrypted_file_is_refused_by_name(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make(raw, size=16 * MIB)
    with ntfs_3g(raw, tmp_path / "mount") as mount:
        (mount / "secret").write_bytes(os.urandom(10_000))
    image = bytearray(raw.read_bytes())
    record = image.index("secret".encode("utf-16-le"))
    record = image.rindex(b"FILE", 0, record)
    position = record + struct.unpack_from("<H", image, record + 20)[0]
    while struct.unpack_from("<I", image, position)[0] != 0x80:
        position += struct.unpack_from("<I", image, position + 4)[0]
    struct.pack_into("<H", image, position + 12, 0x4000)
    raw.write_bytes(image)
    with volume_in(raw) as volume:
        entry = volume.find(0, b"secret")
        with pytest.raises(RefusedError, match=r"encrypted \(EFS\)"):
            volume.content(entry.inode)
