"""Which names images may have: none that another has, is a folder of others, or is one's number.

Nor one that a snapshot has: both are backups, and what asks about files takes either by its name.

What is found stays so only inside of a transaction that writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import names
from ..errors import NameTakenError
from . import reading

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator


def claim_name(connection: sqlite3.Connection, name: str, image_id: int | None) -> str:
    """Return `name` if the image may have it.

    Args:
        connection: to the catalog.
        name: what can be a name; see `names.check_name`.
        image_id: the image, None if it is new.

    Raises:
        NameTakenError: it may not; the message says why.
    """
    reason = _why_taken(connection, name, image_id)
    if reason is not None:
        raise NameTakenError(f"{name!r} {reason}")
    return name


def free_name(connection: sqlite3.Connection, name: str, image_id: int | None = None) -> str:
    """Return `name`, or one made from it that an image may have: a new one, or the one given."""
    head, slash, last = name.rpartition("/")
    if slash:
        name = f"{_free_folder_of(connection, head, image_id)}/{last}"
    return names.free_name(
        name, lambda candidate: _why_taken(connection, candidate, image_id) is not None
    )


def free_folder(connection: sqlite3.Connection, folder: str, members: Collection[int] = ()) -> str:
    """Return `folder`, or one made from it, below which no images but these are."""
    head, slash, last = folder.rpartition("/")
    if slash:
        folder = f"{_free_folder_of(connection, head, None)}/{last}"

    def is_taken(candidate: str) -> bool:
        owner = reading.owner_of_name(connection, candidate)
        return owner not in {None, *members} or any(
            image_id not in members for image_id in reading.ids_within(connection, candidate)
        )

    return names.free_name(folder, is_taken)


def claim_folder(connection: sqlite3.Connection, folder: str, members: Collection[int] = ()) -> str:
    """Return `folder` if no images but these are in it, and it can be one.

    Raises:
        NameTakenError: it cannot, or others are in it.
    """
    names.check_name(folder)
    for prefix in (*_prefixes(folder), folder):
        owner = reading.owner_of_name(connection, prefix)
        if owner not in {None, *members}:
            raise NameTakenError(f"{prefix!r} is the name of image {owner}, and no folder")
    if any(image_id not in members for image_id in reading.ids_within(connection, folder)):
        raise NameTakenError(f"{folder!r} is the folder of other images")
    return folder


def _free_folder_of(connection: sqlite3.Connection, folder: str, image_id: int | None) -> str:
    """Return a folder into which a name may go: one that is no image's, nor below one."""
    done = ""
    for part in folder.split("/"):
        wish = f"{done}/{part}" if done else part
        done = names.free_name(
            wish, lambda each: reading.owner_of_name(connection, each) not in {None, image_id}
        )
    return done


def _why_taken(connection: sqlite3.Connection, name: str, image_id: int | None) -> str | None:
    """Return why an image may not have a name, None if it may."""
    owner = reading.owner_of_name(connection, name)
    if owner not in {None, image_id}:
        return f"is the name of another image (id {owner})"
    if owner is None and reading.is_name_of_snapshot(connection, name):
        return "is the name of a snapshot: `imgcat snapshot` lists them"
    if name.isdecimal() and name.isascii() and reading.is_id_of_another(connection, name, image_id):
        return "is the id of another image"
    within = next((each for each in reading.ids_within(connection, name) if each != image_id), None)
    if within is not None:
        return f"is a folder of other images: {reading.name_of_id(connection, within)!r} is in it"
    for prefix in _prefixes(name):
        owner = reading.owner_of_name(connection, prefix)
        if owner not in {None, image_id}:
            return f"would be below {prefix!r}, which is an image (id {owner})"
    return None


def _prefixes(name: str) -> Iterator[str]:
    """Yield the folders that a name is in, outermost first."""
    for place, char in enumerate(name):
        if char == "/":
            yield name[:place]
