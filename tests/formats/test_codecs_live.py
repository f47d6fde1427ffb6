"""Decoders that wait, and decoding ahead of a reader: never shared between two opens."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.codecs import registry as codecs
from imgcat.formats.codecs.decoded_source import DecodedSource
from imgcat.formats.codecs.decoders import Decoding
from imgcat.formats.codecs.scan import scan_stream
from imgcat.formats.codecs.seek_tables import MemoryTable
from imgcat.formats.sources.file import FileSource
from imgcat.formats.sources.pages import PAGE_SIZE
from support.packers import pack

if TYPE_CHECKING:
    from pathlib import Path

    from imgcat.formats.codecs.seek_points import StreamIndex


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "plain"
    generator = random.Random(5)
    path.write_bytes(b"".join(generator.randbytes(1 << 16) + bytes(1 << 16) for _ in range(160)))
    return path


class _Opened:
    """A packed file, scanned once, to be opened often."""

    def __init__(self, path: Path, codec: str) -> None:
        self.path = path
        self.codec = codecs.named(codec)
        self.index: StreamIndex = scan_stream(FileSource(path), self.codec)

    def open(self, decoding: Decoding) -> DecodedSource:
        return DecodedSource(
            FileSource(self.path), self.codec, MemoryTable(self.index), 1, decoding
        )


@pytest.fixture(scope="module", params=["xz", "zstd", "gzip", "bzip2", "lz4"])
def packed(request: pytest.FixtureRequest, plain: Path) -> _Opened:
    return _Opened(
        pack(request.param, plain, plain.with_suffix(f".{request.param}")), request.param
    )


def test_closing_one_open_leaves_the_other_reading(packed: _Opened, plain: Path) -> None:
    data = plain.read_bytes()
    decoding = Decoding()
    one, other = packed.open(decoding), packed.open(decoding)
    assert one.read_at(0, 100) == data[:100]
    offset = 10 * PAGE_SIZE
    assert other.read_at(offset, 100) == data[offset : offset + 100]
    one.close()
    for page in (30, 31, 60, 5):
        offset = page * PAGE_SIZE
        assert other.read_at(offset, PAGE_SIZE) == data[offset : offset + PAGE_SIZE]
    other.close()


def test_opening_reading_and_closing_from_many_threads(packed: _Opened, plain: Path) -> None:
    data = plain.read_bytes()
    decoding = Decoding(4 << 20)
    wrong: list[object] = []

    def work(seed: int) -> None:
        generator = random.Random(seed)
        for _ in range(4):
            source = packed.open(decoding)
            start = generator.randrange(len(data) - (2 << 20))
            for offset in range(start, start + (2 << 20), 200_000):
                try:
                    if source.read_at(offset, 1000) != data[offset : offset + 1000]:
                        wrong.append(offset)
                except OSError as error:
                    wrong.append(error)
            source.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_follows_is_decoded_ahead_and_each_page_once(
    packed: _Opened, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = plain.read_bytes()
    decoding = Decoding()
    source = packed.open(decoding)
    begun: list[int] = []
    real = packed.codec.decode
    monkeypatch.setattr(
        packed.codec, "decode",
        lambda stored, point: (begun.append(point.plain_offset), real(stored, point))[1],
    )  # fmt: skip
    for offset in range(0, len(data), 4 * PAGE_SIZE):
        length = min(4 * PAGE_SIZE, len(data) - offset)
        assert source.read_at(offset, length) == data[offset : offset + length]
    # No seek point is begun at twice, and fewer decoders than points where one goes on.
    assert len(begun) == len(set(begun)) <= len(packed.index.points)
    source.close()


def test_reading_after_closing_is_an_error(packed: _Opened) -> None:
    source = packed.open(Decoding())
    source.close()
    with pytest.raises(OSError, match="closed"):
        source.read_at(0, 10)
