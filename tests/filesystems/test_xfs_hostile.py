"""XFS with harm that somebody thought of, its checksums right: named, the rest read, and it ends.

xfs_db does it: what it writes, it seals.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.files_inside import digest, volume_in
from support.volumes import MIB
from support.xfs import asked, seal, sealed, with_a_bit_of_everything

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.filesystems.volume import Volume

HASHES = (32 << 30) // 1024


class Made(NamedTuple):
    """A small XFS, and the inodes in it by their paths."""

    raw: Path
    inodes: dict[str, int]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("xfs")
    content = place / "content"
    content.mkdir()
    (content / "file").write_bytes(b"a file\n" * 1000)
    raw = with_a_bit_of_everything(content, place / "volume.raw", version=5, names=600)
    told = asked(raw, "blockget -n", "ncheck")
    found = re.findall(r"^ *(\d+) (.+?)(?:/\.)?$", told, re.MULTILINE)
    return Made(raw, {path: int(number) for number, path in found})


@pytest.fixture
def raw(made: Made, tmp_path: Path) -> Path:
    copied = tmp_path / "volume.raw"
    shutil.copy(made.raw, copied)
    return copied


def value_of(raw: Path, field: str, *where: str) -> str:
    return asked(raw, *where, f"print {field}").split("=")[-1].strip()


def read(volume: Volume, path: str) -> tuple[list[str], list[bytes]]:
    """Return what is told of a file and of what it has, and the names in it."""
    problems: list[str] = []
    names: list[bytes] = []
    try:
        entry = volume.resolve(path.encode(), follow=False)
        names = [each.name for each in volume.entries(entry.inode, problems.append)]
    except NotADirectoryError:
        volume.attributes(entry.inode, problems.append)
        try:
            if entry.size < MIB:
                digest(volume, entry.inode)
        except Exception as error:  # noqa: BLE001 - of any kind, it is compared by its text
            problems.append(str(error))
    except Exception as error:  # noqa: BLE001
        problems.append(str(error))
    return problems, names


HARMS = {
    "a tree of extents with a block twice": (
        "pieces", [], "u3.bmbt.ptrs[2]", "u3.bmbt.ptrs[1]", "its extent tree is no tree",
    ),
    "a tree of extents that leads to itself": (
        "pieces", [], "u3.bmbt.level", "2", "a node of its extent tree is none",
    ),
    "a tree of extents without an end": (
        "pieces", [], "u3.bmbt.level", "999", "the root of its extent tree is none",
    ),
    "a block of the tree that belongs to another": (
        "pieces", ["addr u3.bmbt.ptrs[1]"], "owner", "7", "it belongs to inode 7",
    ),
    "a block of the tree that was somewhere else": (
        "pieces", ["addr u3.bmbt.ptrs[1]"], "bno", "8", "is what belongs to 4096",
    ),
    "more extents than there are": (
        "pieces", [], "core.nextents", "999", "of its 999 extents are there",
    ),
    "more extents than anything has": (
        "pieces", [], "core.nextents", "4000000000", "it has 4000000000 extents",
    ),
    "extents behind the end": (
        "file", [], "u3.bmx[0].startblock", "20479", "none of it",
    ),
    "extents that are far away": (
        "file", [], "u3.bmx[0].startblock", "4503599627370400", "none of it",
    ),
    "the headers of a group in a file": (
        "file", [], "u3.bmx[0].startblock", "0", "none of it",
    ),
    "an empty extent": (
        "file", [], "u3.bmx[0].blockcount", "0", "its extents overlap, or are too many",
    ),
    "data that is in the inode": (
        "file", [], "core.format", "1", "its blocks are told in the format 1",
    ),
    "attributes behind the inode": (
        "file", [], "core.forkoff", "255", "its sizes cannot be",
    ),
    "an inode that is another": (
        "file", [], "v3.inumber", "9", "in its place is inode 9",
    ),
    "an inode of another file system": (
        "file", [], "v3.uuid", "11111111-2222-3333-4444-555555555555", "that was here once",
    ),
    "an inode that was deleted": (
        "file", [], "core.nlinkv2", "0", "it is deleted",
    ),
    "leaves of attributes in a circle": (
        "pieces", ["ablock 1"], "hdr.info.hdr.forw", "1", "goes in a circle",
    ),
    "a node of attributes that leads to itself": (
        "pieces", ["ablock 0"], "btree[0].before", "0", "goes in a circle",
    ),
    "a node of attributes that is too high": (
        "pieces", ["ablock 0"], "hdr.level", "9", "a node of its tree of hashes is none",
    ),
    "more attributes than a leaf has": (
        "pieces", ["ablock 1"], "hdr.count", "60000", "60000 of them are in one leaf",
    ),
    "an attribute that is outside of its leaf": (
        "pieces", ["ablock 1"], "entries[0].nameidx", "1020", "outside of its leaf",
    ),
    "a directory of another": (
        "many", ["dblock 0"], "dhdr.hdr.owner", "5", "it belongs to inode 5",
    ),
    "a directory that was somewhere else": (
        "many", ["dblock 0"], "dhdr.hdr.bno", "2", "is what belongs to 1024",
    ),
    "a name that does not end": (
        "many", ["dblock 0"], "du[5].namelen", "255", "is no entry; what follows it up to 4096",
    ),
    "a name that leads far away": (
        "many", ["dblock 0"], "du[5].inumber", "0xffffffffffff", "are not read: mount it",
    ),
    "a name that leads behind the end": (
        "many", ["dblock 0"], "du[5].inumber", "0x40000000", "there is no inode 1073741824",
    ),
    "a link that is too long": (
        "link", [], "core.size", "5000", "a link of 5000 bytes",
    ),
    "a link of another": (
        "link", ["dblock 0"], "owner", "3", "it belongs to inode 3",
    ),
    "a link with more than it has": (
        "link", ["dblock 0"], "bytes", "2000", "a block of the link is none",
    ),
}  # fmt: skip
"""Where, which field, its new value or the field that has it, and what is told."""


@pytest.mark.loop
@pytest.mark.parametrize("harm", HARMS)
def test_it_is_named_and_the_rest_is_read(harm: str, made: Made, raw: Path) -> None:
    path, way, field, value, message = HARMS[harm]
    where = (f"inode {made.inodes[path]}", *way)
    if "." in value:
        value = value_of(raw, value, *where).removeprefix("1:")
    asked(raw, *where, f"write -d {field} {value}", write=True)
    failures: list[str] = []
    with volume_in(raw, on_failure=failures.append) as volume:
        told, _names = read(volume, path)
        at_top, names = read(volume, "/")
        others = [each for each in ("file", "pieces", "link") if each != path]
        assert all(read(volume, each)[0] == [] for each in others)
    assert any(message in each for each in [*told, *at_top]), told + at_top
    assert len(names) + len(at_top) == 4
    assert failures == []


@pytest.mark.loop
@pytest.mark.parametrize(
    ("field", "value"),
    [("nhdr.info.hdr.magic", "0"), ("nbtree[0].before", str(HASHES)), ("nhdr.level", "7"),
     ("nbtree[0].before", "12345"), ("nbtree[0].hashval", "0xffffffff")],
)  # fmt: skip
def test_names_are_found_whatever_their_hashes_say(
    field: str, value: str, made: Made, raw: Path
) -> None:
    where = (f"inode {made.inodes['many']}", f"dblock {HASHES}")
    asked(raw, *where, f"write -d {field} {value}", write=True)
    with volume_in(raw) as volume:
        told, names = read(volume, "/many")
        assert told == []
        assert len(names) == 600
        inode = volume.resolve(b"/many").inode
        for name in names[::20]:
            assert volume.find(inode, name).inode == made.inodes[f"many/{name.decode()}"]
        with pytest.raises(FileNotFoundError):
            volume.find(inode, b"not there")


@pytest.mark.loop
def test_a_directory_in_itself(made: Made, raw: Path) -> None:
    asked(
        raw, f"inode {made.inodes['many']}", "dblock 0",
        f"write -d du[5].inumber {made.inodes['many']}", write=True,
    )  # fmt: skip
    with volume_in(raw) as volume:
        told, names = read(volume, "/many")
        assert (told, len(names)) == ([], 600)
        above = {entry.inode for entry in volume.entries(made.inodes["many"])}
        assert made.inodes["many"] in above


@pytest.mark.loop
@pytest.mark.parametrize("size", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_file_of_a_size_that_can_hardly_be(size: int, made: Made, raw: Path) -> None:
    image = bytearray(raw.read_bytes())
    number = made.inodes["file"].to_bytes(8, "big")
    (place,) = (
        place for place, _length, at in sealed(bytes(image))
        if at == 100 and image[place + 152 : place + 160] == number
    )  # fmt: skip
    image[place + 56 : place + 64] = size.to_bytes(8, "big")
    seal(image, place, 512, 100)
    raw.write_bytes(image)
    with volume_in(raw) as volume:
        told, names = read(volume, "/")
        if size >= 1 << 63:
            assert len(names) == 3
            assert "its sizes cannot be" in told[0]
            return
        content = volume.content(volume.find(0, b"file").inode)
        assert content.size == size
        view = memoryview(bytearray(b"x" * 100))
        content.read_into(view, size - 100)
        assert bytes(view) == bytes(100)
        content.read_into(view, 0)
        assert bytes(view).startswith(b"a file\n")
