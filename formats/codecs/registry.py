"""Which codec a stream is of: each is listed here, once.

The modules are imported when a stream of theirs is met: some load large libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

from ..errors import UnsupportedFeatureError
from . import skippable_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..progress import Progress
    from ..sources.byte_source import ByteSource
    from .seek_points import ScanMarks, SeekPoint


class Codec(Protocol):
    """What the module of a codec has."""

    NAME: str
    LIBRARY: str

    def scan(
        self,
        stored: ByteSource,
        marks: ScanMarks,
        *,
        spacing: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[bytes]:
        """Decode the whole stream, yield the plain pieces, and note seek points and checksums.

        `marks` is complete when the last piece was taken, or an error was raised.

        Args:
            stored: the compressed stream.
            marks: takes the points, and how far checksums vouch for what came out.
            spacing: plain bytes between two points at the least; the codec's own choice if None.
            progress: told the stored bytes that are done.

        Raises:
            FormatError: the stream is damaged or cut off, or cannot be decoded.
            OSError: the operating system could not read.
        """

    def weight(self, stored: ByteSource, point: SeekPoint) -> int:
        """Return the bytes that a decoder takes that begins at a seek point, about.

        With its window or dictionary, and what it has decoded and nobody has taken.

        Raises:
            As `decode`.
        """

    def decode(self, stored: ByteSource, point: SeekPoint) -> Iterator[bytes]:
        """Yield the plain pieces from a seek point on, up to the end of the stream.

        Raises:
            FormatError: the stream or the point is damaged.
            OSError: the operating system could not read.
        """


_MODULES = {
    "gzip": "gzip.codec",
    "bzip2": "bzip2.codec",
    "xz": "xz.codec",
    "lzma": "xz.lzma_alone",
    "zstd": "zstd.codec",
    "lz4": "lz4.codec",
}

_MAGICS = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x02\x21\x4c\x18": "lz4",
}

_MOST_SKIPPED = 64
_LZMA_HEADER = 13
_PROBE_SIZE = 16


def sniff(source: ByteSource) -> str | None:
    """Return the name of the codec that `source` begins like, or None. Reads a few bytes."""
    offset = 0
    for _ in range(_MOST_SKIPPED):
        head = source.read_at(offset, min(source.size - offset, _PROBE_SIZE))
        if head[:4] not in skippable_frames.MAGICS:
            break
        offset += skippable_frames.HEADER_SIZE + skippable_frames.content_size(head)
        if offset > source.size:
            return None
    found = next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)
    if offset and found not in {"zstd", "lz4"}:
        return None
    return "lzma" if found is None and _looks_like_lzma(head) else found


def _looks_like_lzma(head: bytes) -> bool:
    """Tell whether a file that begins so can be an lzma stream, of which there is no real magic.

    Every known writer sets lc=3 lp=0 pb=2, and a dictionary of 2^n or 2^n + 2^(n-1) bytes; the size
    is not given, or taken for one below 256 GiB.
    """
    if len(head) < _LZMA_HEADER or head[0] != 0x5D:  # noqa: PLR2004 - (2 * 5 + 0) * 9 + 3
        return False
    dictionary = int.from_bytes(head[1:5], "little")
    size = int.from_bytes(head[5:13], "little")
    top = dictionary.bit_length()
    is_usual = top > 12 and dictionary in {1 << (top - 1), 3 << (top - 2)}  # noqa: PLR2004
    return (is_usual or dictionary == 0xFFFFFFFF) and (  # noqa: PLR2004
        size == (1 << 64) - 1 or size < 1 << 38
    )


def named(name: str) -> Codec:
    """Return the codec of this name.

    Raises:
        UnsupportedFeatureError: there is none.
    """
    try:
        module = _MODULES[name]
    except KeyError:
        raise UnsupportedFeatureError("container", 0, f"codec {name!r} is not known") from None
    return cast("Codec", importlib.import_module(f".{module}", __package__))
