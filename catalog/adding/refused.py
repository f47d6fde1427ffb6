"""What a walk through directories has met and could not add: remembered until it changes.

So a nightly walk tells what is new, and does not try the same damaged files each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ..database.moment import utc_now
from ..database.places import PLACE, kept
from ..names import file_name, legible, stored_name

if TYPE_CHECKING:
    from ..store import Catalog

_ROWS = f"""
    SELECT {PLACE.format("path")}, size_bytes, mtime_ns, inode, code, reason FROM passed_over
"""  # noqa: S608 - our own columns

_State = tuple[int, int, int]


class Refusal(NamedTuple):
    """Why a file was not added.

    Attributes:
        code: the exit code that it calls for.
        reason: in words.
    """

    code: int
    reason: str


class RefusedFiles:
    """The files that could not be added before. For one thread.

    Args:
        catalog: which remembers them.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        with catalog.database.asking() as connection:
            rows = connection.execute(_ROWS).fetchall()
        self._known: dict[str, tuple[_State, Refusal]] = {
            file_name(path): ((size, mtime, inode), Refusal(code, reason))
            for path, size, mtime, inode, code, reason in rows
        }
        self._changed: dict[str, tuple[_State, Refusal] | None] = {}

    def known(self, path: str) -> Refusal | None:
        """Return why a file was refused that has not changed since; None of any other."""
        path = os.path.abspath(path)
        state, refusal = self._known.get(path, (None, None))
        return refusal if refusal is not None and state == _state_of(path) else None

    def note(self, path: str, refusal: Refusal) -> bool:
        """Remember that a file was refused; tell whether that is news."""
        path = os.path.abspath(path)
        refusal = refusal._replace(reason=legible(refusal.reason))
        found = _state_of(path), refusal
        is_news = self._known.get(path) != found
        if is_news:
            self._known[path] = self._changed[path] = found
        return is_news

    def forget(self, path: str) -> None:
        """Remember nothing of a file any more: it was added."""
        path = os.path.abspath(path)
        if self._known.pop(path, None) is not None:
            self._changed[path] = None

    def save(self) -> None:
        """Write what has changed, in one transaction.

        Raises:
            CatalogError: the catalog could not be written.
        """
        if not self._changed:
            return
        from ..database.transaction import driver_connection

        with self._catalog.database.writing() as connection:
            driver = driver_connection(connection)
            for path, found in self._changed.items():
                stored = stored_name(kept(driver, path))
                driver.execute("DELETE FROM passed_over WHERE path = ?", (stored,))
                if found is not None:
                    state, refusal = found
                    driver.execute(
                        "INSERT INTO passed_over"
                        " (path, size_bytes, mtime_ns, inode, code, reason, since)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (stored, *state, *refusal, utc_now()),
                    )
        self._changed.clear()


def _state_of(path: str) -> _State:
    """Return what tells a file from what it was; zeros of one that cannot be looked at."""
    from ..opening.freshness import volume_from_stat

    try:
        volume = volume_from_stat(path, os.stat(path))
    except OSError:
        return 0, 0, 0
    return volume.size_bytes, volume.mtime_ns, volume.inode
