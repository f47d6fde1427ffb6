"""Images whose files were moved: known by what they hold, and by being gone from their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..database import reading
from ..errors import ImageNotFoundError
from ..opening.freshness import Freshness, freshness
from ..opening.identity import times_before

if TYPE_CHECKING:
    import sqlite3

    from ..records import ImageRecord, Volume
    from ..store import Catalog


class MovedImages:
    """Finds the entry of an image that was moved, for many images one after the other.

    All copies of an image are looked at when the first one is asked for, and not again for each:
    else the time to add copies would grow with their square. What goes missing after that look is
    found by the next command. For one thread.

    Attributes:
        claimed: the ids of images that are found again, and need not have been written yet.
    """

    def __init__(self) -> None:
        self.claimed: set[int] = set()
        self._missing: dict[bytes, list[int]] = {}
        self._away: dict[tuple[int, int], list[int]] = {}

    def away(self, catalog: Catalog, first: Volume) -> list[int]:
        """Return the ids of images that are not where they were, and may be what a file is of.

        Args:
            catalog: where they are.
            first: the file, which is the first one of its image: of this size and time.
        """
        key = first.size_bytes, first.mtime_ns
        if key not in self._away:
            with catalog.database.asking() as connection:
                alike = reading.volumes_of_time(connection, key[0], *times_before(key[1]))
            self._away[key] = [
                image_id
                for image_id, volumes in alike.items()
                if freshness(volumes) is Freshness.MISSING
            ]
        return self._away[key]

    def find(self, connection: sqlite3.Connection, fingerprint: bytes) -> ImageRecord | None:
        """Return the record of an image with this fingerprint that is not where it was, or None.

        Args:
            connection: in the transaction that will change the entry.
            fingerprint: of the image that was found at another path.
        """
        if fingerprint not in self._missing:
            copies = reading.volumes_of_fingerprint(connection, fingerprint)
            self._missing[fingerprint] = [
                image_id
                for image_id, volumes in reversed(copies.items())
                if freshness(volumes) is Freshness.MISSING
            ]
        missing = self._missing[fingerprint]
        while missing:
            try:
                record = reading.record_of_id(connection, missing[-1])
            except ImageNotFoundError:
                record = None
            # Not the one that was found to be elsewhere just before.
            if missing[-1] in self.claimed:
                record = None
            if record is not None and freshness(record.volumes) is Freshness.MISSING:
                return record
            missing.pop()
        return None
