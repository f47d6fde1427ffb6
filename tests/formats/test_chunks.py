"""Chunks: as good as files that are open, with few of them open."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.errors import TruncatedImageError
from imgcat.formats.files.image_files import StoredFiles
from imgcat.formats.sources import file_pool as chunks
from imgcat.formats.sources.file_pool import ChunkSource

if TYPE_CHECKING:
    from pathlib import Path


def _open_files() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    made = []
    for number in range(300):
        path = tmp_path / f"c{number:03}"
        path.write_bytes(bytes([number % 256]) * 100)
        made.append(str(path))
    return made


def test_few_are_open_and_all_are_read(paths: list[str]) -> None:
    with StoredFiles(paths) as stored:
        assert not _open_files() & set(paths)
        data = stored.source.read_at(0, 30_000)
        assert data == b"".join(bytes([n % 256]) * 100 for n in range(300))
        assert len(_open_files() & set(paths)) == chunks.MOST_OPEN
        assert stored.source.read_at(29_999, 1) == bytes([299 % 256])
    assert not _open_files() & set(paths)


def test_many_threads_at_once(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MOST_OPEN", 5)
    wrong = []
    with StoredFiles(paths) as stored:

        def read(seed: int) -> None:
            for step in range(300):
                number = (seed * 37 + step * 11) % 300
                if stored.source.read_at(number * 100, 100) != bytes([number % 256]) * 100:
                    wrong.append(number)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(_open_files() & set(paths)) <= 5 + len(threads)


def test_a_chunk_that_was_replaced_while_it_was_closed_is_not_read(paths: list[str]) -> None:
    source = ChunkSource(paths[0])
    assert source.read_at(0, 5) == b"\0" * 5
    source.close()
    os.unlink(paths[0])
    with open(paths[0], "wb") as file:
        file.write(b"x" * 100)
    with pytest.raises(OSError, match="was changed"):
        source.read_at(0, 5)


def test_its_end(paths: list[str]) -> None:
    source = ChunkSource(paths[7])
    assert source.size == 100
    with pytest.raises(TruncatedImageError, match="1 bytes short"):
        source.read_at(99, 2)
    with pytest.raises(TruncatedImageError):
        source.readv((memoryview(bytearray(2)),), 99)
    source.close()
    source.close()
