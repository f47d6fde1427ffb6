"""Which format a source is: the only place that knows them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .errors import NotThisFormatError, UnsupportedFeatureError
from .partclone import layout as partclone_layout
from .partclone import reader as partclone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .index.rank import RankIndexLike
    from .reader import ImageReader, Scan
    from .source import ByteSource


class Format(Protocol):
    """The doors of a format's room, as its `reader` module has them."""

    def scan(self, source: ByteSource) -> Scan:
        """Read what must be read once."""

    def fingerprint(self, source: ByteSource) -> bytes:
        """Return what tells this image from others."""

    def open_reader(
        self, source: ByteSource, fields: Mapping[str, int], index: RankIndexLike | None
    ) -> ImageReader:
        """Return a reader made from what the scan gave."""


_FORMATS: dict[str, Format] = {partclone.NAME: partclone}

_MAGICS = {partclone.NAME: partclone_layout.MAGIC}

_KNOWN_BUT_UNREAD = {
    b"\x1f\x8b\x08": "gzip: unpack it with gunzip",
    b"BZh": "bzip2: unpack it with bunzip2",
    b"\xfd7zXZ\x00": "xz: unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it with unzstd",
    b"\x04\x22\x4d\x18": "lz4: unpack it with unlz4",
    b"LZIP": "lzip: unpack it with lzip -d",
    b"LRZI": "lrzip: unpack it with lrunzip",
    b"\x89LZO\x00\r\n\x1a\n": "lzop: unpack it with lzop -d",
    b"PaRtImAgE-VoLuMe": "a partimage image",
    b"\x00ntfsclone-image": "an ntfsclone image",
    b"QFI\xfb": "a QCOW image",
    b"conectix": "a VHD image",
}

_PROBE_SIZE = 64


def sniff(source: ByteSource) -> str | None:
    """Return the name of the format that `source` begins like, or None. Reads 64 bytes."""
    head = source.read_at(0, min(source.size, _PROBE_SIZE))
    return next((name for name, magic in _MAGICS.items() if head.startswith(magic)), None)


def scan(source: ByteSource) -> Scan:
    """Scan `source` by the format that it begins like.

    Raises:
        NotThisFormatError: it begins like no format that is known.
        FormatError: as the format's own scan.
        OSError: the operating system could not read.
    """
    name = sniff(source)
    if name is not None:
        return _FORMATS[name].scan(source)
    if source.size == 0:
        raise NotThisFormatError("image", 0, "the file is empty")
    head = source.read_at(0, min(source.size, _PROBE_SIZE))
    for magic, what in _KNOWN_BUT_UNREAD.items():
        if head.startswith(magic):
            raise UnsupportedFeatureError("image", 0, f"{what}; only partclone is read so far")
    raise NotThisFormatError(
        "image", 0, f"not a partclone image (it begins with {head[:16].hex(' ')})"
    )


def format_named(name: str) -> Format:
    """Return the room of a format: `scan`, `fingerprint` and `open_reader`.

    Raises:
        UnsupportedFeatureError: no format has this name.
    """
    try:
        return _FORMATS[name]
    except KeyError:
        raise UnsupportedFeatureError("image", 0, f"format {name!r} is not known") from None
