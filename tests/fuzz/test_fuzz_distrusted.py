"""Damaged compressed images: every page that a reader gives is the original one, or an error.

Real images by the real compressors, with a bit flipped, some bytes overwritten or the end cut off,
from a fixed seed.
"""

from __future__ import annotations

import collections
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from imgcat.formats.errors import FormatError
from imgcat.formats.files import detect
from imgcat.formats.passes.scan import scan_files
from support.opening import open_scanned
from support.streams import TOOLS, plain_image

if TYPE_CHECKING:
    from pathlib import Path

_COMMANDS = {
    **TOOLS,
    "xz-none": ("xz", "-1", "-c", "-T2", "--block-size=512KiB", "--check=none"),
    "xz-small": ("xz", "-1", "-c", "-T2", "--block-size=256KiB"),
    "zstd-unchecked": ("zstd", "-q", "-c", "--no-check"),
    "lz4-unchecked": ("lz4", "-q", "-c", "--no-frame-crc"),
}
_TOOLS = (
    "gzip", "pigz", "bgzf", "xz", "xz-small", "xz-none", "bzip2", "pbzip2", "zstd", "zstdmt",
    "zstd-unchecked", "pzstd", "lz4", "lz4-checked", "lz4-linked", "lz4-unchecked", "lzma",
)  # fmt: skip
_UNCHECKED = {"xz-none", "zstd-unchecked", "lz4-unchecked", "lzma"}
"""What flips in these may go unseen, so they are only cut off."""

_PAGE = 4096


def _damaged(rng: random.Random, data: bytes, *, only_cut: bool) -> bytes:
    changed = bytearray(data)
    kind = 2 if only_cut else rng.randrange(3)
    place = rng.randrange(64, len(data))
    if kind == 0:
        changed[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        changed[place : place + 16] = rng.randbytes(min(16, len(data) - place))
    else:
        del changed[place:]
    return bytes(changed)


def _outcome(path: Path, guest: bytes) -> str:
    """Scan the image and read every page; assert that it is the right one, or refused."""
    with detect.open_files(str(path)) as stored:
        try:
            scan = scan_files(stored)
        except FormatError:
            return "refused"
        reader = open_scanned(stored.source, scan)
        view = memoryview(bytearray(_PAGE))
        given = 0
        for start in range(0, reader.size, _PAGE):
            part = view[: min(_PAGE, reader.size - start)]
            try:
                reader.read_into(part, start)
            except FormatError:
                continue
            given += 1
            assert part == guest[start : start + len(part)], (path, start)
        if scan.info.damage is None:
            assert given == -(-len(guest) // _PAGE)
        return "whole" if scan.info.damage is None else "damaged"


def _attack(tool: str, directory: Path, count: int) -> collections.Counter[str]:
    image = plain_image("partclone")
    packed = subprocess.run(
        _COMMANDS[tool], input=image.image, stdout=subprocess.PIPE, check=True
    ).stdout
    rng = random.Random(tool)
    path = directory / "image"
    outcomes: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        path.write_bytes(_damaged(rng, packed, only_cut=tool in _UNCHECKED))
        outcomes[_outcome(path, image.guest)] += 1
    return outcomes


@pytest.mark.parametrize("tool", _TOOLS)
def test_no_wrong_page_comes_out_of_a_damaged_image(tool: str, tmp_path: Path) -> None:
    outcomes = _attack(tool, tmp_path, 6)
    assert outcomes["damaged"] + outcomes["refused"] >= 4, outcomes


@pytest.mark.soak
@pytest.mark.parametrize("tool", _TOOLS)
def test_no_wrong_page_comes_out_of_many_damaged_images(tool: str, tmp_path: Path) -> None:
    outcomes = _attack(tool, tmp_path, 200)
    assert outcomes["damaged"] + outcomes["refused"] > 120, outcomes
