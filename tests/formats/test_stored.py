"""Several files as one stream: equal to their concatenation, each without its own header."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.formats.errors import TruncatedImageError
from imgcat.formats.files.image_files import StoredFiles
from imgcat.formats.sources.joined import JoinedSource
from support.memory_source import Call, CountingSource, MemorySource
from support.partclone_writer import pattern

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PARTS = st.lists(st.binary(max_size=30), min_size=1, max_size=6)


def _joined(parts: Sequence[bytes], skip: int) -> tuple[JoinedSource, bytes]:
    source = JoinedSource([MemorySource(part) for part in parts], skip)
    return source, b"".join(part[skip:] for part in parts)


def _buffers(lengths: Sequence[int]) -> list[memoryview]:
    return [memoryview(bytearray(b"\xaa" * length)) for length in lengths]


@given(parts=_PARTS, skip=st.integers(0, 12), data=st.data())
def test_equals_the_concatenation(parts: list[bytes], skip: int, data: st.DataObject) -> None:
    source, whole = _joined(parts, skip)
    assert source.size == len(whole)
    offset = data.draw(st.integers(0, len(whole)))
    lengths = data.draw(st.lists(st.integers(0, 20), max_size=8))
    total = sum(lengths)
    if offset + total > len(whole):
        with pytest.raises(TruncatedImageError):
            source.readv(_buffers(lengths), offset)
        with pytest.raises(TruncatedImageError):
            source.read_at(offset, total)
        return
    expected = whole[offset : offset + total]
    buffers = _buffers(lengths)
    source.readv(buffers, offset)
    assert b"".join(buffers) == expected
    buffers = _buffers(lengths)
    assert source.readv_nowait(buffers, offset)
    assert b"".join(buffers) == expected
    assert source.read_at(offset, total) == expected


def test_every_range_of_a_few_parts() -> None:
    source, whole = _joined([pattern(20), b"", pattern(7), b"head", pattern(33)], 4)
    for start in range(len(whole) + 1):
        for stop in range(start, len(whole) + 1):
            assert source.read_at(start, stop - start) == whole[start:stop]


def test_a_read_asks_only_the_parts_that_it_touches() -> None:
    parts = [CountingSource(MemorySource(pattern(100))) for _ in range(4)]
    source = JoinedSource(parts, 10)
    source.readv(_buffers([50, 60]), 85)
    assert [part.calls for part in parts] == [
        [Call("readv", 95, 5)], [Call("readv", 10, 90)], [Call("readv", 10, 15)], [],
    ]  # fmt: skip


def test_one_part_that_must_wait_is_all_that_must_wait() -> None:
    class Waiting(MemorySource):
        def readv_nowait(self, *_: object) -> bool:
            return False

    source = JoinedSource([MemorySource(pattern(100)), Waiting(pattern(100))])
    assert source.readv_nowait(_buffers([100]), 0)
    assert not source.readv_nowait(_buffers([100]), 1)
    assert not source.readv_nowait(_buffers([1]), 150)


def test_closing_closes_every_part() -> None:
    parts = [MemorySource(b"a"), MemorySource(b"b")]
    source = JoinedSource(parts)
    source.close()
    source.close()
    assert all(part.closed for part in parts)


def test_files(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"v{number}").write_bytes(b"HEAD" + bytes([number]) * 10)
    paths = [str(tmp_path / f"v{number}") for number in range(3)]
    with StoredFiles(paths, 4) as stored:
        assert stored.source.read_at(5, 20) == b"\0" * 5 + b"\1" * 10 + b"\2" * 5
    with StoredFiles(paths[:1]) as stored:
        assert stored.source is stored.files[0]
    with StoredFiles(paths[:1], 4) as stored:
        assert stored.source.size == 10


def test_what_is_open_is_closed_when_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "v0").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        StoredFiles([str(tmp_path / "v0"), str(tmp_path / "v1")])
    assert len(os.listdir("/proc/self/fd")) == before
