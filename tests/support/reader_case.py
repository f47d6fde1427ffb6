"""What the contract of readers is tested on: a named way to open one, and what it must give."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imgcat.formats.reader import ImageInfo, ImageReader
    from imgcat.formats.sources.byte_source import ByteSource


@dataclasses.dataclass(frozen=True)
class Subject:
    """An open reader, and what it must give.

    Attributes:
        reader: the reader.
        info: what the scan said of the image.
        source: the stored bytes that the reader reads.
        guest: the guest bytes, where they are known without the reader.
        guest_sha256: of the guest bytes, where they are not.
        never_waits: the source is memory, so reading without waiting must succeed once the
            index is loaded.
    """

    reader: ImageReader
    info: ImageInfo
    source: ByteSource
    guest: bytes | None
    guest_sha256: str | None
    never_waits: bool


@dataclasses.dataclass(frozen=True)
class ReaderCase:
    """A named way to open one image; `open` may write into the directory that it is given."""

    name: str
    open: Callable[[Path], Subject]
