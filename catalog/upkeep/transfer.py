"""Images from one catalog into another, with all that was found of them. No image is read.

An index keeps its content key: by that an image is known again, wherever its row has gone, and
what is made of it stays bound to it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..adding.outcome import Outcome
from ..database import models, naming, reading
from ..database.places import PLACE, kept
from ..database.segments import DEPTH
from ..errors import NameTakenError
from ..names import check_name, file_name, stored_name
from ..opening.identity import is_untouched

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import sqlalchemy as sa

    from ..store import Catalog

_OF_INDEX = ("seals", "rank_chunks", "cluster_ranges", "map_chunks")
_OF_IMAGE = ("volumes", "bad_ranges", "file_systems")
_OF_STREAM = ("seek_points", "page_hashes")

# With an image go what it is made of, what it is derived from, and what is derived from it.
_NEXT_TO = """
    SELECT segments.child_id FROM images JOIN segments ON segments.index_id = images.index_id
    WHERE images.id = ?1 AND segments.child_id IS NOT NULL
    UNION SELECT parent_id FROM images WHERE id = ?1 AND parent_id IS NOT NULL
    UNION SELECT id FROM images WHERE parent_id = ?1
    UNION SELECT image_id FROM partitions WHERE disk_id = ?1 AND image_id IS NOT NULL
"""

_BY_KEY = """
    SELECT images.id FROM images JOIN indexes ON indexes.id = images.index_id
    WHERE indexes.content_key = ?
"""

# All that is stored has the same hash: it is the same image, under whatever path.
_ALIKE = """
    SELECT images.id FROM images JOIN indexes ON indexes.id = images.index_id
    WHERE images.fingerprint = ? AND indexes.digest = ? AND images.size_bytes = ?
      AND images.path IS NOT NULL ORDER BY images.id
"""

# Of what has no file of its own, the fingerprint is over all that it is made of.
_MADE_ALIKE = """
    SELECT id FROM images WHERE fingerprint = ? AND format = ? AND size_bytes = ?
      AND path IS NULL AND parent_id IS ? ORDER BY id
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Transferred:
    """What came of an image of the other catalog.

    Attributes:
        image_id: its id where it went to.
        name: its name there.
        before: its name in the catalog that it came from.
        outcome: `ADDED`; `UPDATED` where a newer verdict was taken over; `UNCHANGED` where it was
            known.
    """

    image_id: int
    name: str
    before: str
    outcome: Outcome


def transfer(
    source: Catalog,
    target: Catalog,
    image_ids: Sequence[int] | None = None,
    *,
    prefix: str = "",
    is_there: Callable[[str], bool] = lambda _path: False,
) -> list[Transferred]:
    """Copy images and what belongs to them, in one transaction.

    One that the target knows stays as it is there: by its content key, by its path, or, where its
    own file is not there, by all of its bytes. Only a newer verdict on the same files is taken.

    Args:
        source: where they are.
        target: where they go; another catalog.
        image_ids: which; what they are made of, and their disks, go with them. All if None.
        prefix: a folder that the names of new ones begin with, "" for none.
        is_there: tells whether a path leads to a file. Where none does, one like it that the target
            has is taken for the same.

    Raises:
        CatalogError: one of them cannot be read or written; the target is then as before.
    """
    from ..database import composing
    from ..database.transaction import driver_connection

    with source.database.reading() as old, target.database.writing() as connection:
        copying = _Copying(old, driver_connection(connection), connection, prefix, is_there)
        chosen = [image_id for image_id, _name, _path in reading.identities(old)]
        if image_ids is not None:
            chosen = _with_all_around(old, image_ids)
        found = (copying.image(image_id) for image_id in _children_first(old, chosen))
        done = [each for each in found if each is not None]
        copying.finish()
        added = [each.image_id for each in done if each.outcome is Outcome.ADDED]
        composing.refresh(connection, [each for each in added if copying.is_composed(each)])
    return done


