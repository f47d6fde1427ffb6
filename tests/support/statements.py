"""The SQL that a catalog is asked, collected."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import sqlite3
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


@contextlib.contextmanager
def statements_of_this_thread(catalog: Catalog) -> Iterator[list[str]]:
    """Collect what the calling thread asks in the block, whichever connection it gets."""
    seen: list[str] = []
    here = threading.get_ident()
    asking = catalog.database.asking

    @contextlib.contextmanager
    def traced() -> Iterator[sqlite3.Connection]:
        with asking() as connection:
            is_here = threading.get_ident() == here
            connection.set_trace_callback(seen.append if is_here else None)
            try:
                yield connection
            finally:
                connection.set_trace_callback(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog.database, "asking", traced)
        yield seen
