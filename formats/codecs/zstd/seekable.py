"""Writing a stream as independent zstd frames with a seek table at its end.

Source: the zstd seekable format, version 0.1.0. Plain ``zstd -d`` reads it: the table is in a frame
that decoders pass over.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import xxhash
import zstandard

from ...ordered_map import in_order
from ..scan import PageHasher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource

FRAME_SIZE = 2 << 20
"""Plain bytes in a frame: what a cold read decodes at the most."""

LEVEL = 3

_TABLE_MAGIC = 0x184D2A5E
_FOOTER_MAGIC = 0x8F92EAB1
_HAS_CHECKSUMS = 0x80
_ENTRY = struct.Struct("<III")
_HEADER = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")


@dataclasses.dataclass(frozen=True, slots=True)
class Packing:
    """How to compress.

    Attributes:
        level: as zstd has it.
        jobs: threads; as many as there are processors if None.
    """

    level: int = LEVEL
    jobs: int | None = None


class _Frame(NamedTuple):
    data: bytes
    plain: bytes
    checksum: int


class Written(NamedTuple):
    """What was written: sizes in bytes, and the hashes of the plain pages."""

    plain_size: int
    stored_size: int
    page_hashes: bytes


def write_seekable(
    source: ByteSource,
    fd: int,
    packing: Packing,
    *,
    progress: Progress | None = None,
) -> Written:
    """Write the bytes of `source` to an open file, compressing on several cores.

    Args:
        source: the plain bytes.
        fd: the file, at its beginning.
        packing: how to compress.
        progress: told the plain bytes that are done.

    Raises:
        FormatError: the source cannot give its bytes.
        OSError: the operating system could not read or write.
    """
    hasher = PageHasher()
    entries = []
    stored = 0

    def compress(piece: bytes) -> _Frame:
        compressor = zstandard.ZstdCompressor(
            level=packing.level, write_checksum=True, write_content_size=True
        )
        checksum = xxhash.xxh64_intdigest(piece) & 0xFFFFFFFF
        return _Frame(compressor.compress(piece), piece, checksum)

    for frame in in_order(compress, _pieces(source), jobs=packing.jobs):
        hasher.take(frame.plain)
        entries.append(_ENTRY.pack(len(frame.data), len(frame.plain), frame.checksum))
        stored += _write(fd, frame.data)
        if progress is not None:
            progress(hasher.size)
    table = b"".join(entries) + _FOOTER.pack(len(entries), _HAS_CHECKSUMS, _FOOTER_MAGIC)
    stored += _write(fd, _HEADER.pack(_TABLE_MAGIC, len(table)) + table)
    return Written(hasher.size, stored, hasher.finish())


def _pieces(source: ByteSource) -> Iterator[bytes]:
    # An empty stream is one frame with nothing in it.
    for offset in range(0, max(1, source.size), FRAME_SIZE):
        yield source.read_at(offset, min(FRAME_SIZE, source.size - offset))


def _write(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)
