"""Metadata of LVM2 with bytes changed: an error by name, or what there was; no wrong volume."""

from __future__ import annotations

import itertools
import random
import re
import struct

import pytest
from imgcat.formats.errors import CorruptImageError
from imgcat.formats.superblocks.lvm import checksum, read_label
from imgcat.formats.volume_groups.config_text import parse_text
from imgcat.formats.volume_groups.find import FoundGroup, Member, find_groups
from imgcat.formats.volume_groups.group import read_group
from imgcat.formats.volume_groups.metadata_area import MOST_TEXT
from support.lvm import empty, lvm_on

pytestmark = pytest.mark.loop

SIZE = 24 << 20
AREA = 4096
HEADER = 512


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The first MiB of a physical volume with three volumes, one of them in two stripes."""
    where = tmp_path_factory.mktemp("pv")
    place = empty(where / "pv", SIZE >> 20)
    with lvm_on(where / "home", place) as lvm:
        lvm.group()
        lvm.volume("root", 3)
        lvm.volume("x-y", 2)
        lvm.run("lvextend", "-q", "-L", "5M", "vg/root")
    return place.path.read_bytes()[: 1 << 20]


def found_in(data: bytes, size: int = SIZE) -> list[FoundGroup]:
    """Return what is found in a physical volume that begins so, and is zeros behind that."""

    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert 0 <= length <= MOST_TEXT
        length = max(0, min(length, size - offset))
        return data[offset : offset + length].ljust(length, b"\0")

    return find_groups([Member("", size, read)])


def text_of(head: bytes) -> tuple[int, bytes]:
    """Return where the text lies, and what it is."""
    at, size = struct.unpack_from("<QQ", head, AREA + 40)
    return AREA + at, head[AREA + at : AREA + at + size]


def with_text(head: bytes, text: bytes) -> bytes:
    """Return a physical volume with another text, all checksums being right."""
    header = bytearray(head[AREA : AREA + HEADER])
    struct.pack_into("<QQI", header, 40, HEADER, len(text), checksum(text))
    struct.pack_into("<I", header, 0, checksum(header[4:]))
    end = AREA + HEADER + len(text)
    return head[:AREA] + header + text + head[end:]


def test_flips_anywhere(head: bytes) -> None:
    (whole,) = found_in(head)
    assert {each.name: len(each.runs) for each in whole.volumes} == {"root": 2, "x-y": 1}
    where, text = text_of(head)
    generator = random.Random(1)
    told = 0
    for _ in range(200):
        data = bytearray(head)
        areas = [(0, 2048), (AREA, HEADER), (where, len(text))]
        start, length = generator.choice(areas)
        for _ in range(generator.randrange(1, 4)):
            data[start + generator.randrange(length)] ^= 1 << generator.randrange(8)
        groups = found_in(bytes(data))
        volumes = [volume for group in groups for volume in group.volumes]
        problems = [problem for group in groups for problem in group.problems]
        # All of them as they were, or none and a reason.
        assert volumes == list(whole.volumes) or (volumes == [] and problems)
        told += bool(problems)
    assert told > 100


def test_flips_of_the_text_with_checksums_that_are_right(head: bytes) -> None:
    _where, text = text_of(head)
    generator = random.Random(2)
    refused = 0
    for _ in range(400):
        changed = bytearray(text)
        for _ in range(generator.randrange(1, 6)):
            changed[generator.randrange(len(changed) - 1)] = generator.choice(
                b'0123456789{}[]=,#"\\ -a\x00\xff\n'
            )
        for group in found_in(with_text(head, bytes(changed))):
            refused += bool(group.problems)
            check_bounded(group)
    assert refused > 100


def check_bounded(group: FoundGroup) -> None:
    """Check that the runs of each volume follow each other, and lie apart in the volume."""
    taken: list[tuple[int, int]] = []
    for volume in group.volumes:
        end = 0
        for run in volume.runs:
            assert run.start == end < run.stop
            end = run.stop
            width = len(run.places)
            assert (run.stop - run.start) % (width * run.stripe_size) == 0
            each = (run.stop - run.start) // width
            taken += [(place, place + each) for _uuid, place in run.places]
        assert end == volume.size
    taken.sort()
    assert all(start >= 512 and stop <= SIZE for start, stop in taken)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(taken))


def changed(head: bytes, before: str, after: str) -> list[str]:
    """Return what is said of a text in which one thing is another."""
    _where, text = text_of(head)
    assert before.encode() in text
    new = with_text(head, text.replace(before.encode(), after.encode()))
    (group,) = found_in(new)
    assert group.volumes == ()
    return list(group.problems)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("extent_size = 2048", "extent_size = 0", "extent_size is 0, not a number from 1"),
        ("extent_size = 2048", "", "extent_size is missing"),
        ("extent_size = 2048", "extent_size = 99999999999999999999", "neither a number"),
        ("pe_count = 23", "pe_count = 4", "it ends behind the last extent of pv0"),
        ("pe_start = 2048", "pe_start = 0", "pe_start is 0, not a number from 1"),
        ("extent_count = 2\n", "extent_count = 0\n", "extent_count is 0"),
        ("start_extent = 3", "start_extent = 2", "and 3145728 would be next"),
        ('"pv0", 3', '"pv0", 2', "x-y and root lie over each other|root and x-y lie over"),
        ('"pv0", 3', '"pv7", 3', "it lies on 'pv7', which is not in the group"),
        ('"pv0", 3', '"pv0", -3', "a stripe is at -3"),
        ('"pv0", 3', '"pv0"', "stripes and a list of 1 do not agree"),
        ("segment_count = 2", "segment_count = 3", "2 segments, which is not segment_count"),
        ("stripe_count = 1", "stripe_count = 4294967295", "do not agree"),
        ("x-y {", "../etc {", "no name where one|'../etc' cannot be a name|neither a value"),
        ("x-y {", ".. {", "'..' cannot be a name"),
        ("x-y {", "root {", "root is there twice"),
        ("vg {", "vg { a { b { c { d { e { f { g { h { ", "sections are too deep"),
        ('format = "lvm2"', 'format = "lvm3"', "its format is 'lvm3'"),
        ("seqno = ", "seqno = -", "seqno is -"),
        ("# Generated", "other { }\n# Generated", "it has 2 groups, not one"),
        ('contents = "', "contents = [", "a list does not go on|neither a number"),
        ("creation_time = ", 'creation_time = "', "a string does not end|no name|neither a value"),
    ],
)
def test_each_contradiction_is_named(head: bytes, before: str, after: str, said: str) -> None:
    problems = changed(head, before, after)
    assert re.search(said, problems[0]), problems
    assert "lvm.metadata @0x1000" in problems[0]


def test_volumes_that_end_behind_what_is_there(head: bytes) -> None:
    (group,) = found_in(head, 5 << 20)
    assert group.volumes == ()
    assert len(group.problems) == 2
    assert all("which ends before it" in each for each in group.problems)


def test_labels_that_contradict_themselves(head: bytes) -> None:
    label = head[512:1024]

    def sealed(place: int, new: bytes) -> bytes:
        sector = bytearray(label)
        sector[place : place + len(new)] = new
        struct.pack_into("<I", sector, 16, checksum(sector[20:]))
        return bytes(512) + sector

    for place, new, said in (
        (8, struct.pack("<Q", 2), "says that it is in sector 2"),
        (20, struct.pack("<I", 500), "header is said to be at 500"),
        (20, struct.pack("<I", 8), "header is said to be at 8"),
        (32, b"\0", "impossible letters"),
        (72, b"\x01" * 440, "does not end"),
    ):
        with pytest.raises(CorruptImageError, match=said):
            read_label(sealed(place, new))
    with pytest.raises(CorruptImageError, match="volume ends in it"):
        read_label(head[:1000])
    # The first label that is whole counts.
    third = sealed(8, struct.pack("<Q", 2))[512:]
    assert read_label(bytes(512) + label[:-1] + b"x" + third) == read_label(head)


def test_text_that_has_no_end(head: bytes) -> None:
    for text in (
        "a { " * 1_000_000,
        "#" * 4_000_000,
        'a = "' + '\\"' * 2_000_000,
        "a = [" + "1," * 1_000_000,
        "a = " + "9" * 4_000_000,
        "b" * 4_000_000,
    ):
        with pytest.raises(CorruptImageError):
            read_group(text, 0)
    (group,) = found_in(with_text(head, b"x" * (900 << 10)))
    assert group.volumes == ()


def test_values_of_every_kind() -> None:
    text = 'a = 1 # one\nb = -2 c = "x\\"y\\\\z" d = [] e = ["p", 3,] f { g { } }'
    assert parse_text(text, "lvm.metadata", 0) == {
        "a": 1, "b": -2, "c": 'x"y\\z', "d": (), "e": ("p", 3), "f": {"g": {}},
    }  # fmt: skip
