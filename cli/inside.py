"""IMAGE:PATH, the one notation for a file in an image: what it means, and opening it."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import typer

from ..filesystems.names import typed
from .exit_codes import naming
from .settings import complain
from .straight import are_only_files, catalog_for, temporary_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.records import ImageRecord
    from ..catalog.store import Catalog
    from ..filesystems.process import WorkerFailure
    from ..filesystems.volume import Volume

_OF_PARTITION = re.compile(r"(.+)\.p(\d{1,6})")


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
    """Give the files of an image: of the catalog, or straight from a file.

    Args:
        image: its name, id or path; of a partition of a disk that is not catalogued, the path of
            the disk and ``.pN``.
        as_is: read it though its journal has not been replayed.

    Raises:
        RefusedError: what it holds is not read.
        ImageNotFoundError: there is no such image.
        CatalogError: the catalog, or the image, cannot be used.
        FormatError: the image cannot be read.
        OSError: the same.
    """
    from ..catalog.opening.open import open_image
    from ..catalog.opening.watched import WatchedReader
    from ..catalog.upkeep.damage import record_worker_failures
    from ..filesystems.volume import Volume

    with _catalog_and_id(image) as (catalog, image_id):
        record = catalog.get(image_id)
        with naming(record.row.name):
            _refuse_disk(catalog, record)
            opened = open_image(catalog, image_id)
            reader = WatchedReader(opened)
            failures: list[WorkerFailure] = []
            try:
                has_content = record.row.content == "full"
                volume = Volume(
                    reader, as_is=as_is, has_content=has_content, on_failure=failures.append
                )
                try:
                    if volume.caveat:
                        complain(f"{record.row.name}: {volume.caveat}")
                    yield volume
                finally:
                    volume.close()
            finally:
                reader.close()
                record_worker_failures(catalog.path, opened.spec, failures)


@contextlib.contextmanager
def _catalog_and_id(image: str) -> Iterator[tuple[Catalog, int]]:
    disk = _OF_PARTITION.fullmatch(image)
    is_file = os.path.isfile(image)
    if disk is not None and not is_file and os.path.isfile(disk[1]) and are_only_files([disk[1]]):
        with temporary_catalog([disk[1]]) as catalog:
            inside = catalog.inside(catalog.resolve(disk[1]))
            for each in inside.partitions:
                if each.number == int(disk[2]) and each.image_id is not None:
                    yield catalog, each.image_id
                    return
        from ..catalog.errors import ImageNotFoundError

        raise ImageNotFoundError(f"{disk[1]} has no partition {disk[2]}")
    with catalog_for([image]) as catalog:
        yield catalog, catalog.resolve(image)


def _refuse_disk(catalog: Catalog, record: ImageRecord) -> None:
    """Say of a disk which partitions it has: they are what has files."""
    from ..filesystems.errors import RefusedError

    inside = catalog.inside(record.row.id)
    if inside.table is None:
        return
    names = [each.image for each in inside.partitions if each.image]
    told = ", ".join(names) if names else "none that is read"
    raise RefusedError("disk", 0, f"it has partitions, and files are in those: {told}")