class _Copying:
    """Copies rows from one catalog to another, and knows the ids that they have there."""

    def __init__(
        self,
        old: sqlite3.Connection,
        new: sqlite3.Connection,
        connection: sa.Connection,
        prefix: str,
        is_there: Callable[[str], bool],
    ) -> None:
        self._old = old
        self._new = new
        self._connection = connection
        self._prefix = prefix
        self._is_there = is_there
        self._ids: dict[int, int] = {}
        self._added: set[int] = set()

    def image(self, image_id: int) -> Transferred | None:
        """Copy an image, or find the one that it is. What it is made of was copied before.

        None of a partition or a snapshot that the target does not have of an image that it has.
        """
        record = reading.record_of_id(self._old, image_id)
        known = self._known(image_id)
        if known is not None:
            self._ids[image_id] = known
            newer = self._take_verdict(image_id, known)
            outcome = Outcome.UPDATED if newer else Outcome.UNCHANGED
        elif self._is_of_known(image_id):
            return None
        else:
            known = self._insert(image_id, record.row.name, record.index_id)
            outcome = Outcome.ADDED
        name = reading.name_of_id(self._new, known)
        return Transferred(known, name or "", record.row.name, outcome)

    def finish(self) -> None:
        """Copy what binds images together: partition tables, and the directories they are in."""
        for old, new in self._ids.items():
            if new not in self._added:
                continue
            self._copy("partition_tables", "disk_id", old, disk_id=new)
            self._copy("partitions", "disk_id", old, disk_id=new, image_id=self._ids.get)
        self._copy_directories()

    def is_composed(self, image_id: int) -> bool:
        """Tell whether an image, by its new id, is made of others."""
        row = self._new.execute(
            "SELECT EXISTS (SELECT 1 FROM segments JOIN images USING (index_id)"
            " WHERE images.id = ? AND child_name IS NOT NULL)",
            (image_id,),
        ).fetchone()
        return bool(row[0])

    def _known(self, image_id: int) -> int | None:
        record = reading.record_of_id(self._old, image_id)
        row, path = record.row, record.row.path
        key = reading.content_key_of(self._old, image_id)
        found = self._new.execute(_BY_KEY, (key,)).fetchone()
        if found is None and path is None:
            parent = self._ids.get(self._parent_of(image_id) or 0)
            made = (record.fingerprint, row.format, row.size_bytes, parent)
            found = self._new.execute(_MADE_ALIKE, made).fetchone()
        elif found is None and path is not None:
            there = reading.record_of_path(self._new, path)
            if there is not None:
                return there.row.id
            if record.digest is not None and not self._is_there(path):
                alike = (record.fingerprint, record.digest, row.size_bytes)
                found = self._new.execute(_ALIKE, alike).fetchone()
        return None if found is None else int(found[0])

    def _parent_of(self, image_id: int) -> int | None:
        row = self._old.execute("SELECT parent_id FROM images WHERE id = ?", (image_id,)).fetchone()
        return None if row[0] is None else int(row[0])

    def _is_of_known(self, image_id: int) -> bool:
        """Tell whether an image is derived from one that the target had before."""
        parent = self._ids.get(self._parent_of(image_id) or 0)
        return parent is not None and parent not in self._added

    def _take_verdict(self, old_id: int, new_id: int) -> bool:
        """Take over what a verification has found, if it is newer and of the same files."""
        from ..database import writing

        theirs = reading.record_of_id(self._old, old_id)
        ours = reading.record_of_id(self._new, new_id)
        is_newer = (theirs.row.verified_at or "") > (ours.row.verified_at or "")
        if not is_newer or not is_untouched(ours.volumes, theirs.volumes):
            return False
        if theirs.fingerprint != ours.fingerprint:
            return False
        columns = ("verified_at", "verify_result", "verify_detail")
        values = {name: getattr(theirs.row, name) for name in columns}
        writing.update_image(self._connection, new_id, **values)
        writing.replace_bad_ranges(self._connection, new_id, theirs.bad_ranges)
        return True

    def _insert(self, image_id: int, name: str, index_id: int) -> int:
        new_index = self._copy_index(index_id)
        free = naming.free_name(self._new, self._wish(name, image_id))
        new_id = self._copy_one(
            "images", image_id,
            name=stored_name(free), index_id=new_index, parent_id=self._ids.get,
        )  # fmt: skip
        self._ids[image_id] = new_id
        self._added.add(new_id)
        for table in _OF_IMAGE:
            self._copy(table, "image_id", image_id, image_id=new_id)
        return new_id

    def _wish(self, name: str, image_id: int) -> str:
        """Return the name that an image should have: its own, if a name can be that."""
        folder = f"{self._prefix}/" if self._prefix else ""
        try:
            check_name(folder + name)
        except NameTakenError:
            # Whoever made the other catalog may not have been imgcat.
            return f"{folder}image {image_id}"
        return folder + name

    def _copy_index(self, index_id: int) -> int:
        # One that no image uses may have stayed, for somebody reads by it.
        left = self._new.execute(
            "SELECT id FROM indexes WHERE content_key = (SELECT ?)",
            self._old.execute(
                "SELECT content_key FROM indexes WHERE id = ?", (index_id,)
            ).fetchone(),
        ).fetchone()
        if left is not None:
            return int(left[0])
        new_id = self._copy_one("indexes", index_id)
        for table in _OF_INDEX:
            self._copy(table, "index_id", index_id, index_id=new_id)
        self._copy("segments", "index_id", index_id, index_id=new_id, child_id=self._ids.get)
        streams = self._old.execute("SELECT id FROM streams WHERE index_id = ?", (index_id,))
        for (stream_id,) in streams.fetchall():
            stream = self._copy_one("streams", stream_id, index_id=new_id)
            for table in _OF_STREAM:
                self._copy(table, "stream_id", stream_id, stream_id=stream)
        return new_id

    def _copy_directories(self) -> None:
        rows = self._old.execute(f"SELECT id, {PLACE.format('path')} FROM image_directories")  # noqa: S608
        for old_id, stored in rows.fetchall():
            members = self._old.execute(
                "SELECT image_id FROM directory_images WHERE directory_id = ?", (old_id,)
            )
            if not any(self._ids.get(image_id) in self._added for (image_id,) in members):
                continue
            there = self._new.execute(
                "SELECT id FROM image_directories WHERE path IN (?1, near(?1))", (stored,)
            ).fetchone()
            if there is not None:
                # What it tells is known; scanned again, its images are found to be in it.
                continue
            new_id = self._copy_one("image_directories", old_id)
            self._copy("directory_facts", "directory_id", old_id, directory_id=new_id)
            self._copy(
                "directory_images", "directory_id", old_id,
                directory_id=new_id, image_id=self._ids.get,
            )  # fmt: skip

    def _copy_one(self, table: str, key: int, **other: Any) -> int:  # noqa: ANN401
        """Copy one row of a table that has ids; return its new id. As `_copy`."""
        (row,) = self._rows(table, "id", key, {"id": None, **other})
        return self._new.execute(_insert_into(table), row).lastrowid or 0

    def _copy(self, table: str, key: str, value: int, **other: Any) -> None:  # noqa: ANN401
        """Copy the rows of a table, however many they are, without keeping them.

        Args:
            table: its name.
            key: a column.
            value: what that column is, of the rows to be copied.
            other: what columns are instead: a value, or a function of what they were. A row of
                which a column that cannot be NULL has none then is left out.
        """
        self._new.executemany(_insert_into(table), self._rows(table, key, value, other))

    def _rows(
        self, table: str, key: str, value: int, other: Mapping[str, Any]
    ) -> Iterator[tuple[Any, ...]]:
        columns = models.metadata.tables[table].columns
        names = [column.name for column in columns]
        wanted = ", ".join(PLACE.format("path") if name == "path" else name for name in names)
        needed = {column.name for column in columns if not column.nullable} - {"id"}
        rows = self._old.execute(f"SELECT {wanted} FROM {table} WHERE {key} = ?", (value,))  # noqa: S608
        for row in rows:
            fields = dict(zip(names, row, strict=True))
            for name, what in other.items():
                fields[name] = what(fields[name]) if callable(what) else what
            if fields.get("path") is not None:
                fields["path"] = stored_name(kept(self._new, file_name(fields["path"])))
            if all(fields[name] is not None for name in needed):
                yield tuple(fields.values())


