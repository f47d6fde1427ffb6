"""The SQL that a catalog is asked, collected."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgcat.catalog.store import Catalog


@contextlib.contextmanager
def statements(catalog: Catalog) -> Iterator[list[str]]:
    """Collect the SQL that runs in the block, without BEGIN, ROLLBACK and PRAGMA."""
    seen: list[str] = []

    def note(statement: str) -> None:
        if not statement.startswith(("BEGIN", "ROLLBACK", "PRAGMA")):
            seen.append(statement)

    # The one that is kept idle is the one that the next reader gets.
    with catalog.database.asking() as connection:
        connection.set_trace_callback(note)
    yield seen
    with catalog.database.asking() as connection:
        connection.set_trace_callback(None)
