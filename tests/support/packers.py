"""The real compressors, and cutting files into chunks, for tests."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PACKERS: dict[str, tuple[str, ...]] = {
    "gzip": ("gzip", "-c"),
    "pigz": ("pigz", "-c"),
    "bgzf": ("bgzip", "-c"),
    "bzip2": ("bzip2", "-c"),
    "pbzip2": ("pbzip2", "-c", "-p2", "-b1"),
    "xz": ("xz", "-1", "-c", "-T1"),
    "xz-blocks": ("xz", "-1", "-c", "-T2", "--block-size=1MiB"),
    "lzma": ("xz", "-1", "-c", "--format=lzma"),
    "zstd": ("zstd", "-q", "-c"),
    "zstdmt": ("zstd", "-q", "-c", "-T2"),
    "zstd-long": ("zstd", "-q", "-c", "--long=24"),
    "pzstd": ("pzstd", "-q", "-c", "-p", "2"),
    "lz4": ("lz4", "-q", "-c"),
    "lz4-linked": ("lz4", "-q", "-c", "-BD", "-B4"),
}

CODECS = {
    "gzip": "gzip", "pigz": "gzip", "bgzf": "gzip", "bzip2": "bzip2", "pbzip2": "bzip2",
    "xz": "xz", "xz-blocks": "xz", "lzma": "lzma", "zstd": "zstd", "zstdmt": "zstd",
    "zstd-long": "zstd", "pzstd": "zstd", "lz4": "lz4", "lz4-linked": "lz4",
}  # fmt: skip
"""What imgcat calls what each of them writes."""


def pack(packer: str, source: Path, target: Path) -> Path:
    """Compress a file and return the other."""
    with source.open("rb") as plain, target.open("wb") as packed:
        subprocess.run(PACKERS[packer], stdin=plain, stdout=packed, check=True)
    return target


def split(path: Path, letters: int, size: int) -> list[Path]:
    """Cut a file into chunks as Clonezilla does, delete it, and return them in order."""
    subprocess.run(["split", "-a", str(letters), "-b", str(size), path, f"{path}."], check=True)
    path.unlink()
    return sorted(path.parent.glob(f"{path.name}.*"))
