"""Compressed and split images through a real mount: the same bytes as of the plain ones."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.packers import CODECS, PACKERS, pack, split
from support.program import wait_until_stopped
from support.volumes import MIB, quiet, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program
    from support.samples import Sample

pytestmark = pytest.mark.fuse

_SHAPES = {"one": None, "a2": 2, "a3": 3}
_CHUNK = 300_000


def _random_reads(path: Path, expected: bytes, count: int) -> None:
    generator = random.Random(7)
    with path.open("rb", buffering=0) as file:
        for _ in range(count):
            offset = generator.randrange(len(expected))
            length = min(generator.randrange(1, 20_000), len(expected) - offset)
            assert os.pread(file.fileno(), length, offset) == expected[offset : offset + length]


@pytest.mark.parametrize("packer", PACKERS)
def test_every_sample_however_packed_and_split(
    packer: str, samples: list[Sample], program: Program, tmp_path: Path
) -> None:
    # Each sample in one shape, of all in turn; the last one, which is also read at random, in all.
    turns = itertools.cycle(_SHAPES)
    shapes = {sample.path.stem: [next(turns)] for sample in samples}
    shapes[samples[-1].path.stem] = list(_SHAPES)
    files = []
    for sample in samples:
        for shape in shapes[sample.path.stem]:
            letters = _SHAPES[shape]
            packed = pack(packer, sample.path, tmp_path / f"{sample.path.stem}-{shape}.packed")
            files += [packed] if letters is None else split(packed, letters, _CHUNK)
    added = program.run("add", *files).stdout
    assert added.count("added") == len(samples) + len(_SHAPES) - 1
    rows = program.json("ls")
    assert {row["compression"] for row in rows} == {CODECS[packer]}
    assert {row["status"] for row in rows} == {"ready"}
    mount = program.mount_all(tmp_path / "mnt")
    for sample in samples:
        for shape in shapes[sample.path.stem]:
            name = f"{sample.path.stem}-{shape}.packed"
            assert sha256(mount / name) == sample.volume_sha256
    expected = (mount / f"{samples[-1].path.stem}-one.packed").read_bytes()
    for shape in _SHAPES:
        quiet("sysctl", "-q", "vm.drop_caches=1")
        _random_reads(mount / f"{samples[-1].path.stem}-{shape}.packed", expected, 350)


def _large_image(path: Path) -> None:
    """Save a file system of 70 MiB of data, half of which can be compressed."""
    content = path.with_suffix(".content")
    content.mkdir()
    words = [os.urandom(6) for _ in range(3000)]
    for number in range(7):
        (content / f"random{number}").write_bytes(os.urandom(5 * MIB))
        text = b" ".join(random.Random(number).choices(words, k=40_000))
        (content / f"text{number}").write_bytes((text * 20)[: 5 * MIB])
    raw = path.with_suffix(".fs")
    quiet("truncate", "-s", "120M", raw)
    quiet("mkfs.ext4", "-q", "-F", "-d", content, raw)
    quiet("partclone.ext4", "-c", "-s", raw, "-o", path, "-L", path.with_suffix(".log"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of more than a read may decode, saved once."""
    path = tmp_path_factory.mktemp("large") / "large.img"
    _large_image(path)
    return path


@pytest.fixture(scope="module")
def large_xz(large: Path) -> Path:
    """The same in one xz block."""
    path = large.with_suffix(".xz")
    with large.open("rb") as plain, path.open("wb") as packed:
        subprocess.run(["xz", "-0", "-c", "-T1"], stdin=plain, stdout=packed, check=True)
    return path


