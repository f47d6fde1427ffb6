"""Where many files lie, asked for at once, and what is made in a thread."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import DamagedError, WorkerError
from imgcat.filesystems.in_thread import in_thread
from imgcat.filesystems.mapping import map_all
from imgcat.filesystems.worker.wire import CONTENT, NO_DATA, RUN, Kind
from support.files_inside import volume_in
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = 600
MANY = 1500
"""Bytes of which every second KiB lies somewhere: more runs than are told beside others."""

FLIPPED = 300


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("volume")
    content = place / "content"
    content.mkdir()
    for number in range(FILES):
        (content / f"file{number:03}").write_bytes(bytes([number % 251]) * (number * 7))
    with (content / "holes").open("wb") as file:
        for number in range(MANY):
            file.seek(number * 2048)
            file.write(b"x" * 1024)
    path = place / "volume.raw"
    path.touch()
    os.truncate(path, 32 * MIB)
    quiet(
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "inline_data", "-d", content, path
    )
    return path


def test_each_is_told_in_its_order_and_what_is_in_few_runs_at_once(raw: Path) -> None:
    with volume_in(raw) as volume:
        inodes = {each.name: each.inode for each in volume.entries() if each.name != b"lost+found"}
        asked = list(inodes.values())
        found = list(volume.map(asked, pytest.fail))
        assert [each.inode for each in found] == asked
        by_inode = {each.inode: each for each in found}
        image = raw.read_bytes()
        for number in range(FILES):
            file = by_inode[inodes[b"file%03d" % number]]
            expected = bytes([number % 251]) * (number * 7)
            assert file.size == len(expected)
            if file.runs is None:
                assert file.data == expected
                continue
            data = b"".join(image[place : place + count] for _start, count, place in file.runs)
            assert data[: file.size] == expected
        holes = by_inode[inodes[b"holes"]]
        assert holes.runs is not None
        assert len(holes.runs) == 2 * MANY - 1
        placed = [(start // 1024, place // 1024) for start, _n, place in holes.runs if place >= 0]
        told = quiet("debugfs", "-R", "stat holes", raw)
        extents = re.findall(r"\((\d+)\):(\d+)", told.partition("EXTENTS")[2])
        assert placed == [(int(first), int(block)) for first, block in extents]


def test_what_is_wrong_with_one_is_told_and_the_others_are_there(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.raw"
    data = bytearray(raw.read_bytes())
    told = quiet("debugfs", "-R", f"imap file{FLIPPED}", raw)
    found = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", told)
    assert found is not None
    data[int(found[1]) * 1024 + int(found[2], 16) + 4] ^= 1
    path.write_bytes(data)
    with volume_in(raw) as volume:
        whole = {each.name: each.inode for each in volume.entries()}
        asked = [whole[b"file%03d" % number] for number in range(FILES)]
        expected = list(volume.map(asked))
    problems: list[str] = []
    with volume_in(path) as volume:
        found_now = list(volume.map(asked, problems.append))
    assert [a for a, b in zip(found_now, expected, strict=True) if a != b] == [found_now[FLIPPED]]
    assert found_now[FLIPPED].why == problems[0]
    assert len(problems) == 1
    assert "checksum" in problems[0]


def test_who_stops_leaves_no_thread_and_the_volume_answers(raw: Path) -> None:
    with volume_in(raw) as volume:
        asked = [each.inode for each in volume.entries()]
        before = threading.active_count()
        files = volume.map(asked * 40)
        next(files)
        files.close()  # type: ignore[attr-defined]
        assert threading.active_count() == before
        assert len(list(volume.map(asked))) == len(asked)


class Telling:
    """A worker that answers with what it was given."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def ask(
        self, _what: str, take: Callable[[Kind, memoryview], None], **_arguments: object
    ) -> None:
        take(Kind.CONTENTS, memoryview(self._frame))


NONSENSE = {
    "another file": CONTENT.pack(8, 0, 0, NO_DATA),
    "a run outside of the volume": CONTENT.pack(7, 10, 1, NO_DATA) + RUN.pack(0, 10, 95),
    "runs that end too soon": CONTENT.pack(7, 10, 1, NO_DATA) + RUN.pack(0, 9, 0),
    "a gap": CONTENT.pack(7, 10, 1, NO_DATA) + RUN.pack(1, 9, 0),
    "fewer runs than it says": CONTENT.pack(7, 10, 2, NO_DATA) + RUN.pack(0, 10, 0),
    "more bytes than the file has": CONTENT.pack(7, 1, 0, 2) + b"ab",
    "bytes that are cut off": CONTENT.pack(7, 3, 0, 3) + b"ab",
    "a length that none has": CONTENT.pack(7, 3, 0, -3),
    "a head that is cut off": CONTENT.pack(7, 0, 0, NO_DATA)[:-1],
    "a size that none has": CONTENT.pack(7, 1 << 63, 0, NO_DATA),
    "nothing": b"",
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_an_error(nonsense: str) -> None:
    worker = Telling(NONSENSE[nonsense])
    with pytest.raises(WorkerError):
        list(map_all(worker, None, 100, [7], pytest.fail))  # type: ignore[arg-type]


FAILING = """
import struct, sys

if "imgcat.filesystems.worker.main" in sys.orig_argv:
    from imgcat.filesystems.worker import ext

    rows = ext.Ext.rows

    def failing(driver, number, tell):
        if number != driver.root:
            raise struct.error("unpack requires more")
        return rows(driver, number, tell)

    ext.Ext.rows = failing
"""
"""A driver that meets what it does not expect, once it has told of the root."""


def test_what_was_found_before_a_failure_is_given(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    given = []
    with volume_in(raw) as volume, pytest.raises(DamagedError, match="cut off"):
        given.extend(volume.walk())
    with volume_in(raw) as volume, pytest.raises(DamagedError, match="cut off"):
        volume._worker.ask("walk", lambda kind, _data: given.append(kind), inodes=[2, 11])
    assert given[-1] is Kind.DIRECTORIES


def test_a_thread_fails_where_its_things_are_taken() -> None:
    def make(give: Callable[[int], None]) -> None:
        give(1)
        give(2)
        raise LookupError("three")

    taken = []
    with pytest.raises(LookupError, match="three"):
        taken.extend(in_thread(make, "test"))
    for each in (things := in_thread(make, "test")):
        taken.append(each)
        break
    things.close()  # type: ignore[attr-defined]
    assert taken == [1, 2, 1]
