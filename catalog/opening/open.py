"""Opening catalogued images for reading: by what the catalog keeps of them, without a scan."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import stat
from typing import TYPE_CHECKING, NamedTuple

from ...formats import registry
from ...formats.files.image_files import StoredFiles
from ...formats.index.kind import IndexKind
from ...formats.index.stored import StoredIndex
from ...formats.sources.distrusted import every_byte
from ...formats.sources.file import state_of
from ..errors import (
    CatalogError,
    ImageChangedError,
    ImageNotFoundError,
    ScannedAnewError,
)
from .composed import open_composed
from .freshness import Freshness, freshness, identities_of
from .shared import Shared
from .stored_files import (
    check_streams,
    has_fingerprint,
    may_be_touched,
    open_files,
    sealed_source,
)
from .watched import WatchedReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...formats.image import Image
    from ...formats.reader import ImageReader
    from ...formats.sources.sealed import SealedSource
    from ..records import ImageRecord, OpenSpec
    from ..store import Catalog
    from .permissions import FileIdentity


class _How(NamedTuple):
    """What is opened and given beyond the usual; see `open_image`. Goes for what is below too.

    Attributes:
        only: the files that may be opened, where only some may.
    """

    at_any_cost: bool
    with_distrusted: bool
    only: frozenset[FileIdentity] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class OpenImage:
    """A catalogued image, open.

    Attributes:
        reader: reads the guest bytes.
        stored: its files; none of an image that is made of others.
        index: its index.
        spec: what the catalog knows of it.
        was_touched: a file, of it or of an image that it is made of, has other times than when it
            was scanned.
        identities: its files; of an image that is made of others, the files of those that were
            there when it was opened: no others are read.
        sealed: what compares its pages with their hashes; None where nothing does, or that is done
            by what decompresses it.
        parent: what it is a difference to, open too; it is closed with the reader.
        unpin: lets its index be deleted once no image uses it.
    """

    reader: ImageReader
    stored: StoredFiles
    index: StoredIndex
    spec: OpenSpec
    was_touched: bool
    identities: frozenset[FileIdentity]
    sealed: SealedSource | None = None
    parent: WatchedReader | None = None
    unpin: Callable[[], None] = lambda: None

    @property
    def is_composed(self) -> bool:
        """Whether it has no bytes of its own, but is made of other images."""
        return self.index.kind is IndexKind.SEGMENTS

    def file_states(self) -> list[os.stat_result]:
        """Return what `stat` tells of each of its files; of those below it that are there."""
        if not self.is_composed:
            return [file.stat for file in self.stored.files]
        states = []
        for volume in self.spec.volumes:
            with contextlib.suppress(OSError):
                states.append(os.stat(volume.path))
        return states

    def close(self) -> None:
        """Close the files. Closing twice is harmless."""
        self.reader.close()
        self.stored.close()
        self.unpin()

    def has_fingerprint(self) -> bool:
        """Tell whether the files have the fingerprint of the scan. Reads samples of them."""
        return has_fingerprint(self.spec, self.stored)

    def survives_touch(self) -> bool:
        """Tell whether files that were touched still are the image. Reads samples of them.

        If so, pages of a sealed image are compared with their hashes again when they are read.
        """
        if self.sealed is not None:
            self.sealed.forget()
        return may_be_touched(self.spec, self.stored)


def open_image(
    catalog: Catalog,
    image_id: int,
    *,
    content_key: int | None = None,
    shared: Shared | None = None,
    at_any_cost: bool = False,
    with_distrusted: bool = False,
) -> OpenImage:
    """Open an image; reads nothing of files that are as they were.

    Its index is kept until it is closed, even if it is removed from the catalog or scanned anew.
    One SQL statement; two where it is compressed, three where it is made of others; of a
    difference or a snapshot one more, and those of what it stands upon.

    Args:
        catalog: where the image is.
        image_id: the image.
        content_key: what the caller believes that it holds; None for whatever it does.
        shared: what open images share; something of its own if None.
        at_any_cost: also where a read may have to decode all that comes before it.
        with_distrusted: give also bytes of a damaged stream that no checksum vouches for.

    Raises:
        ImageNotFoundError: it was removed from the catalog.
        ScannedAnewError: it is not what the caller believes.
        ImageChangedError: a file of it is gone, or is not the one that was scanned.
        NeedsRepackError: reading it would mean decoding too much.
        OSError: a file cannot be opened.
    """
    how = _How(at_any_cost=at_any_cost, with_distrusted=with_distrusted)
    # Before its row is read: an index may go as soon as no image has it.
    unpin = catalog.pins.take()
    try:
        image = _open(catalog, image_id, content_key, shared or Shared(), how)
    except BaseException:
        unpin()
        raise
    return dataclasses.replace(image, unpin=unpin)


def _open(
    catalog: Catalog,
    image_id: int,
    content_key: int | None,
    shared: Shared,
    how: _How,
    above: tuple[int, ...] = (),
) -> OpenImage:
    """Open an image that those `above` are made of."""
    if image_id in above:
        # A catalog refuses to write that; something else has.
        raise CatalogError(f"image {image_id}: is made of itself: add it again")
    spec = catalog.open_spec(image_id)
    if content_key not in {None, spec.content_key}:
        raise ScannedAnewError(f"{spec.name}: was scanned anew: open it again")
    if spec.index_kind == IndexKind.SEGMENTS:
        index = _index_of(catalog, spec, shared)
        composed = _open_composed(catalog, spec, index, shared, how, (*above, image_id))
        _check_same(spec, composed.identities, how.only)
        return composed
    # Of a snapshot, the files are those of the image that it is one of.
    holder = _holder_of(catalog, spec)
    check_streams(holder, at_any_cost=how.at_any_cost)
    parent = _open_parent(catalog, spec, holder, shared, how, (*above, image_id))
    try:
        return _open_stored(catalog, spec, holder, shared, how, parent)
    except BaseException:
        if parent is not None:
            parent.close()
        raise


def _open_stored(
    catalog: Catalog,
    spec: OpenSpec,
    holder: OpenSpec,
    shared: Shared,
    how: _How,
    parent: WatchedReader | None,
) -> OpenImage:
    """Open the files that hold an image; `parent` is what it is a difference to."""
    index = _index_of(catalog, spec, shared)
    stored = open_files(catalog, holder, shared)
    try:
        identities = stored.identities
        if parent is not None:
            identities |= parent.files
        _check_same(spec, identities, how.only)
        sealed = sealed_source(catalog, holder, stored, shared)
        source = sealed or stored.source
        if how.with_distrusted:
            source = every_byte(source)
        reader = registry.open_reader(spec.format, source, spec.layout, index, parent)
    except BaseException:
        stored.close()
        raise
    was_touched = (parent is not None and parent.was_touched) or any(
        not stat.S_ISBLK(file.stat.st_mode)
        and state_of(file.stat) != (volume.mtime_ns, volume.size_bytes)
        for file, volume in zip(stored.files, holder.volumes, strict=True)
    )
    if holder is not spec:
        spec = dataclasses.replace(
            spec,
            volumes=holder.volumes,
            fingerprint=holder.fingerprint,
            streams=holder.streams,
            is_sealed=holder.is_sealed,
        )
    return OpenImage(reader, stored, index, spec, was_touched, identities, sealed, parent)


def _holder_of(catalog: Catalog, spec: OpenSpec) -> OpenSpec:
    """Return whose files an image has: its own, but of a snapshot those of what it is one of."""
    link = next((each for each in spec.segments if each.is_holder), None)
    if link is None or spec.index_kind != IndexKind.MAP:
        return spec
    if link.child_id is None:
        raise ImageChangedError(f"{spec.name}: {link.child_name} is not in the catalog any more")
    holder = catalog.open_spec(link.child_id)
    if holder.content_key != link.child_key:
        raise ScannedAnewError(f"{spec.name}: was scanned anew: open it again")
    return holder


def _open_parent(
    catalog: Catalog,
    spec: OpenSpec,
    holder: OpenSpec,
    shared: Shared,
    how: _How,
    above: tuple[int, ...],
) -> WatchedReader | None:
    """Open what an image is a difference to, if it is what it was then.

    Raises:
        ImageChangedError: it is not.
    """
    link = next((each for each in holder.segments if not each.is_holder), None)
    if link is None:
        return None
    if link.child_id is None:
        raise ImageChangedError(
            f"{spec.name}: its parent {link.child_name} is not in the catalog any more: add it "
            "again, then rescan"
        )
    try:
        return WatchedReader(_open(catalog, link.child_id, link.child_key, shared, how, above))
    except ImageChangedError as error:
        raise ImageChangedError(f"{spec.name}: its parent: {error}") from error
    except (ImageNotFoundError, ScannedAnewError) as error:
        raise ImageChangedError(
            f"{spec.name}: its parent {link.child_name} was scanned anew: "
            f"`imgcat rescan {shlex.quote(spec.name)}` mends the entry"
        ) from error


def _check_same(
    spec: OpenSpec, files: frozenset[FileIdentity], only: frozenset[FileIdentity] | None
) -> None:
    if only is not None and not files <= only:
        raise ImageChangedError(f"{spec.name}: is another file than before: open it again")


def open_watched(
    catalog: Catalog,
    image_id: int,
    *,
    content_key: int | None = None,
    shared: Shared | None = None,
    at_any_cost: bool = False,
) -> WatchedReader:
    """Do as `open_image`, and return a reader that gives no bytes of a file that was changed."""
    return WatchedReader(
        open_image(
            catalog, image_id, content_key=content_key, shared=shared, at_any_cost=at_any_cost
        )
    )  # fmt: skip


def _open_composed(
    catalog: Catalog,
    spec: OpenSpec,
    index: StoredIndex,
    shared: Shared,
    how: _How,
    above: tuple[int, ...],
) -> OpenImage:
    # Its files are those of the images below it: it has none of its own.
    spec = dataclasses.replace(spec, volumes=catalog.volumes_below(spec.image_id))
    identities = identities_of(spec.volumes)

    def open_child(child_id: int, child_key: int | None) -> ImageReader:
        # Opened late, it may be another one by now: then this image is outdated, and is not mixed.
        # Nor is a path followed to another file than the one that was judged.
        only = how._replace(only=identities)
        return WatchedReader(_open(catalog, child_id, child_key, shared, only, above))

    state = freshness(spec.volumes)
    reader = open_composed(catalog, spec, shared.indexes, open_child)
    was_touched = state is not Freshness.FRESH
    return OpenImage(reader, StoredFiles(()), index, spec, was_touched, identities)


def open_by_name(catalog: Catalog, token: str | int) -> Image:
    """Open the image in a catalog that a name, an id or a path names; a number is an id.

    Five SQL statements besides those of `open_image`, and one more of an image that is made of
    others: what is known of an image is in many tables.

    Raises:
        ImageNotFoundError: none does.
        As `open_image`.
    """
    from ...formats.image import image_of_files
    from ...formats.reader import ImageInfo

    image_id = token if isinstance(token, int) else catalog.resolve(token)
    opened = open_image(catalog, image_id)
    try:
        record = _record_of(catalog, opened.spec)
    except BaseException:
        opened.close()
        raise
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
    return image_of_files(
        info, opened.reader, opened.index, opened.stored, opened.close, opened.identities
    )


def _record_of(catalog: Catalog, spec: OpenSpec) -> ImageRecord:
    """Return what is known of an image that was opened, which may be another one by now."""
    record = catalog.get(spec.image_id)
    if record.index_id != spec.index_id:
        raise ImageChangedError(f"{spec.name}: was scanned anew meanwhile: open it again")
    return record


def _index_of(catalog: Catalog, spec: OpenSpec, shared: Shared) -> StoredIndex:
    try:
        kind = IndexKind(spec.index_kind)
    except ValueError:
        raise CatalogError(
            f"{spec.name}: its index is of the unknown kind {spec.index_kind!r}: add it again"
        ) from None
    return StoredIndex(
        kind,
        spec.content_key,
        spec.total_blocks,
        lambda number: catalog.load_chunk(spec.index_id, number, content_key=spec.content_key),
        lambda start, stop: catalog.load_ranges(
            spec.index_id, start, stop, content_key=spec.content_key
        ),
        lambda number: catalog.load_map(spec.index_id, number, content_key=spec.content_key),
        shared.indexes,
        shared.decoding.pages,
        shared.decoding.turn,
    )
