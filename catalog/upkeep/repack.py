"""Repacking: an image written anew so that any of it can be read at once."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from typing import TYPE_CHECKING

from ...formats.codecs.zstd.seekable import Packing, write_seekable
from ...formats.errors import CorruptImageError, UnsupportedFeatureError
from ...formats.files.new_file import new_file
from ...formats.raw import reader as raw
from ..adding.put import replace
from ..adding.scan import How, ScannedFile, moved, scan_file, with_header
from ..errors import ImageChangedError
from ..opening.open import open_image
from .targets import check_no_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.progress import Progress
    from ..records import ImageRecord
    from ..store import Catalog


_OF_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclasses.dataclass(frozen=True, slots=True)
class Repacked:
    """An image that was repacked; sizes in bytes.

    Attributes:
        before: its entry when that was done.
        path: the new file.
        stored_now: bytes of the new file.
        scanned: the scan of the new file.
    """

    before: ImageRecord
    path: str
    stored_now: int
    scanned: ScannedFile


def repack(
    catalog: Catalog,
    image_id: int,
    out: str,
    *,
    force: bool = False,
    packing: Packing | None = None,
    progress: Progress | None = None,
) -> Repacked:
    """Write the stream of an image as independent zstd frames, and compare what was written.

    The file gets its name when it is whole, was read back and found to hold the same bytes, and is
    on the disk. The catalog is not told: see `adopt`.

    Args:
        catalog: where the image is.
        image_id: the image.
        out: the new file.
        force: replace a file of that name.
        packing: how to compress.
        progress: told the plain bytes that are done, twice as many as there are in all.

    Raises:
        ImageNotFoundError: there is no such image.
        ImageChangedError: it was changed meanwhile.
        UnsupportedFeatureError: it is made of other images, and has no stream.
        TargetError: the file is there already, or is one of a catalogued image.
        FormatError: the image cannot be read, or what was written is not the same.
        OSError: the operating system could not read or write.
    """
    record = catalog.get(image_id)
    row = record.row
    if record.is_composed:
        raise UnsupportedFeatureError(row.name, 0, "is made of other images: repack those")
    if row.path is None:
        raise UnsupportedFeatureError(row.name, 0, f"is a part of {row.parent}: repack that")
    check_no_image(catalog, out)
    opened = open_image(catalog, image_id, at_any_cost=True)
    try:
        source = opened.stored.whole_stream()
        size = source.size
        with new_file(out, force=force) as fd:
            with _naming_target(out):
                written = write_seekable(source, fd, packing or Packing(), progress=progress)

            def tell(done: int) -> None:
                if progress is not None:
                    progress(size + done * size // max(1, written.stored_size))

            scanned = scan_file(f"/proc/self/fd/{fd}", tell, How(is_raw=row.format == raw.NAME))
            if row.format == raw.NAME:
                # That was not said now, but what was said of it before goes on to be so.
                scanned = with_header(scanned, record.header)
            (stream,) = scanned.streams
            if stream.hashes != written.page_hashes or stream.damage is not None:
                raise CorruptImageError(
                    "repack", 0, f"{out}: what was written does not read as it should: try again"
                )
            if opened.stored.changed_file() is not None:
                raise ImageChangedError(f"{row.name}: was changed while it was repacked")
    finally:
        opened.close()
    return Repacked(record, os.path.abspath(out), written.stored_size, moved(scanned, out))


@contextlib.contextmanager
def _naming_target(out: str) -> Iterator[None]:
    """Let an error that only writing can have name the target; the others are of the image."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_WRITING:
            raise OSError(error.errno, error.strerror or str(error), out) from error
        raise


def adopt(catalog: Catalog, repacked: Repacked) -> ImageRecord:
    """Let the entry of an image be of the repacked file; id, name and verification stay.

    Raises:
        ImageChangedError: the entry was changed meanwhile.
        NameTakenError: another entry is of that file.
        CatalogError: the catalog could not be written; it is then as before.
    """
    record = replace(catalog, repacked.scanned, before=repacked.before)
    catalog.purge()
    return record
