"""What is kept until a scan ends: the same bytes, and little memory."""

from __future__ import annotations

import errno
import os
import random
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from imgcat.formats.codecs.window_spool import Spool


def _files() -> list[str]:
    links = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in links if "(deleted)" in line]


def test_many_take_little_memory_and_leave_nothing() -> None:
    before = len(_files())
    rng = random.Random(5)
    spool = Spool(in_memory=1 << 20, segment=4 << 20)
    kept, digests = [], []
    tracemalloc.start()
    try:
        for number in range(400):
            data = rng.randbytes(rng.randrange(200_000))
            kept.append(spool.keep(data))
            digests.append(hash(data))
            assert len(kept[-1]) == len(data), number
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()
    assert [hash(bytes(each)) for each in kept] == digests
    assert len(_files()) > before
    del spool
    kept.clear()
    assert len(_files()) == before


def test_one_that_is_larger_than_a_segment() -> None:
    spool = Spool(in_memory=10, segment=4096)
    data = os.urandom(100_000)
    assert spool.keep(b"few") == b"few"
    first, second = spool.keep(data), spool.keep(data[:5000])
    assert (bytes(first), bytes(second)) == (data, data[:5000])
    with pytest.raises(TypeError):
        first[0] = 1  # type: ignore[index]


def test_without_room_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Spool(in_memory=0).keep(b"data")


def test_what_a_compressor_returns_is_kept_as_large_as_it_is() -> None:
    """A result holds as much memory as it might have needed: of a window, 2 MiB for a few kB."""
    plain = random.Random(3).randbytes(5000) + bytes(2 << 20)
    spool = Spool()
    tracemalloc.start()
    try:
        kept = [
            spool.keep(zstandard.ZstdCompressor(level=3).compress(plain[number:]))
            for number in range(40)
        ]
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    size = sum(map(len, kept))
    assert size < held < size + 40 * 200
