"""The files of a catalogued image, open: what decodes them, and what compares them with hashes."""

from __future__ import annotations

import collections
import contextlib
import errno
import functools
import os
import shlex
from typing import TYPE_CHECKING

from ...formats import registry
from ...formats.codecs import registry as codecs
from ...formats.codecs.decoded_source import DecodedSource, Page
from ...formats.codecs.seek_points import INDEX_VERSION, SPAN_BUDGET
from ...formats.errors import FormatError
from ...formats.files.image_files import StoredFiles
from ...formats.index.rank_chunk import ChunkMissingError
from ...formats.sources.distrusted import every_byte
from ...formats.sources.file import NotAFileError
from ...formats.sources.pages import unpack_hashes
from ...formats.sources.sealed import SealedSource
from ..errors import CatalogError, ImageChangedError, NeedsRepackError
from .freshness import Freshness, compare
from .identity import index_survives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.codecs.seek_points import Span
    from ..records import OpenSpec, StreamSpec
    from ..store import Catalog
    from .shared import Shared

_MOST_STREAMS = 1 << 16
"""What a content key is multiplied by, so that each stream of an image has a key of its own."""


class _CatalogTable:
    """The seek points and page hashes of a stream, from the catalog. See `SeekTable`."""

    def __init__(self, catalog: Catalog, spec: StreamSpec, content_key: int) -> None:
        self._catalog = catalog
        self._spec = spec
        self._key = content_key

    @property
    def plain_size(self) -> int:
        """Bytes in the plain stream."""
        return self._spec.plain_bytes

    @property
    def trusted_size(self) -> int:
        """Plain bytes that can be relied on."""
        return self._spec.trusted_bytes

    def span_at(self, plain_offset: int) -> Span:
        """Return the span that a plain offset lies in."""
        with _as_missing():
            return self._catalog.load_span(
                self._spec.id, plain_offset, self._spec.plain_bytes, content_key=self._key
            )

    def hashes(self, group: int) -> bytes:
        """Return the hashes of a group of pages."""
        with _as_missing():
            stored = self._catalog.load_hashes(self._spec.id, group, content_key=self._key)
        return unpack_hashes(stored)


@contextlib.contextmanager
def _as_missing() -> Iterator[None]:
    """Say what decoders understand, where the catalog cannot give a piece of an index."""
    try:
        yield
    except CatalogError as error:
        raise ChunkMissingError(str(error)) from error


def sealed_source(
    catalog: Catalog, spec: OpenSpec, stored: StoredFiles, shared: Shared
) -> SealedSource | None:
    """Return what compares the stored bytes with their hashes, if there are any to compare with."""
    if not spec.is_sealed or spec.streams or not shared.compare:
        return None

    def loaded(group: int) -> bytes | None:
        page = shared.indexes.get((spec.content_key, -1 - group))
        return None if page is None else page.data

    def load(group: int) -> bytes:
        hashes = loaded(group)
        if hashes is None:
            stored_hashes = catalog.load_seal(spec.index_id, group, content_key=spec.content_key)
            hashes = unpack_hashes(stored_hashes)
            shared.indexes.put((spec.content_key, -1 - group), Page(hashes))
        return hashes

    tell = None if shared.on_broken is None else functools.partial(shared.on_broken, spec)
    return SealedSource(stored.source, load, loaded, tell)


def check_streams(spec: OpenSpec, *, at_any_cost: bool) -> None:
    """Check that the seek points of an image can be used.

    Raises:
        ImageChangedError: another version of imgcat has made them.
        NeedsRepackError: reading by them may mean decoding too much, unless that is wanted.
    """
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


def open_files(catalog: Catalog, spec: OpenSpec, shared: Shared) -> StoredFiles:
    """Open the files of an image, if they are the ones that were scanned.

    Raises:
        ImageChangedError: one is gone, or is another one.
        OSError: one cannot be opened.
    """
    paths = [volume.path for volume in spec.volumes]
    try:
        for path in paths:
            if shared.own_device is not None and os.stat(path).st_dev == shared.own_device:
                raise ImageChangedError(f"{path}: lies inside of this mount itself")
        counts = collections.Counter(volume.stream for volume in spec.volumes)
        stored = StoredFiles(
            paths,
            registry.named(spec.format).volume_header_size,
            stream_volumes=[counts[number] for number in sorted(counts)],
        )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotAFileError) as error:
        raise ImageChangedError(f"{error.filename or paths[0]}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ImageChangedError(f"{error.filename}: {error.strerror}") from error
        raise
    try:
        stored.use_plain(
            [
                DecodedSource(
                    source,
                    codecs.named(each.codec),
                    _CatalogTable(catalog, each, spec.content_key),
                    spec.content_key * _MOST_STREAMS + number,
                    shared.decoding,
                )
                for number, (source, each) in enumerate(
                    zip(stored.streams, spec.streams, strict=False)
                )
            ]
        )
        are_the_scanned = _are_the_scanned_files(spec, stored)
    except BaseException:
        stored.close()
        raise
    if not are_the_scanned:
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
    return states <= {Freshness.FRESH, Freshness.TOUCHED} and may_be_touched(spec, stored)


def may_be_touched(spec: OpenSpec, stored: StoredFiles) -> bool:
    """Tell whether files whose times are others may still be the image. Reads samples of them."""
    is_sealed = spec.is_sealed
    return index_survives(spec.format, is_sealed=is_sealed) and has_fingerprint(spec, stored)


def has_fingerprint(spec: OpenSpec, stored: StoredFiles) -> bool:
    """Tell whether files have the fingerprint of the scan. Reads samples of them."""
    try:
        return registry.fingerprint(spec.format, every_byte(stored.source)) == spec.fingerprint
    except FormatError:
        return False