def _insert_into(table: str) -> str:
    names = [column.name for column in models.metadata.tables[table].columns]
    holes = ", ".join("?" * len(names))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({holes})"  # noqa: S608


def _with_all_around(old: sqlite3.Connection, image_ids: Iterable[int]) -> list[int]:
    """Return images and all that is bound to them, each once."""
    found: dict[int, None] = {}
    waiting = list(image_ids)
    while waiting:
        image_id = waiting.pop()
        if image_id in found:
            continue
        found[image_id] = None
        waiting += [each for (each,) in old.execute(_NEXT_TO, (image_id,))]
    return sorted(found)


def _children_first(old: sqlite3.Connection, image_ids: Sequence[int]) -> list[int]:
    """Return the images, each after those that it is made of or derived from."""
    below: Mapping[int, set[int]] = {image_id: set() for image_id in image_ids}
    for image_id in image_ids:
        rows = old.execute(
            "SELECT segments.child_id FROM images"
            " JOIN segments ON segments.index_id = images.index_id WHERE images.id = ?1"
            " UNION SELECT parent_id FROM images WHERE id = ?1",
            (image_id,),
        )
        below[image_id].update(each for (each,) in rows if each in below and each != image_id)
    ordered: dict[int, None] = {}
    for _ in range(DEPTH + 1):
        ready = [
            each for each in image_ids if each not in ordered and below[each] <= ordered.keys()
        ]
        ordered |= dict.fromkeys(ready)
    # What goes round in a circle is refused when it is written.
    return [*ordered, *(each for each in image_ids if each not in ordered)]
