"""Opening catalogued images for reading: by what the catalog keeps of them, without a scan."""

from __future__ import annotations

import dataclasses
import errno
import os
import shlex
from typing import TYPE_CHECKING

from ...formats import registry
from ...formats.codecs import registry as codecs
from ...formats.codecs.decoded_source import DecodedSource
from ...formats.codecs.decoders import Decoding
from ...formats.codecs.seek_points import INDEX_VERSION, SPAN_BUDGET, unpack_hashes
from ...formats.errors import FormatError
from ...formats.files.image_files import StoredFiles
from ...formats.index.cache import IndexCache
from ...formats.index.kind import IndexKind
from ...formats.index.stored import StoredIndex
from ...formats.sources.file import NotAFileError
from ..errors import CatalogError, ImageChangedError, NeedsRepackError
from . import composed as disks
from .freshness import Freshness, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...formats.codecs.seek_points import Span
    from ...formats.image import Image
    from ...formats.reader import ImageReader
    from ..records import OpenSpec, StreamSpec
    from ..store import Catalog


@dataclasses.dataclass(slots=True)
class Shared:
    """What the images share that one program has open.

    Attributes:
        own_device: the device number of the program's own mount; a file in there is not opened, for
            that would be a request to oneself.
        indexes: loaded pieces of indexes.
        decoding: of compressed images, decoded pages and decoders that wait.
    """

    indexes: IndexCache = dataclasses.field(default_factory=IndexCache)
    decoding: Decoding = dataclasses.field(default_factory=Decoding)
    own_device: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class OpenImage:
    """A catalogued image, open.

    Attributes:
        reader: reads the guest bytes.
        stored: its files.
        index: its index.
        spec: what the catalog knows of it.
    """

    reader: ImageReader
    stored: StoredFiles
    index: StoredIndex
    spec: OpenSpec

    def close(self) -> None:
        """Close the files."""
        self.reader.close()
        self.stored.close()

    def has_fingerprint(self) -> bool:
        """Tell whether the files still hold the image that was scanned. Reads samples of it."""
        return _has_fingerprint(self.spec, self.stored)


def open_image(
    catalog: Catalog,
    image_id: int,
    *,
    index_id: int | None = None,
    shared: Shared | None = None,
    at_any_cost: bool = False,
    open_partition: Callable[[int], ImageReader] | None = None,
) -> OpenImage:
    """Open an image; reads nothing of files that are as they were.

    One SQL statement, two where it is compressed.

    Args:
        catalog: where the image is.
        image_id: the image.
        index_id: the index that the caller believes it has; None for whichever.
        shared: what open images share; something of its own if None.
        at_any_cost: also where a read may have to decode all that comes before it.
        open_partition: opens the images that a disk is made of, by id; as this one is if None.

    Raises:
        ImageNotFoundError: it was removed from the catalog.
        ImageChangedError: a file of it is gone, or is not the one that was scanned.
        NeedsRepackError: reading it would mean decoding too much.
        OSError: a file cannot be opened.
    """
    spec = catalog.open_spec(image_id)
    if index_id not in {None, spec.index_id}:
        raise ImageChangedError(f"{spec.name}: was scanned anew: open it again")
    _check_streams(spec, at_any_cost=at_any_cost)
    shared = shared or Shared()
    stored = _open_files(catalog, spec, shared)
    try:
        index = _index_of(catalog, spec, shared.indexes)
        if spec.format == disks.FORMAT:
            reader = disks.open_disk(catalog, spec.path, open_partition or _opener(catalog, shared))
        else:
            reader = registry.open_reader(spec.format, stored.source, spec.layout, index)
    except BaseException:
        stored.close()
        raise
    return OpenImage(reader, stored, index, spec)


def _opener(catalog: Catalog, shared: Shared) -> Callable[[int], ImageReader]:
    return lambda image_id: open_image(catalog, image_id, shared=shared).reader


def open_by_name(catalog: Catalog, token: str) -> Image:
    """Open the image in a catalog that a name, an id or a path names.

    Raises:
        ImageNotFoundError: none does.
        As `open_image`.
    """
    from ...formats.image import Image
    from ...formats.reader import ImageInfo

    image_id = catalog.resolve(token)
    opened = open_image(catalog, image_id)
    record = catalog.get(image_id)
    row = record.row
    info = ImageInfo(
        format=row.format,
        format_version=row.format_version,
        creator=row.creator,
        fs_type=row.fs_type,
        size=row.size_bytes,
        block_size=row.block_size,
        total_blocks=record.total_blocks,
        used_blocks=record.used_blocks,
        used_bytes=row.used_bytes,
        checksum=row.checksum,
        header=record.header,
        layout=opened.spec.layout,
        fingerprint=opened.spec.fingerprint,
        content=row.content,
        damage=row.status_detail,
        warnings=record.warnings,
    )
    return Image(info, opened.reader, opened.index, opened.stored)


