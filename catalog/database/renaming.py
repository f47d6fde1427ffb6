"""Other names for images, one or many at once: inside of a transaction of the caller's."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .. import names
from . import naming, reading, writing
from .transaction import driver_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa


def rename(connection: sa.Connection, wanted: Mapping[int, str]) -> dict[int, tuple[str, str]]:
    """Give images other names, all at once: they may change places with each other.

    What is named after one of them goes on being so, if it is not given a name itself.

    Returns:
        The name before and the name now, by id, of all that were renamed.

    Raises:
        NameTakenError: one cannot have its name, as all is then; or two would have the same.
    """
    driver = driver_connection(connection)
    before = {image_id: reading.name_of_id(driver, image_id) for image_id in wanted}
    follow: dict[int, tuple[str, str]] = {}
    # What is named after several of them goes with the one that has most of its name.
    for image_id in sorted(wanted, key=lambda each: len(before[each] or "")):
        name, old = wanted[image_id], before[image_id]
        names.check_name(name)
        for child, known in reading.derived_from(driver, image_id):
            named_after = old is not None and known.startswith((f"{old}@", f"{old}."))
            if named_after and old is not None and child not in wanted:
                follow[child] = known, name + known[len(old) :]
    # Out of the way first: each is then looked at as all will be.
    aside = f"renamed-{secrets.token_hex(8)}"
    for image_id in (*wanted, *follow):
        writing.update_image(connection, image_id, name=f"{aside}-{image_id}")
    done: dict[int, tuple[str, str]] = {}
    for image_id, name in wanted.items():
        writing.update_image(connection, image_id, name=naming.claim_name(driver, name, image_id))
        done[image_id] = before[image_id] or "", name
    for child, (known, wish) in follow.items():
        now = naming.free_name(driver, wish, child)
        writing.update_image(connection, child, name=now)
        done[child] = known, now
    return done
