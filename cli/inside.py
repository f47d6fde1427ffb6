"""IMAGE:PATH, the one notation for a file in an image: what it means, and opening it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

import typer

from ..filesystems.names import typed
from .exit_codes import naming
from .settings import complain
from .straight import catalog_for, is_known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.opening.open import OpenImage
    from ..catalog.records import ImageRecord
    from ..catalog.store import Catalog
    from ..filesystems.process import WorkerFailure
    from ..filesystems.volume import Volume


class Place(NamedTuple):
    """What a user means by IMAGE:PATH.

    Attributes:
        image: the image.
        path: the path in it, from ``/`` on; None where none was given.
    """

    image: str
    path: bytes | None


def parse_place(text: str) -> Place:
    """Return what is meant: all behind the first ``:/`` is the path.

    Raises:
        typer.BadParameter: no image is named.
    """
    image, colon, path = text.partition(":/")
    if not image:
        raise typer.BadParameter(f"{text!r} names no image: IMAGE:/PATH")
    return Place(image, b"/" + typed(path) if colon else None)


@contextlib.contextmanager
def volume_of(image: str, *, as_is: bool) -> Iterator[Volume]:
    """Do as `volume_and_catalog`, and give the files alone. Raises as that."""
    with volume_and_catalog(image, as_is=as_is) as (volume, _catalog):
        yield volume


@contextlib.contextmanager
def volume_and_catalog(image: str, *, as_is: bool) -> Iterator[tuple[Volume, Catalog]]:
    """Give the files of an image, and the catalog that has it: or one of a file, for the block.

    Args:
        image: its name, id or path; of a partition or volume of a disk that is not catalogued, the
            path of the disk and what `ls` would put behind its name, as ``.p1`` or ``.p2.vg-root``.
        as_is: read it though its journal has not been replayed.

    Raises:
        RefusedError: what it holds is not read.
        ImageNotFoundError: there is no such image.
        CatalogError: the catalog, or the image, cannot be used.
        FormatError: the image cannot be read.
        OSError: the same.
    """
    from ..catalog.opening.open import open_image
    from ..catalog.upkeep.damage import record_worker_failures

    with _catalog_and_id(image) as (catalog, image_id):
        record = catalog.get(image_id)
        with naming(record.row.name):
            opened = open_image(catalog, image_id)
            failures: list[WorkerFailure] = []
            try:
                volume = open_volume(catalog, record, opened, as_is=as_is, failures=failures)
                try:
                    yield volume, catalog
                finally:
                    volume.close()
            finally:
                opened.close()
                record_worker_failures(catalog.path, opened.spec, failures)


def open_volume(
    catalog: Catalog,
    record: ImageRecord,
    opened: OpenImage,
    *,
    as_is: bool,
    failures: list[WorkerFailure],
) -> Volume:
    """Return the files of an image that is open; what its reader dies of goes into `failures`.

    Raises as `volume_of`.
    """
    from ..catalog.opening.watched import WatchedReader
    from ..filesystems.volume import Volume

    _refuse_disk(catalog, record)
    has_content = record.row.content == "full"
    volume = Volume(
        WatchedReader(opened), as_is=as_is, has_content=has_content, on_failure=failures.append
    )
    if volume.caveat:
        complain(f"{record.row.name}: {volume.caveat}")
    return volume


@contextlib.contextmanager
def _catalog_and_id(image: str) -> Iterator[tuple[Catalog, int]]:
    disk = _file_before(image)
    if disk is not None:
        with catalog_for([disk]) as catalog:
            yield catalog, _named_after(catalog, disk, image[len(disk) :])
            return
    with catalog_for([image]) as catalog:
        yield catalog, catalog.resolve(image)


def _file_before(image: str) -> str | None:
    """Return the file that what is meant is a part of, None where it is a file or catalogued."""
    if os.path.isfile(image):
        return None
    dots = (at for at in range(len(image) - 1, 0, -1) if image[at] == ".")
    found = next((image[:at] for at in dots if os.path.isfile(image[:at])), None)
    return None if found is None or is_known(image) else found


def _named_after(catalog: Catalog, disk: str, rest: str) -> int:
    """Return the id of a partition or volume of a disk, by what its name has behind the disk's.

    Raises:
        ImageNotFoundError: there is none.
    """
    from ..catalog.errors import ImageNotFoundError

    before = catalog.name_of(catalog.resolve(disk)) or ""
    try:
        return catalog.resolve(before + rest)
    except ImageNotFoundError:
        names = (row.name for row, _volumes in catalog.list_images())
        known = ", ".join(each for each in names if each.startswith(f"{before}."))
        raise ImageNotFoundError(
            f"{disk} has nothing that is called {before}{rest}; it has {known or 'no partitions'}"
        ) from None


def _refuse_disk(catalog: Catalog, record: ImageRecord) -> None:
    """Say of a disk which partitions and volumes it has: they are what has files."""
    from ..filesystems.errors import RefusedError

    inside = catalog.inside(record.row.id)
    if inside.table is None and not inside.logical_volumes:
        return
    kinds = {"partitions": inside.table, "logical volumes": inside.logical_volumes}
    what = " and ".join(kind for kind, found in kinds.items() if found)
    names = [each.image for each in inside.partitions if each.image]
    names += [each.image for each in inside.logical_volumes]
    told = ", ".join(names) or "none that is read"
    raise RefusedError("disk", 0, f"it has {what}, and files are in those: {told}")
