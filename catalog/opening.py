"""Opening catalogued images for reading: by what the catalog keeps of them, without a scan."""

from __future__ import annotations

import dataclasses
import errno
import os
from typing import TYPE_CHECKING

from ..formats import probe
from ..formats.errors import FormatError
from ..formats.index.cache import IndexCache
from ..formats.index.stored import StoredIndex
from ..formats.reader import IndexKind
from ..formats.source import NotAFileError
from ..formats.stored import StoredFiles
from .errors import CatalogError, ImageChangedError
from .freshness import Freshness, compare

if TYPE_CHECKING:
    from ..formats.image import Image
    from ..formats.reader import ImageReader
    from .records import OpenSpec
    from .store import Catalog


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
        self.stored.close()

    def has_fingerprint(self) -> bool:
        """Tell whether the files still hold the image that was scanned. Reads samples of it."""
        return _has_fingerprint(self.spec, self.stored)


def open_image(
    catalog: Catalog,
    image_id: int,
    *,
    index_id: int | None = None,
    cache: IndexCache | None = None,
    own_device: int | None = None,
) -> OpenImage:
    """Open an image. One SQL statement; reads nothing of files that are as they were.

    Args:
        catalog: where the image is.
        image_id: the image.
        index_id: the index that the caller believes it has; None for whichever.
        cache: where loaded pieces of indexes are kept; one of its own if None.
        own_device: the device number of the caller's own mount; a file in there is not opened, for
            that would be a request to oneself.

    Raises:
        ImageNotFoundError: it was removed from the catalog.
        ImageChangedError: a file of it is gone, or is not the one that was scanned.
        OSError: a file cannot be opened.
    """
    spec = catalog.open_spec(image_id)
    if index_id not in {None, spec.index_id}:
        raise ImageChangedError(f"{spec.name}: was scanned anew: open it again")
    stored = _open_files(spec, own_device)
    try:
        index = _index_of(catalog, spec, cache)
        reader = probe.open_reader(spec.format, stored.source, spec.layout, index)
    except BaseException:
        stored.close()
        raise
    return OpenImage(reader, stored, index, spec)


def open_by_name(catalog: Catalog, token: str) -> Image:
    """Open the image in a catalog that a name, an id or a path names.

    Raises:
        ImageNotFoundError: none does.
        As `open_image`.
    """
    from ..formats.image import Image
    from ..formats.reader import ImageInfo

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


def _index_of(catalog: Catalog, spec: OpenSpec, cache: IndexCache | None) -> StoredIndex:
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
        IndexCache() if cache is None else cache,
    )


def _open_files(spec: OpenSpec, own_device: int | None) -> StoredFiles:
    paths = [volume.path for volume in spec.volumes]
    try:
        for path in paths:
            if own_device is not None and os.stat(path).st_dev == own_device:
                raise ImageChangedError(f"{path}: lies inside of this mount itself")
        stored = StoredFiles(paths, spec.layout.get("volume_header_size", 0))
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
            f"`imgcat rescan {spec.name}` mends the entry"
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
        return probe.fingerprint(spec.format, stored.source) == spec.fingerprint
    except FormatError:
        return False
