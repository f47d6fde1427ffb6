"""repack: what is written is what was read, and nothing is lost on the way."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from support.ntfsclone_writer import Recipe as NtfsRecipe
from support.ntfsclone_writer import write as write_ntfsclone
from support.packers import pack
from support.partclone_writer import Recipe, write
from support.volumes import quiet, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program
    from support.samples import Sample


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd", "lz4", "lzma", None])
def test_the_stream_stays_the_same_and_the_entry_too(
    packer: str | None, samples: list[Sample], program: Program, tmp_path: Path
) -> None:
    sample = samples[3]
    image = tmp_path / "image"
    if packer is None:
        image.write_bytes(sample.path.read_bytes())
    else:
        pack(packer, sample.path, image)
    program.run("add", image, "--name", "kept/name")
    program.run("verify", "kept/name")
    before = program.json("show", "kept/name")
    out = tmp_path / "out.zst"
    program.run("repack", "kept/name", out, "--replace")
    quiet("zstd", "-q", "-t", out)
    plain = subprocess.run(["zstd", "-dc", out], check=True, capture_output=True).stdout
    assert hashlib.sha256(plain).hexdigest() == sample.image_sha256
    after = program.json("show", "kept/name")
    for key in ("id", "name", "verified_at", "verify_result", "added_at", "size_bytes"):
        assert after[key] == before[key], key
    assert (after["path"], after["compression"]) == (str(out), "zstd")
    assert image.exists()
    program.run("export", "kept/name", tmp_path / "raw")
    assert sha256(tmp_path / "raw") == sample.volume_sha256


def test_an_ntfsclone_image(program: Program, tmp_path: Path) -> None:
    written = write_ntfsclone(
        NtfsRecipe(order=[*range(900), *range(1500, 2600)], cluster_count=3000, cluster_size=4096)
    )
    image = tmp_path / "n.img"
    image.write_bytes(written.image)
    program.run("add", image)
    program.run("repack", "n", tmp_path / "n.zst", "--replace", "--remove-old")
    assert not image.exists()
    program.run("export", "n", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == written.guest


def test_without_replace_the_catalog_stays(
    samples: list[Sample], program: Program, tmp_path: Path
) -> None:
    program.run("add", samples[0].path, "--name", "x")
    before = program.json("show", "x")
    program.run("repack", "x", tmp_path / "x.zst")
    assert program.json("show", "x") == before
    program.run("repack", "x", tmp_path / "x.zst", code=2)
    program.run("repack", "x", tmp_path / "x.zst", "--force")
    program.run("repack", "x", samples[0].path, code=2)
    program.run("repack", "x", tmp_path / "y", "--remove-old", code=2)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    said = program.run("repack", "x", fifo, "--force", code=2).stderr
    assert f"{fifo}: is a fifo, which is not replaced" in said
    assert fifo.is_fifo()


def test_killed_in_the_middle_nothing_is_lost(program: Program, tmp_path: Path) -> None:
    image = tmp_path / "large.img"
    written = write_ntfsclone(
        NtfsRecipe(order=range(20_000), cluster_count=20_000, cluster_size=4096)
    )
    image.write_bytes(written.image)
    program.run("add", image)
    before = program.json("show", "large")
    out = tmp_path / "out.zst"
    begun = time.monotonic()
    program.run("repack", "large", tmp_path / "whole.zst")
    lasts = time.monotonic() - begun
    for part in (0.2, 0.4, 0.6, 0.8):
        repacking = program.start("repack", "large", out, "--replace", "--remove-old")
        time.sleep(part * lasts)
        os.kill(repacking.pid, signal.SIGKILL)
        repacking.communicate()
        if out.exists():
            break
        assert program.json("show", "large") == before
        assert image.exists()
    program.run("rescan")
    program.run("export", "large", tmp_path / "raw", "--force")
    assert (tmp_path / "raw").read_bytes() == written.guest


def test_a_damaged_image_is_not_repacked(
    samples: list[Sample], program: Program, tmp_path: Path
) -> None:
    image = pack("lz4", samples[0].path, tmp_path / "image.lz4")
    program.run("add", image)
    status = image.stat()
    with image.open("r+b") as file:
        file.seek(status.st_size // 2)
        file.write(b"\xff" * 64)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    out = tmp_path / "out.zst"
    program.run("repack", "image", out, code=5)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.loop
def test_a_full_disk_is_named(program: Program, tmp_path: Path) -> None:
    written = write_ntfsclone(NtfsRecipe(order=range(4000), cluster_count=4000, cluster_size=4096))
    image = tmp_path / "n.img"
    image.write_bytes(written.image)
    program.run("add", image)
    point = tmp_path / "full"
    point.mkdir()
    quiet("mount", "-t", "tmpfs", "-o", "size=128K", "none", point)
    try:
        said = program.run("repack", "n", point / "out.zst", code=5).stderr
        assert said == f"imgcat: {point / 'out.zst'}: No space left on device\n"
        assert os.listdir(point) == []
    finally:
        quiet("umount", point)


def test_how_hard_it_is_compressed_and_by_how_many(program: Program, tmp_path: Path) -> None:
    guest = b"".join(b"%09d words that come again and again, " % (n * n) for n in range(30_000))
    recipe = Recipe(present=[True] * 300, block_size=4096, guest=guest[: 300 * 4096])
    (tmp_path / "words.img").write_bytes(write(recipe).image)
    program.run("add", tmp_path / "words.img")
    sizes = {}
    for options in (("--level", 1), ("--level", 19), ("--level", 1, "-j", 1), ("--jobs", 3)):
        out = tmp_path / f"{'-'.join(map(str, options))}.zst"
        program.run("repack", "words", out, *options)
        sizes[options] = out.stat().st_size
    assert sizes["--level", 19] < sizes["--level", 1] * 0.95
    assert sizes["--level", 1, "-j", 1] == sizes["--level", 1]
    for wrong in (("--level", 0), ("--level", 20), ("-j", 0)):
        program.run("repack", "words", tmp_path / "x.zst", *wrong, code=2)
