"""HFS+ and HFSX as a kernel fills and shows them."""

from __future__ import annotations

import struct
import unicodedata
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import RefusedError
from support.files_inside import of_volume, volume_in
from support.hfsplus import cut_out, make_empty, shown
from support.uml import in_uml
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "plain": {"size": 32 * MIB},
    "small": {"size": 24 * MIB, "block_size": 512, "node_size": 8192},
    "x": {"size": 32 * MIB, "block_size": 8192, "is_x": True},
}


NOT_THE_SAME = ("00344", "004da", "004db", "004ea", "004eb", "00e33", "00eb3", "01ff4")
"""Linux takes them apart, and macOS does not, into what means something else: shown as stored."""


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Volumes that a kernel has filled."""
    place = tmp_path_factory.mktemp("hfsplus")
    made = {}
    for name, how in KINDS.items():
        made[name] = place / f"{name}.raw"
        make_empty(made[name], **how)
    in_uml(
        list(made.values()), "hfsplus", "support.hfsplus:fill", place / "out", is_read_only=False
    )
    return made


def test_every_file_is_as_a_kernel_shows_it(volumes: dict[str, Path], tmp_path: Path) -> None:
    answers = in_uml(list(volumes.values()), "hfsplus", f"{shown.__module__}:shown", tmp_path)
    for image, expected in zip(volumes.values(), answers, strict=True):
        problems: list[str] = []
        with volume_in(image) as volume:
            found = of_volume(volume, problems)
        assert problems == []
        assert len(expected) > 500
        assert found == expected


def test_the_sample_has_what_it_should_have(volumes: dict[str, Path]) -> None:
    """Else the comparison would compare nothing of it."""
    problems: list[str] = []
    with volume_in(volumes["plain"]) as volume:
        found = of_volume(volume, problems)
        content = volume.content(found[b"first"]["inode"])
        runs = list(content.runs(0, content.size))  # type: ignore[union-attr]
    assert len(runs) > 8  # beyond those beside the file
    assert found[b"first"]["links"] == 3
    assert found[b"first"]["inode"] == found[b"one/the same"]["inode"]
    assert set(found[b"second"]["attributes"]) == {
        b"user.name", b"user.of1", b"osx.com.example.tag", b"osx.com.apple.FinderInfo",
        b"trusted.other",
    }  # fmt: skip


def test_names_of_every_composed_character(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    make_empty(raw, 48 * MIB)
    in_uml([raw], "hfsplus", "support.hfsplus:fill_with_characters", tmp_path, is_read_only=False)
    (expected,) = in_uml([raw], "hfsplus", "support.hfsplus:names", tmp_path)
    with volume_in(raw) as volume:
        found = sorted(each.name for each in volume.entries())
    assert len(expected) > 1000
    # Linux has characters of the same meaning in the place of some marks that stand alone.
    missing = set(map(_normal, expected)) - set(map(_normal, found))
    assert {each[:5] for each in missing if each[5] != "d"} == set(NOT_THE_SAME)
    shown_alike = {each for each in found if each[5:6] != b"d"} & set(expected)
    assert len(shown_alike) > 0.9 * len([each for each in expected if each[5:6] != b"d"])


def _normal(name: bytes) -> str:
    return unicodedata.normalize("NFC", name.decode())


def test_a_volume_by_xorriso(tmp_path: Path) -> None:
    content = tmp_path / "content"
    for number in range(400):
        path = content / f"folder {number % 20}" / f"file of number {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * number)
    (content / "link").symlink_to("folder 1/file of number 1")
    raw = tmp_path / "volume.raw"
    quiet("xorriso", "-as", "mkisofs", "-quiet", "-hfsplus", "-o", raw, content)
    cut_out(raw)
    (expected,) = in_uml([raw], "hfsplus", "support.hfsplus:shown", tmp_path)
    problems: list[str] = []
    with volume_in(raw) as volume:
        assert of_volume(volume, problems) == expected
    assert problems == []


def changed(volume: Path, place: Path, name: str, at: int, data: bytes) -> Path:
    """Return a volume in which bytes of the record of a file are others."""
    image = bytearray(volume.read_bytes())
    encoded = name.encode("utf-16-be")
    key = struct.pack(">IH", 2, len(name)) + encoded
    record = image.index(key) + len(key)
    image[record + at : record + at + len(data)] = data
    path = place / "changed.raw"
    path.write_bytes(image)
    return path


def test_a_compressed_file_is_refused_by_name(volumes: dict[str, Path], tmp_path: Path) -> None:
    raw = tmp_path / "compressed.raw"
    make_empty(raw, 8 * MIB)
    in_uml([raw], "hfsplus", "support.hfsplus:fill_for_decmpfs", tmp_path, is_read_only=False)
    path = changed(raw, tmp_path, "compressed", 41, b"\x20")
    with volume_in(path) as volume:
        entry = volume.find(0, b"compressed")
        assert entry.size == 12345
        with pytest.raises(RefusedError, match=r"compressed \(decmpfs\), which is not read"):
            volume.content(entry.inode)


def test_a_resource_fork_is_a_stream(volumes: dict[str, Path], tmp_path: Path) -> None:
    """No program here makes one: the data fork of a file is made it."""
    image = volumes["plain"]
    raw = image.read_bytes()
    with volume_in(image) as volume:
        assert volume.streams(volume.find(0, b"second").inode) == []
    key = struct.pack(">IH", 2, 8) + "symlink3".encode("utf-16-be")
    record = raw.index(key) + len(key)
    fork = raw[record + 88 : record + 168]
    path = changed(image, tmp_path, "symlink3", 42, struct.pack(">H", 0o100644))
    path = changed(path, tmp_path, "symlink3", 88, bytes(80) + fork)
    with volume_in(path) as volume:
        inode = volume.find(0, b"symlink3").inode
        assert volume.streams(inode) == [(b"rsrc", 900)]
        view = memoryview(bytearray(900))
        volume.content(inode, b"rsrc").read_into(view, 0)
        assert volume.content(inode).size == 0
    assert bytes(view) == b"y" * 900


@pytest.mark.parametrize(
    ("what", "at", "data", "message"),
    [
        ("a hard link to a directory", 48, b"fdrpMACS", "a hard link to a directory, which is not"),
        ("a device", 42, struct.pack(">H", 0o020600), "it is a device"),
        ("a lost hard link", 48, b"hlnkhfs+", "a hard link leads to iNode1, which is missing"),
    ],
)
def test_what_is_refused_by_name(
    volumes: dict[str, Path], tmp_path: Path, what: str, at: int, data: bytes, message: str
) -> None:
    path = changed(volumes["plain"], tmp_path, "fifo", at, data)
    path = changed(path, tmp_path, "fifo", 44, struct.pack(">I", 1))
    problems: list[str] = []
    with volume_in(path) as volume:
        assert b"fifo" not in {each.name for each in volume.entries(0, problems.append)}, what
    assert message in problems[0]


@pytest.mark.parametrize(
    ("start", "is_refused"), [(512, False), (1024, True)], ids=["empty", "not empty"]
)
def test_a_journal(
    start: int, volumes: dict[str, Path], tmp_path: Path, *, is_refused: bool
) -> None:
    image = bytearray(volumes["plain"].read_bytes())
    assert struct.unpack_from(">I", image, 1028)[0] & 0x100
    # The journal lies at the end, where the file system has nothing.
    block = len(image) // 4096 - 4
    image[1028:1032] = struct.pack(">I", 0x2100)
    struct.pack_into(">I", image, 1036, block)
    struct.pack_into(">I32xQQ", image, block * 4096, 1, (block + 1) * 4096, 4096)
    struct.pack_into("<IIQQ", image, (block + 1) * 4096, 0x4A4E4C78, 0x12345678, start, 512)
    path = tmp_path / "volume.raw"
    path.write_bytes(image)
    if not is_refused:
        with volume_in(path) as volume:
            assert volume.find(0, b"first").links == 3
        return
    with pytest.raises(RefusedError, match=r"its journal was not replayed.*--as-is"):
        volume_in(path).__enter__()
    with volume_in(path, as_is=True) as volume:
        assert "its journal was not replayed" in (volume.caveat or "")


def test_a_volume_that_was_not_unmounted(volumes: dict[str, Path], tmp_path: Path) -> None:
    image = bytearray(volumes["plain"].read_bytes())
    image[1030] &= 0xFE
    path = tmp_path / "volume.raw"
    path.write_bytes(image)
    with pytest.raises(RefusedError, match=r"it was not unmounted.*--as-is"):
        volume_in(path).__enter__()
    with volume_in(path, as_is=True) as volume:
        assert volume.find(0, b"first").links == 3


def test_an_hfs_is_refused_by_name(tmp_path: Path) -> None:
    raw = tmp_path / "volume.raw"
    raw.write_bytes(bytes(1024) + b"BD" + bytes(122) + b"H+" + bytes(1 << 20))
    with pytest.raises(RefusedError, match=r"HFS, which may be around an HFS\+, is not read"):
        volume_in(raw).__enter__()
