"""Telling the catalog that a directory of images is elsewhere now. No image is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ..database.places import PLACE, kept
from ..errors import NameTakenError
from ..names import file_name, stored_name
from .observe import observe

if TYPE_CHECKING:
    import sqlite3

    from ..store import Catalog

_TABLES = ("images", "volumes", "image_directories", "passed_over")


class Relocated(NamedTuple):
    """A file of which the catalog is told another place.

    Attributes:
        old: where it was.
        new: where it is.
        is_there: whether there is something.
    """

    old: str
    new: str
    is_there: bool


def relocate(catalog: Catalog, old: str, new: str, *, dry_run: bool = False) -> list[Relocated]:
    """Let what lay at and below a path be at and below another, in one transaction.

    Names, ids, indexes and verdicts stay: whether a file is the one that was scanned is looked at
    when it is opened, as ever.

    Args:
        catalog: what is changed.
        old: a directory or a file, absolute.
        new: where it is now, absolute.
        dry_run: change nothing.

    Returns:
        The images' files, by their old paths.

    Raises:
        NameTakenError: an image is in the catalog from its new place already.
        CatalogError: the catalog could not be written; it is then as before.
    """
    from ..database.transaction import driver_connection

    with catalog.database.reading() as connection:
        moved = _moved(connection, "volumes", old, new)
        _check_free(connection, moved)
    found = [Relocated(was, now, os.path.exists(now)) for was, now in sorted(set(moved.values()))]
    if dry_run or not found:
        return found
    with catalog.database.writing() as writing:
        driver = driver_connection(writing)
        _check_free(driver, _moved(driver, "images", old, new))
        for table in _TABLES:
            rows = sorted(
                _moved(driver, table, old, new).items(),
                # No path is taken before it is free, where one of the two lies below the other.
                key=lambda row: len(row[1][0]),
                reverse=len(new) > len(old),
            )
            driver.executemany(
                f"UPDATE {table} SET path = ? WHERE rowid = ?",  # noqa: S608 - our own tables
                [(stored_name(kept(driver, now)), rowid) for rowid, (_was, now) in rows],
            )
    # What was missing may be there.
    observe(catalog)
    return found


def _moved(
    connection: sqlite3.Connection, table: str, old: str, new: str
) -> dict[int, tuple[str, str]]:
    """Return old and new path of the rows that lie at and below a path, by their row ids."""
    found = {}
    rows = connection.execute(f"SELECT rowid, {PLACE.format('path')} FROM {table}")  # noqa: S608
    below = old.rstrip("/") + "/"
    for rowid, stored in rows:
        path = None if stored is None else file_name(stored)
        if path == old:
            found[rowid] = path, new
        elif path is not None and path.startswith(below):
            found[rowid] = path, os.path.join(new, path[len(below) :])
    return found


def _check_free(connection: sqlite3.Connection, moved: dict[int, tuple[str, str]]) -> None:
    """Refuse a move onto files that are in the catalog from there already."""
    leaving = {was for was, _now in moved.values()}
    for was, now in moved.values():
        row = connection.execute(
            "SELECT name FROM images WHERE path IN (?1, near(?1))", (stored_name(now),)
        ).fetchone()
        if row is not None and now not in leaving:
            raise NameTakenError(
                f"{now}: is in the catalog from there already, as {file_name(row[0])}: "
                f"forget one of the two: `imgcat rm` of that, or of {was}"
            )
