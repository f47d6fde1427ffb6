"""Adding a file to the catalog, and before it what it is a difference to."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from ...formats.errors import CorruptImageError, FormatError, MissingParentError
from ...formats.passes.chain import check_chain, identity
from ...formats.raw import reader as raw
from .outcome import Ingested, Outcome
from .put import needs_scan, put
from .recognise import put_recognised
from .scan import USUAL, scan_file

if TYPE_CHECKING:
    from ...formats.files.parents import FoundParent
    from ..store import Catalog
    from .scan import How, ScannedFile

    _Above = tuple[tuple[int, int], ...]


def add_file(
    catalog: Catalog,
    path: str,
    *,
    name: str | None = None,
    force: bool = False,
    how: How = USUAL,
    above: _Above = (),
) -> Ingested:
    """Scan the file and write it, unless the catalog has it and nothing changed.

    Args:
        catalog: where it goes.
        path: the image's file.
        name: the name it shall have; else one is made from the file's.
        force: scan even if nothing changed.
        how: how it is scanned.
        above: what tells the files of those from others that are differences to it.

    Raises:
        As `scan_file`, `with_parent` and `put`.
    """
    known = catalog.find_path(os.path.abspath(path))
    if known is not None and not force and not needs_scan(catalog, known):
        if name is not None and name != known.row.name:
            catalog.rename(known.row.id, name)
            return Ingested(Outcome.UPDATED, catalog.get(known.row.id))
        return Ingested(Outcome.UNCHANGED, known)
    recognised = None if force else put_recognised(catalog, path, known, name=name, how=how)
    if recognised is not None:
        return recognised
    scanned = scan_file(path, how=dataclasses.replace(how, by_id=catalog.path_of_uuid))
    scanned = with_parent(catalog, scanned, how, above)
    wish = how.names.of_file(scanned.path)
    ingested = put(catalog, scanned, name=name, wish=wish, renew=force)
    if ingested.outcome is not Outcome.ADDED:
        catalog.purge()
    return ingested


def with_parent(
    catalog: Catalog, scanned: ScannedFile, how: How = USUAL, above: _Above = ()
) -> ScannedFile:
    """Return a scan that is ready to be written: what it is a difference to is in the catalog.

    Args:
        catalog: where it goes.
        scanned: what the scan found.
        how: how what it is a difference to is scanned, where it must be.
        above: what tells the files of those from others that are differences to it.

    Raises:
        MissingParentError: the catalog has its parent as an image of another format.
        CorruptImageError: it is a difference to itself, or too many lie below each other.
        FormatError: its parent cannot be read.
        CatalogError: the catalog could not be written.
    """
    if scanned.parent is None:
        return scanned
    above = (*above, identity(scanned.path))
    parent_id = _add_parent(catalog, scanned.parent, how, above)
    return dataclasses.replace(scanned, parent_id=parent_id)


def _add_parent(catalog: Catalog, parent: FoundParent, how: How, above: _Above) -> int:
    """Return the id of a parent, which is added if need be."""
    check_chain(parent.path, above)
    known = catalog.find_path(parent.path)
    if known is not None and (known.row.format == raw.NAME) != parent.is_raw:
        raise MissingParentError(
            "chain", 0,
            f"its parent {parent.path} is in the catalog as {known.row.format}, but it is a "
            f"difference to {'a raw disk' if parent.is_raw else 'what is in it'}",
        )  # fmt: skip
    how = dataclasses.replace(how, is_raw=parent.is_raw, or_raw=False)
    try:
        return add_file(catalog, parent.path, how=how, above=above).record.row.id
    except MissingParentError as error:
        raise MissingParentError(
            error.structure, error.offset, f"{parent.path}: {error.detail}"
        ) from error
    except FormatError as error:
        raise CorruptImageError(
            error.structure, error.offset, f"in its parent {parent.path}: {error.detail}"
        ) from error