def test_one_xz_block_is_served_while_it_is_small_and_after_repack(
    large: Path, large_xz: Path, samples: list[Sample], program: Program, tmp_path: Path
) -> None:
    small = pack("xz", samples[0].path, tmp_path / "small.xz")
    result = program.run("add", large_xz, small, code=4)
    assert "large.xz: needs-repack" in result.stderr
    assert "imgcat repack" in result.stderr
    statuses = {row["name"]: row["status"] for row in program.json("ls")}
    assert statuses == {"large": "needs-repack", "small": "ready"}
    mount = program.mount_all(tmp_path / "mnt")
    with pytest.raises(OSError, match="not supported"):
        (mount / "large").read_bytes()
    assert sha256(mount / "small") == samples[0].volume_sha256
    before = program.json("show", "large")
    out = tmp_path / "large.zst"
    program.run("repack", "large", out, "--replace")
    after = program.json("show", "large")
    assert (after["id"], after["name"], after["status"]) == (before["id"], "large", "ready")
    quiet("zstd", "-q", "-t", out)
    unpacked = subprocess.run(["zstd", "-dc", out], check=True, capture_output=True).stdout
    assert unpacked == large.read_bytes()
    program.run("add", large, "--name", "plain")
    program.run("export", "plain", tmp_path / "plain.raw")
    other = program.mount("large", tmp_path / "mnt2")
    assert sha256(other / "large") == sha256(tmp_path / "plain.raw")


def test_a_file_that_is_damaged_after_it_was_added(
    large: Path, program: Program, tmp_path: Path
) -> None:
    packed = pack("zstdmt", large, tmp_path / "packed.zst")
    program.run("add", large, packed)
    program.run("export", "large", tmp_path / "raw")
    mount = program.mount_all(tmp_path / "mnt")
    status = packed.stat()
    with packed.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 8]))
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    expected = (tmp_path / "raw").read_bytes()
    wrong = right = 0
    with (mount / "packed").open("rb", buffering=0) as file:
        for offset in range(0, len(expected), MIB):
            data = _read(file.fileno(), offset)
            # The right bytes or none; up to an error, there may be fewer than asked for.
            assert data == expected[offset : offset + len(data)]
            if len(data) == min(MIB, len(expected) - offset):
                right += 1
            else:
                wrong += 1
    assert wrong
    assert right > 3 * wrong
    result = program.run("verify", "packed", code=5)
    assert "cannot be read" in result.stderr
    assert program.json("show", "packed")["bad_ranges"]


def _read(fd: int, offset: int) -> bytes:
    """Return a MiB, or what comes before an I/O error."""
    with contextlib.suppress(OSError):
        return os.pread(fd, MIB, offset)
    return b""


def test_what_show_tells(samples: list[Sample], program: Program, tmp_path: Path) -> None:
    packed = pack("lz4-linked", samples[0].path, tmp_path / "x.lz4")
    program.run("add", packed, "--seek-spacing", "256K")
    (stream,) = program.json("show", "x")["streams"]
    assert stream["codec"] == "lz4"
    assert stream["plain_bytes"] == samples[0].path.stat().st_size
    assert stream["stored_bytes"] == packed.stat().st_size
    (counted,) = program.sql("SELECT count(*) AS n FROM seek_points")
    assert stream["point_count"] == counted["n"] > 1
    text = program.run("show", "x").stdout
    assert "Seek points:" in text
    assert "A cold read:" in text


def test_an_interrupted_add_leaves_nothing(large_xz: Path, program: Program) -> None:
    # It stops itself in the midst of the scan.
    stopping = """
import lzma, os, signal, sys
Decompressor = lzma.LZMADecompressor
class Stopping:
    def __init__(self, *given, **options):
        self.real, self.pieces = Decompressor(*given, **options), 0
    def __getattr__(self, name):
        return getattr(self.real, name)
    def decompress(self, *given):
        self.pieces += 1
        if self.pieces == 20:
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.real.decompress(*given)
lzma.LZMADecompressor = Stopping
from imgcat.cli.main import run
sys.exit(run())
"""
    adding = program.start("add", large_xz, program=["-c", stopping])
    wait_until_stopped(adding)
    adding.kill()
    adding.communicate()
    assert adding.returncode == -signal.SIGKILL
    assert program.sql("SELECT count(*) AS n FROM images")[0]["n"] == 0
    assert program.sql("SELECT count(*) AS n FROM seek_points")[0]["n"] == 0
    program.run("add", large_xz, code=4)
