"""Image directories: which files are images of what, and that nothing hostile leads out of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.clonezilla import metadata
from imgcat.formats.clonezilla.directory import is_image_directory, read_directory
from imgcat.formats.clonezilla.files import file_name
from imgcat.formats.clonezilla.metadata import LogicalVolume, LuksDevice, Swap, VolumeGroup
from imgcat.formats.clonezilla.names import find_candidates, is_image_name
from imgcat.formats.errors import NotThisFormatError, UnsupportedFeatureError
from support.clonezilla_writer import SAVED_AT, SAVED_BY

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.clonezilla.directory import ImageDirectory, Partition

_TABLE = "label: dos\ndevice: /dev/sda\n/dev/sda1 : start=2048, size=4096, type=83\n"

_LINK = "it is a symbolic link out of the directory: replace it by the file"
_NONSENSE = "line 1: neither a heading nor a partition"


def _write(where: Path, files: dict[str, str], *, table: str | None = _TABLE) -> str:
    where.mkdir(exist_ok=True)
    if table is not None:
        files = {"sda-pt.sf": table, "disk": "sda\n", "parts": "sda1\n", **files}
    for name, text in files.items():
        (where / name).write_text(text)
    return str(where)


def _partition(directory: ImageDirectory, name: str) -> Partition:
    return next(found for found in directory.partitions if found.name == name)


@pytest.mark.parametrize(
    ("name", "partition", "fs_type", "is_raw"),
    [
        ("sda1.ext4-ptcl-img.zst", "sda1", "ext4", False),
        ("sda1.ext4-ptcl-img.gz.aa", "sda1", "ext4", False),
        ("sda1.ext4-ptcl-img.gz.aaa", "sda1", "ext4", False),
        ("sda1.hfsplus-ptcl-img.uncomp.aa", "sda1", "hfsplus", False),
        ("nvme0n1p3.LVM2_member-ptcl-img.lz4", "nvme0n1p3", "LVM2_member", False),
        ("cciss-c0d0p1.ext3-ptcl-img.bz2", "cciss-c0d0p1", "ext3", False),
        ("vg.x-lv.1.xfs-ptcl-img.xz", "vg.x-lv.1", "xfs", False),
        ("sda1.dd-ptcl-img.zst", "sda1", None, True),
        ("sda1.dd-ptcl-img.zst.aa", "sda1", None, True),
        ("sda1.ext3-img", "sda1", "ext3", False),
        ("sda1.ext3-img.aa", "sda1", "ext3", False),
        ("sda1.ntfs-img.aa", "sda1", "ntfs", False),
        ("sda1.ntfs-img.gz", "sda1", "ntfs", False),
        ("sda1.dd-img.aa", "sda1", None, True),
        ("sda1", "sda1", None, False),
        ("sda1.aa", "sda1", None, False),
        ("sda1.000", "sda1", None, False),
    ],
)
def test_names_of_images(
    tmp_path: Path, name: str, partition: str, fs_type: str | None, is_raw: bool
) -> None:
    path = _write(tmp_path / "img", {name: "", "parts": partition})
    directory = read_directory(path)
    (found,) = directory.partitions
    assert (found.name, found.fs_type, found.is_raw) == (partition, fs_type, is_raw)
    assert found.first_file == os.path.join(path, name)
    assert found.problem is None
    assert not directory.problems


@pytest.mark.parametrize(
    "name",
    [
        "sda1.ext4-ptcl-img.gz.info", "sda1.ext4-ptcl-img.gz.torrent.info", "sda1.info",
        "sda1.ext4-ptcl-img.gz.aa.torrent", "sda1-size", "swappt-sda5.info", "sda-pt.sf",
        "sda1.ext4-ptcl-img.gz.aa.md5", ".ext4-ptcl-img.gz", "sda1-luksHeader.bin", "Info-dmi.txt",
        "..ext4-ptcl-img.gz", "...ntfs-img.aa",
    ],
)  # fmt: skip
def test_names_that_are_no_images(tmp_path: Path, name: str) -> None:
    assert not is_image_name(name)
    directory = read_directory(_write(tmp_path / "img", {name: "x"}))
    assert not directory.partitions


def test_chunks() -> None:
    names = [f"sda1.ntfs-img.{first}{second}" for first in "abcdefg" for second in "azxbg"]
    (candidate,) = find_candidates(names, ())["sda1"]
    assert candidate.first == "sda1.ntfs-img.aa"
    assert len(candidate.files) == len(names)
    assert len(find_candidates(["sda1.gz", "sda1.zst"], ["sda1"])["sda1"]) == 2


def test_a_directory_with_everything(tmp_path: Path) -> None:
    uuid = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    path = _write(
        tmp_path / "img",
        {
            "parts": "sda1 sda2 sda3 sda5 cciss/c0d0p1",
            "sda1.vfat-ptcl-img.zst": "",
            "sda5.dd-img.aa": "",
            "cciss-c0d0p1.ext3-ptcl-img.gz.aa": "",
            "vg0-root.ext4-ptcl-img.zst": "",
            "ocs_luks_x.btrfs-ptcl-img.zst": "",
            "swappt-sda6.info": f'UUID="{uuid}"\nLABEL="a b"\n$(touch /tmp/never)\n',
            "swappt-vg0-swap.info": 'UUID=""\nLABEL=""\n',
            "dev-fs.list": "# comment\n/dev/sda1 vfat 512M\n/dev/sda5 unknown 1G\n",
            "lvm_vg_dev.list": f"vg0 /dev/sda2 {uuid}\n",
            "lvm_logv.list": "/dev/vg0/root  Linux rev 1.0 ext4\n/dev/vg0/swap  Linux swap\n",
            "luks-dev.list": f"/dev/sda3 {uuid} /dev/mapper/ocs_luks_x\n",
            "clonezilla-img": f"This image was saved by Clonezilla at {SAVED_AT}.\n"
            f"Saved by {SAVED_BY}.\n" + "log\n" * 400_000,
            "MD5SUMS": "", "B2SUMS": "", "sda-mbr": "", "sda4-ebr": "", "sda-chs.sf": "",
            "THIS_IMAGE_DIR_IS_BROKEN.txt": "",
        },
    )  # fmt: skip
    found = read_directory(path)
    assert (found.path, found.name, found.disks) == (path, "img", ("sda",))
    assert [p.name for p in found.partitions] == [
        "cciss-c0d0p1", "ocs_luks_x", "sda1", "sda5", "vg0-root",
    ]  # fmt: skip
    assert [p.disk for p in found.partitions] == [None, None, "sda", "sda", None]
    assert _partition(found, "sda1").device_size == 4096 * 512
    assert _partition(found, "sda5").fs_type == "unknown"
    assert found.swaps == (Swap("sda6", uuid, "a b"), Swap("vg0-swap", None, None))
    assert found.volume_groups == (VolumeGroup("vg0", "sda2", uuid),)
    assert found.logical_volumes == (
        LogicalVolume("vg0-root", "/dev/vg0/root", "Linux rev 1.0 ext4"),
        LogicalVolume("vg0-swap", "/dev/vg0/swap", "Linux swap"),
    )
    assert found.luks_devices == (LuksDevice("sda3", uuid, "ocs_luks_x"),)
    assert found.checksum_files == ("MD5SUMS", "B2SUMS")
    assert (found.clonezilla_version, found.saved_at) == (SAVED_BY, SAVED_AT)
    assert found.is_broken
    assert found.files == ("sda-chs.sf", "sda-mbr", "sda-pt.sf", "sda4-ebr")
    assert found.problems == ()


def test_saved_partitions_name_their_disks(tmp_path: Path) -> None:
    path = _write(tmp_path / "img", {"sda-pt.sf": _TABLE, "parts": "sda1", "sdb-mbr": "",
                                     "sda1.ext4-ptcl-img.zst": ""}, table=None)  # fmt: skip
    found = read_directory(path)
    assert found.disks == ("sda", "sdb")
    assert found.partitions[0].disk == "sda"


def test_problems_stop_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = _write(
        tmp_path / "img",
        {
            "parts": "sda1 sda2 sda3 sda4 sda7 ../../etc/passwd /etc/passwd .. sda8",
            "sda1.ext4-ptcl-img.zst": "",
            "sda2.ext4-ptcl-img.gz": "", "sda2.ntfs-img.aa": "",
            "sda3.ext4-ptcl-img.gz.ab": "", "sda3.ext4-ptcl-img.gz.ac": "",
            "sda4.ext4-ptcl-img.gz.aa": "",
            "sda9.ext4-ptcl-img.gz": "", "sda9.ext4-ptcl-img.gz.tmp": "",
            "sda-pt.sf": "nonsense",
        },
    )  # fmt: skip
    os.symlink(secret, os.path.join(path, "sda4.ext4-ptcl-img.gz.ab"))
    os.symlink("sda1.ext4-ptcl-img.zst", os.path.join(path, "sda8.ext4-ptcl-img.zst"))
    os.symlink("/dev/zero", os.path.join(path, "dev-fs.list"))
    os.mkfifo(os.path.join(path, "blkid.list"))
    os.mkfifo(os.path.join(path, "lvm_logv.list"))
    found = read_directory(path)
    assert {p.name: p.problem for p in found.partitions} == {
        "sda1": None,
        "sda2": "there are 2 images of it, sda2.ext4-ptcl-img.gz and sda2.ntfs-img.aa: remove the "
        "wrong one",
        "sda3": "the first chunk, sda3.ext4-ptcl-img.gz.aa, is missing",
        "sda4": f"sda4.ext4-ptcl-img.gz.ab: {_LINK}",
        "sda8": None,
        "sda9": None,
    }
    assert _partition(found, "sda3").first_file == os.path.join(path, "sda3.ext4-ptcl-img.gz.aa")
    assert found.problems == (
        "parts lists '../../etc/passwd', which is no device name: ignored",
        "parts lists '/etc/passwd', which is no device name: ignored",
        "parts lists '..', which is no device name: ignored",
        "lvm_logv.list was not read: clonezilla.lvm_logv.list @0x0: it is no regular file",
        "parts lists sda7, of which there is no image",
        "there is an image of sda9, which parts does not list",
        f"dev-fs.list was not read: clonezilla.dev-fs.list @0x0: {_LINK}",
        f"sda-pt.sf was not read: clonezilla.sda-pt.sf @0x0: {_NONSENSE}",
        *(f"{p.name}: {p.problem}" for p in found.partitions if p.problem),
    )


def test_texts_that_are_too_long(tmp_path: Path) -> None:
    path = _write(tmp_path / "img", {"parts": "sda1 " * 300_000, "sda1.ext4-ptcl-img.gz": ""})
    found = read_directory(path)
    assert found.problems[0] == (
        "parts was not read: clonezilla.parts @0x100000: the text goes on: this is no file of "
        "Clonezilla"
    )
    assert [p.name for p in found.partitions] == ["sda1"]
    (tmp_path / "img" / "parts").write_text(" ".join(f"x{n}" for n in range(100_000)))
    assert len(read_directory(path).problems) < 4000


def test_lists_of_devices_that_no_file_can_be_named_after(tmp_path: Path) -> None:
    lines = "/dev/\n/dev/.\n/dev/mapper/..\n/dev/a\0b\n"
    path = _write(
        tmp_path / "img",
        {
            ".aa": "", "..aa": "", "...aa": "",
            "lvm_logv.list": lines, "luks-dev.list": f"{lines}/dev/sda1 /dev/mapper/..\n",
            "lvm_vg_dev.list": "vg /dev/\n", "dev-fs.list": lines.replace("\n", " ext4\n"),
        },
    )  # fmt: skip
    found = read_directory(path)
    assert (found.partitions, found.logical_volumes, found.volume_groups) == ((), (), ())
    assert found.luks_devices == (LuksDevice("sda1", None, None),)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"vg-\xff")
    path = _write(tmp_path / os.fsdecode(b"img\xfe"), {f"{odd}.ext4-ptcl-img.gz": ""})
    (found,) = read_directory(path).partitions
    assert found.name == odd
    assert os.path.exists(found.first_file)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ecryptfs.info", "encrypted with eCryptfs, as ecryptfs.info tells: mount it with"),
        ("gocryptfs.info", "encrypted with gocryptfs, as gocryptfs.info tells: mount it with"),
        ("00-pseudo-img-note.txt", "only stands for an image"),
    ],
)
def test_refused(tmp_path: Path, name: str, words: str) -> None:
    path = _write(tmp_path / "img", {name: ""}, table=None)
    assert is_image_directory(path)
    with pytest.raises(UnsupportedFeatureError, match=words):
        read_directory(path)


@pytest.mark.parametrize("files", [{}, {"parts": "sda1"}, {"disk": "x", "README": ""},
                                   {"sda-mbr": ""}, {"sda1.ext4-ptcl-img.gz": ""}])  # fmt: skip
def test_no_image_directory(tmp_path: Path, files: dict[str, str]) -> None:
    path = _write(tmp_path / "img", files, table=None)
    assert not is_image_directory(path)
    with pytest.raises(NotThisFormatError, match="is no image directory of Clonezilla"):
        read_directory(path)


def test_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert not is_image_directory(str(file))
    assert not is_image_directory(str(tmp_path / "none"))
    with pytest.raises(NotThisFormatError, match="is no directory"):
        read_directory(str(file))
    with pytest.raises(FileNotFoundError):
        read_directory(str(tmp_path / "none"))


def test_file_names_of_devices() -> None:
    assert [file_name(d) for d in ("/dev/sda1", "/dev/vg/lv", "/dev/mapper/x", "/dev/cciss/c0d0p1")
            ] == ["sda1", "vg-lv", "x", "cciss-c0d0p1"]  # fmt: skip


@given(text=st.text())
def test_any_text_is_no_error(text: str) -> None:
    names, _ = metadata.parse_names(text)
    assert all("/" not in name for name in names)
    for parse in (
        metadata.parse_fragment, metadata.parse_file_systems, metadata.parse_volume_groups,
        metadata.parse_logical_volumes, metadata.parse_luks_devices, metadata.parse_log,
    ):  # fmt: skip
        parse(text)
