"""The catalog: what is known of images, in a SQLite database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .database import schema

if TYPE_CHECKING:
    import sqlalchemy as sa


def _compose_disks(connection: sa.Connection) -> None:
    # Imported when a catalog is upgraded, which is once.
    from .adding.clonezilla import compose_all

    compose_all(connection)


# A revision knows nothing of formats. What only they can tell is filled in behind it.
schema.completions["0004"] = _compose_disks
