"""Which format a source is: the only place that knows them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .errors import CorruptImageError, NotThisFormatError, UnsupportedFeatureError
from .index.kind import IndexKind
from .ntfsclone import layout as ntfsclone_layout
from .ntfsclone import reader as ntfsclone
from .partclone import layout as partclone_layout
from .partclone import reader as partclone
from .partimage import layout as partimage_layout
from .partimage import reader as partimage
from .raw import reader as raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .index.ranges import RangeIndexLike
    from .index.rank import RankIndexLike
    from .index.stored import StoredIndex
    from .progress import Progress
    from .reader import ImageReader, Scan
    from .sources.byte_source import ByteSource


class Format(Protocol):
    """The doors of a format's room, as its `reader` module has them."""

    def scan(self, source: ByteSource, progress: Progress | None = None) -> Scan:
        """Read what must be read once."""

    def fingerprint(self, source: ByteSource) -> bytes:
        """Return what tells this image from others."""


class BlockFormat(Format, Protocol):
    """A format whose index is a bitmap."""

    def open_reader(
        self, source: ByteSource, fields: Mapping[str, int], index: RankIndexLike | None
    ) -> ImageReader:
        """Return a reader made from what the scan gave."""


class ClusterFormat(Format, Protocol):
    """A format whose index is a list of cluster ranges."""

    def open_reader(
        self, source: ByteSource, fields: Mapping[str, int], index: RangeIndexLike
    ) -> ImageReader:
        """Return a reader made from what the scan gave."""


_BLOCK_FORMATS: dict[str, BlockFormat] = {
    partclone.NAME: partclone,
    partimage.NAME: partimage,
    raw.NAME: raw,
}

_CLUSTER_FORMATS: dict[str, ClusterFormat] = {ntfsclone.NAME: ntfsclone}

_FORMATS: dict[str, Format] = {**_BLOCK_FORMATS, **_CLUSTER_FORMATS}

MAGICS = {
    partclone.NAME: partclone_layout.MAGIC,
    ntfsclone.NAME: ntfsclone_layout.MAGIC,
    partimage.NAME: partimage_layout.MAGIC,
}

_KNOWN_BUT_UNREAD = {
    b"LZIP": "lzip: unpack it with lzip -d",
    b"LRZI": "lrzip: unpack it with lrunzip",
    b"\x89LZO\x00\r\n\x1a\n": "lzop: unpack it with lzop -d",
    b"QFI\xfb": "a QCOW image: this format is not read yet",
    b"conectix": "a VHD image: this format is not read yet",
}

_PROBE_SIZE = 64


def sniff(source: ByteSource) -> str | None:
    """Return the name of the format that `source` begins like, or None. Reads 64 bytes."""
    head = source.read_at(0, min(source.size, _PROBE_SIZE))
    return next((name for name, magic in MAGICS.items() if head.startswith(magic)), None)


def scan(source: ByteSource, progress: Progress | None = None) -> Scan:
    """Scan `source` by the format that it begins like.

    Args:
        source: the stored bytes.
        progress: told the stored bytes that are done.

    Raises:
        NotThisFormatError: it begins like no format that is known.
        FormatError: as the format's own scan.
        OSError: the operating system could not read.
    """
    name = sniff(source)
    if name == partimage.NAME:
        raise UnsupportedFeatureError("image", 0, "a volume with its header: see `open_files`")
    if name is not None:
        return _FORMATS[name].scan(source, progress)
    if source.size == 0:
        raise NotThisFormatError("image", 0, "the file is empty")
    head = source.read_at(0, min(source.size, _PROBE_SIZE))
    for magic, what in _KNOWN_BUT_UNREAD.items():
        if head.startswith(magic):
            raise UnsupportedFeatureError("image", 0, what)
    raise NotThisFormatError(
        "image", 0, f"no disk image of a known format (it begins with {head[:16].hex(' ')})"
    )


def fingerprint(name: str, source: ByteSource) -> bytes:
    """Return the fingerprint of an image of the format `name`.

    Raises:
        UnsupportedFeatureError: no format has this name.
        FormatError: the image cannot be read any more.
        OSError: the operating system could not read.
    """
    return format_named(name).fingerprint(source)


def open_reader(
    name: str, source: ByteSource, layout: Mapping[str, int], index: StoredIndex
) -> ImageReader:
    """Return a reader over `source`, which is not touched until data is read.

    Args:
        name: the format.
        source: the stored bytes.
        layout: `ImageInfo.layout` of the scan.
        index: the index of the scan, wherever it is.

    Raises:
        UnsupportedFeatureError: no format has this name.
        CorruptImageError: layout or index are not those of such an image.
    """
    format_named(name)
    if (index.kind is IndexKind.RANGES) != (name in _CLUSTER_FORMATS):
        raise CorruptImageError("index", 0, f"of kind {index.kind} for {name}: add it again")
    if index.kind is IndexKind.RANGES:
        return _CLUSTER_FORMATS[name].open_reader(source, layout, index.range_index())
    return _BLOCK_FORMATS[name].open_reader(source, layout, index.rank_index())


def format_named(name: str) -> Format:
    """Return the room of a format: `scan`, `fingerprint` and `open_reader`.

    Raises:
        UnsupportedFeatureError: no format has this name.
    """
    try:
        return _FORMATS[name]
    except KeyError:
        raise UnsupportedFeatureError("image", 0, f"format {name!r} is not known") from None
