"""The real partclone images of ``fixtures/partclone``, unpacked, with what is known of them."""

from __future__ import annotations

import dataclasses
import json
import lzma
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent.parent / "fixtures" / "partclone"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One image, and what ``manifest.json`` says of it.

    Attributes:
        path: the unpacked image.
        partclone: the release that wrote it.
        format_version: ``0001`` or ``0002``.
        checksum: ``NONE``, ``CRC32``, ``XXH64``, ``XXH128`` or ``CRC32_0001``.
        blocks_per_checksum: stored blocks that share a checksum, 0 where there is none.
        reseed: False where each checksum goes on from the one before.
        image_sha256: of the unpacked image.
        image_bytes: length of the unpacked image.
        volume_bytes: length of the volume that it was made of.
        block_size: bytes in a block.
        total_blocks: blocks of the volume.
        used_blocks: blocks that the image stores.
        volume_sha256: of the restored volume, zeros in unused blocks.
    """

    path: Path
    partclone: str
    format_version: str
    checksum: str
    blocks_per_checksum: int
    reseed: bool
    image_sha256: str
    image_bytes: int
    volume_bytes: int
    block_size: int
    total_blocks: int
    used_blocks: int
    volume_sha256: str

    @property
    def name(self) -> str:
        """The file's name without its suffixes, e.g. ``ext4-0.3.47-a1-k1``."""
        return self.path.stem


def names() -> list[str]:
    """Return the names of all samples, sorted, without unpacking anything."""
    return sorted(_name(row) for row in _manifest())


def unpack(directory: Path) -> list[Sample]:
    """Unpack every sample into `directory`, unless it is there already; sorted by name."""
    return [unpack_one(directory, name) for name in names()]


def unpack_one(directory: Path, name: str) -> Sample:
    """Unpack the sample called `name` into `directory`, unless it is there already."""
    row = next(row for row in _manifest() if _name(row) == name)
    path = directory / f"{name}.img"
    if not path.exists():
        path.write_bytes(lzma.decompress((FIXTURES / row["file"]).read_bytes()))
    return Sample(path=path, **{key: value for key, value in row.items() if key != "file"})


def _manifest() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FIXTURES / "manifest.json").read_text("ascii"))
    return rows


def _name(row: dict[str, Any]) -> str:
    return str(row["file"]).removesuffix(".img.xz")
