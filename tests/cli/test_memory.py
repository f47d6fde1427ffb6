"""What `imgcat add` takes of memory: bounded, whatever comes out of a compressed image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.program import COMMAND

if TYPE_CHECKING:
    from support.program import Program

MIB = 1 << 20
MOST = 300 * MIB
"""Bytes that adding an image of any codec may have resident."""

_GROWTH = 64 * MIB
"""Bytes by which it may be more for four times the image: a block of bzip2 of zeros has 46 MB."""

_PEAK = Path(__file__).parents[1] / "bench" / "peak.py"

PACKERS = {
    "gzip": ("gzip", "-1"),
    "pigz": ("pigz", "-1", "-p2"),
    "zstd": ("zstd", "-q"),
    "xz": ("xz", "-0", "-T2", "--block-size=16MiB"),
    "bzip2": ("bzip2", "-1"),
    "bzip2-large": ("bzip2", "-9"),
    "lz4": ("lz4", "-q", "-c"),
}


def _saved(path: Path, size: int) -> Path:
    """Have partclone save every block of a device of zeros."""
    device = path.with_suffix(".device")
    with device.open("wb") as file:
        file.truncate(size)
    subprocess.run(
        ("partclone.imager", "-c", "-q", "-s", device, "-o", path, "-L", f"{path}.log"),
        check=True, capture_output=True,
    )  # fmt: skip
    device.unlink()
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("saved")
    return [_saved(directory / f"{size}", size * MIB) for size in (32, 128)]


def _peak(program: Program, plain: Path, packer: str, directory: Path) -> int:
    """Return the most bytes that adding an image had resident, with a catalog of its own."""
    path = directory / f"{plain.name}.{packer}"
    with plain.open("rb") as source, path.open("wb") as target:
        subprocess.run(PACKERS[packer], stdin=source, stdout=target, check=True)
    environment = program.environment | {"IMGCAT_DB": str(path.with_suffix(".db"))}
    done = subprocess.run(
        [sys.executable, _PEAK, *COMMAND, "add", path],
        env=environment, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    os.unlink(path)
    return int(done.stdout)


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_an_image_of_zeros_takes_no_more_than_a_smaller_one(
    program: Program, saved: list[Path], packer: str, tmp_path: Path
) -> None:
    small, large = (_peak(program, plain, packer, tmp_path) for plain in saved)
    assert large < MOST
    assert large - small < _GROWTH


@pytest.mark.soak
@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_gigabytes_of_zeros(program: Program, packer: str, tmp_path: Path) -> None:
    plain = _saved(tmp_path / "plain", 4096 * MIB)
    assert _peak(program, plain, packer, tmp_path) < MOST


def test_memory_that_is_not_there_is_an_error_of_that_image(
    program: Program, saved: list[Path], tmp_path: Path
) -> None:
    """Under a limit of address space: an exit code and a sentence, no signal."""
    path = tmp_path / "zeros.img.gz"
    with saved[0].open("rb") as source, path.open("wb") as target:
        subprocess.run(PACKERS["gzip"], stdin=source, stdout=target, check=True)
    for limit in (400_000, 600_000, 1_000_000):
        done = subprocess.run(
            ["sh", "-c", f'ulimit -v {limit}; exec "$@"', "sh", *COMMAND, "add", path],
            env=program.environment | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, check=False, text=True,
        )  # fmt: skip
        assert done.returncode >= 0, done.stderr
    assert done.returncode == 0, done.stderr
