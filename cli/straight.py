"""Images straight from their files: a catalog that lasts as long as the command does."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .images import all_warnings
from .progress import byte_bar
from .settings import complain, open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..catalog.store import Catalog


@contextlib.contextmanager
def catalog_for(tokens: Sequence[str], *, write: bool = False) -> Iterator[Catalog]:
    """Give the catalog that the options name, or a temporary one of files that it does not know.

    What the catalog knows by name, id, path or pattern comes first. Where it knows none of the
    tokens, or there is none, and each is a file, these are scanned into one that goes with the
    block.

    Args:
        tokens: what the user wants.
        write: whether verdicts are to be recorded.

    Raises:
        ImageNotFoundError: a token is neither.
        CatalogError: a catalog cannot be used.
        FormatError: a file is no image.
        OSError: a file cannot be read.
    """
    if are_only_files(tokens):
        with temporary_catalog(tokens) as temporary:
            yield temporary
    else:
        with open_catalog(write=write) as catalog:
            yield catalog


def are_only_files(tokens: Sequence[str]) -> bool:
    """Tell whether all tokens are files, of which the catalog knows none, or there is none.

    Raises:
        CatalogError: the catalog cannot be used.
    """
    from ..catalog.errors import CatalogMissingError

    if not all(os.path.isfile(token) for token in tokens):
        return False
    try:
        with open_catalog() as catalog:
            return not _knows_any(catalog, tokens)
    except CatalogMissingError:
        return True


def is_known(token: str) -> bool:
    """Tell whether there is a catalog that knows what a token names.

    Raises:
        CatalogError: the catalog cannot be used.
    """
    from ..catalog.errors import CatalogMissingError

    try:
        with open_catalog() as catalog:
            return _knows_any(catalog, [token])
    except CatalogMissingError:
        return False


@contextlib.contextmanager
def temporary_catalog(paths: Sequence[str]) -> Iterator[Catalog]:
    """Give a catalog of some files, which goes with the block.

    Raises:
        As `catalog_for`.
    """
    from ..catalog.database.runtime import temporary_directory

    with temporary_directory() as directory:
        before = settings.db
        settings.db = os.path.join(directory, "catalog.db")
        settings.is_temporary, settings.lasting_db = True, before
        try:
            with fill_catalog(settings.db, paths) as catalog:
                yield catalog
        finally:
            settings.db = before
            settings.is_temporary = False


@contextlib.contextmanager
def fill_catalog(database: str, paths: Sequence[str]) -> Iterator[Catalog]:
    """Make a catalog of some files, and give it. Raises as `catalog_for`."""
    from ..catalog.adding.batch import add_files
    from ..catalog.store import Catalog

    total = sum(map(os.path.getsize, paths))
    with Catalog.open(database, create=True) as catalog:
        with byte_bar(total, os.path.basename(paths[0])) as progress:
            for result in add_files(catalog, paths, progress=progress):
                if result.ingested is None:
                    assert result.error is not None
                    raise result.error
                for warning in all_warnings(catalog, result.ingested.record):
                    complain(f"{result.path}: {warning}")
        yield catalog


def _knows_any(catalog: Catalog, tokens: Sequence[str]) -> bool:
    """Tell whether the catalog knows one of the tokens."""
    from ..catalog.errors import ImageNotFoundError

    for token in tokens:
        with contextlib.suppress(ImageNotFoundError):
            catalog.resolve_many([token])
            return True
    return False