def _index_of(catalog: Catalog, spec: OpenSpec, cache: IndexCache) -> StoredIndex:
    try:
        kind = IndexKind(spec.index_kind)
    except ValueError:
        raise CatalogError(
            f"{spec.name}: its index is of the unknown kind {spec.index_kind!r}: add it again"
        ) from None
    return StoredIndex(
        kind,
        spec.index_id,
        spec.total_blocks,
        lambda number: catalog.load_chunk(spec.index_id, number),
        lambda start, stop: catalog.load_ranges(spec.index_id, start, stop),
        cache,
    )


class _CatalogTable:
    """The seek points and page hashes of a stream, from the catalog. See `SeekTable`."""

    def __init__(self, catalog: Catalog, spec: StreamSpec) -> None:
        self._catalog = catalog
        self._spec = spec

    @property
    def plain_size(self) -> int:
        """Bytes in the plain stream."""
        return self._spec.plain_bytes

    def span_at(self, plain_offset: int) -> Span:
        """Return the span that a plain offset lies in."""
        return self._catalog.load_span(self._spec.id, plain_offset, self._spec.plain_bytes)

    def hashes(self, group: int) -> bytes:
        """Return the hashes of a group of pages."""
        return unpack_hashes(self._catalog.load_hashes(self._spec.id, group))


def _check_streams(spec: OpenSpec, *, at_any_cost: bool) -> None:
    for stream in spec.streams:
        if stream.index_version != INDEX_VERSION:
            raise ImageChangedError(
                f"{spec.name}: its seek points were made by another version of imgcat: "
                f"`imgcat rescan {shlex.quote(spec.name)}` makes them anew"
            )
        if stream.span_bytes > SPAN_BUDGET and not at_any_cost:
            raise NeedsRepackError(
                f"{spec.name}: its {stream.codec} stream has no seek points: "
                f"`imgcat repack {shlex.quote(spec.name)} OUT` makes one that can be read"
            )


def _open_files(catalog: Catalog, spec: OpenSpec, shared: Shared) -> StoredFiles:
    paths = [volume.path for volume in spec.volumes]
    try:
        for path in paths:
            if shared.own_device is not None and os.stat(path).st_dev == shared.own_device:
                raise ImageChangedError(f"{path}: lies inside of this mount itself")
        stored = StoredFiles(
            paths,
            spec.layout.get("volume_header_size", 0),
            stream_volumes=[stream.volume_count for stream in spec.streams] or None,
        )
        stored.use_plain(
            [
                DecodedSource(
                    source,
                    codecs.named(each.codec),
                    _CatalogTable(catalog, each),
                    each.id,
                    shared.decoding,
                )
                for source, each in zip(stored.streams, spec.streams, strict=False)
            ]
        )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotAFileError) as error:
        raise ImageChangedError(f"{error.filename or paths[0]}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ImageChangedError(f"{error.filename}: {error.strerror}") from error
        raise
    if not _are_the_scanned_files(spec, stored):
        stored.close()
        raise ImageChangedError(
            f"{paths[0]}: is not the file that was scanned: "
            f"`imgcat rescan {shlex.quote(spec.name)}` mends the entry"
        )
    return stored


def _are_the_scanned_files(spec: OpenSpec, stored: StoredFiles) -> bool:
    states = {
        compare(volume, file.stat, file.size)
        for volume, file in zip(spec.volumes, stored.files, strict=True)
    }
    if states <= {Freshness.FRESH}:
        return True
    return states <= {Freshness.FRESH, Freshness.TOUCHED} and _has_fingerprint(spec, stored)


def _has_fingerprint(spec: OpenSpec, stored: StoredFiles) -> bool:
    try:
        if spec.format == disks.FORMAT:
            return disks.fingerprint(spec.path) == spec.fingerprint
        return registry.fingerprint(spec.format, stored.source) == spec.fingerprint
    except FormatError:
        return False
