"""Which format a source is: the only place that knows them all."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from . import raw, splits
from .containers import codec as codecs
from .errors import CorruptImageError, FormatError, NotThisFormatError, UnsupportedFeatureError
from .ntfsclone import layout as ntfsclone_layout
from .ntfsclone import reader as ntfsclone
from .partclone import layout as partclone_layout
from .partclone import reader as partclone
from .partimage import layout as partimage_layout
from .partimage import reader as partimage
from .partimage.volumes import first_volume, volume_paths
from .passing import Passed, Passing
from .reader import IndexKind
from .stored import StoredFiles
from .unpacking import plain_head, scan_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .index.ranges import RangeIndexLike
    from .index.rank import RankIndexLike
    from .reader import ImageReader, Progress, Scan
    from .source import ByteSource
    from .stored_index import StoredIndex


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

_MAGICS = {
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


def open_files(path: str) -> StoredFiles:
    """Open the image in a file, and its other chunks or volumes where it has some.

    Raises:
        FormatError: a chunk or volume is missing, or belongs to another image.
        OSError: a file cannot be opened.
    """
    head, codec = _look_into(path)
    header_size = partimage_layout.VOLUME_HEADER_SIZE
    chunks = [path]
    if not head.startswith(partimage_layout.MAGIC) or _is_split(path):
        chunks = splits.chunk_paths(path, _begins_an_image)
        splits.check_sizes(chunks)
        head, codec = _look_into(*chunks)
        if not head.startswith(partimage_layout.MAGIC):
            return StoredFiles(chunks, codec=codec)
        if len(chunks) > 1:
            return StoredFiles(chunks, header_size, stream_volumes=[len(chunks)], codec=codec)
    volumes = volume_paths(path, lambda name: _look_into(name)[0])
    return StoredFiles(volumes, header_size, codec=codec)


def _is_split(path: str) -> bool:
    """Tell whether a volume was cut into chunks: no other one begins with a header of its own."""
    others = [each for each in splits.run_of(path) if each != path]
    return bool(others) and not any(_begins_an_image(each) for each in others)


def first_file(path: str) -> str:
    """Return the first file of the image of which `path` is a later one, else `path`."""
    return first_volume(splits.first_chunk(path), lambda name: _look_into(name)[0])


def begins_an_image(path: str) -> bool:
    """Tell whether a file begins like an image, compressed or not. A few reads.

    Raises:
        OSError: it cannot be read.
    """
    head, _codec = _look_into(path)
    return any(head.startswith(magic) for magic in _MAGICS.values())


def _begins_an_image(path: str) -> bool:
    try:
        return _look_into(path)[1] is not None or begins_an_image(path)
    except OSError:
        return False


def _look_into(*paths: str) -> tuple[bytes, str | None]:
    """Return the first plain bytes of an image's files, as far as can be had, and the codec."""
    with StoredFiles(paths) as stored:
        codec = codecs.sniff(stored.source)
        if codec is None:
            size = partimage_layout.VOLUME_HEADER_SIZE
            return stored.source.read_at(0, min(stored.source.size, size)), None
        try:
            return plain_head(stored.source, codec, partimage_layout.VOLUME_HEADER_SIZE), codec
        except FormatError:
            # What is wrong with it is said by the scan.
            return b"", codec


def sniff(source: ByteSource) -> str | None:
    """Return the name of the format that `source` begins like, or None. Reads 64 bytes."""
    head = source.read_at(0, min(source.size, _PROBE_SIZE))
    return next((name for name, magic in _MAGICS.items() if head.startswith(magic)), None)


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


def scan_files(
    stored: StoredFiles,
    progress: Progress | None = None,
    *,
    spacing: int | None = None,
    is_raw: bool = False,
    verify: bool = False,
) -> Scan:
    """Scan the image that `open_files` has opened, decompressing it once where it is compressed.

    Args:
        stored: the files; their `source` is the plain image afterwards.
        progress: told the stored bytes that are done.
        spacing: plain bytes between two seek points; the codec's own choice if None.
        is_raw: take it for the partition's bytes as they are, whatever it begins like.
        verify: look at the checksums too, where that needs no pass of its own.

    Raises:
        As `scan`.
    """
    passed = Passed()
    if stored.codec is not None:
        passed = _scan_streams(stored, progress, spacing=spacing, is_raw=is_raw, verify=verify)
        progress = None
    damage = "; ".join(index.damage for index in stored.indexes if index.damage)
    try:
        found = passed.scan or _scan_plain_files(stored, progress, is_raw=is_raw)
    except FormatError as error:
        if not damage:
            raise
        raise CorruptImageError(
            error.structure, error.offset, f"{error.detail}; {damage}"
        ) from error
    info = found.info
    if damage:
        info = dataclasses.replace(
            info, damage=f"{info.damage}; {damage}" if info.damage else damage
        )
    if passed.scan is not None:
        info = dataclasses.replace(info, fingerprint=ntfsclone.fingerprint(stored.source))
    is_right = verify and stored.codec is not None and passed.is_right and info.damage is None
    return dataclasses.replace(found, info=info, is_right=is_right)


def _scan_streams(
    stored: StoredFiles,
    progress: Progress | None,
    *,
    spacing: int | None,
    is_raw: bool,
    verify: bool,
) -> Passed:
    """Decode the streams once; return what could be seen of the image in passing."""
    if is_raw or len(stored.streams) > 1:
        scan_plain(stored, spacing=spacing, progress=progress)
        # Of raw bytes there is nothing to know but that they can be decoded.
        return Passed(is_right=is_raw)
    passing = Passing(verify=verify)
    try:
        scan_plain(stored, taker=passing, spacing=spacing, progress=progress)
    finally:
        passed = passing.finish()
    is_damaged = any(index.damage is not None for index in stored.indexes)
    return Passed() if is_damaged else passed


def _scan_plain_files(stored: StoredFiles, progress: Progress | None, *, is_raw: bool) -> Scan:
    if is_raw:
        return raw.scan(stored.source)
    if stored.volume_header_size:
        return partimage.scan(stored.source, progress)
    try:
        return scan(stored.source, progress)
    except NotThisFormatError as error:
        if stored.codec is not None and codecs.sniff(stored.source) is not None:
            raise UnsupportedFeatureError(
                "container", 0, f"compressed twice: unpack the outer {stored.codec} first"
            ) from error
        raise


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
