"""How find, history and diff tell of a version, and the command that gets it."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, Any

from ..filesystems.names import shown
from .files import TYPES, json_time, time_of
from .render import counted, human_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..catalog.files.asking import Backup, Row
    from ..catalog.store import Catalog


class Getting:
    """Tells which backups files are got from, and the commands that do it.

    Args:
        catalog: where they were found.
    """

    def __init__(self, catalog: Catalog) -> None:
        from .routes import is_unusual

        self._options = ["--db", catalog.path] if is_unusual(catalog) else []
        self._catalog = catalog
        self._known: Mapping[int, str] | None = None

    def best(self, backups: Sequence[Backup]) -> Backup:
        """Return the one of the backups that have a version which it is got from.

        The images' files are looked at, once, where there is a choice.
        """
        from ..catalog.files.asking import best_of

        return backups[0] if len(backups) == 1 else best_of(backups, self._statuses())

    def is_best(self, backup: Backup) -> bool:
        """Tell whether files are got from this backup, whichever others have them."""
        from ..catalog.files.asking import is_best

        return is_best(backup, self._statuses())

    def _statuses(self) -> Mapping[int, str]:
        if self._known is None:
            from .patience import look_at_images

            self._known = look_at_images(self._catalog).statuses
        return self._known

    def command(self, backup: Backup, path: bytes, row: Row) -> str:
        """Return the command that gets a file out of a backup."""
        place = f"{backup.name}:{shown(path)}"
        if backup.source is not None:
            words = ["recover", place, "--from", backup.source, "-o", os.path.basename(shown(path))]
        else:
            words = ["cp", *(["-r"] if stat.S_ISDIR(row.mode) else []), place, "."]
        return shlex.join(["imgcat", *self._options, *words])


def place_of(backup: Backup, path: bytes) -> str | None:
    """Return how a file in an image is named; None of a snapshot, which has no bytes of it."""
    return None if backup.source is not None else f"{backup.name}:{shown(path)}"


def line_of(row: Row) -> str:
    """Return mode, size and time of a version, in columns."""
    size = human_size(row.size) if stat.S_ISREG(row.mode) else "-"
    return f"{stat.filemode(row.mode)} {size:>7} {time_of(row.modified, ' '):<19}"


def fields_of(path: bytes, row: Row, sha256: bytes | None) -> dict[str, Any]:
    """Return what a version is in a backup, as JSON has it."""
    return {
        "path": shown(path),
        "type": TYPES.get(stat.S_IFMT(row.mode)),
        "mode": f"{stat.S_IMODE(row.mode):04o}",
        "size": row.size,
        "modified": json_time(row.modified),
        "inode": row.inode,
        "sha256": None if sha256 is None else sha256.hex(),
    }


def backup_fields(backup: Backup) -> dict[str, Any]:
    """Return what a backup is, as JSON has it."""
    return {
        "name": backup.name,
        "taken_at": backup.taken_at,
        "is_snapshot": backup.source is not None,
    }


def in_words(backups: tuple[Backup, ...]) -> str:
    """Return which backups these are, as far as they fit into a line."""
    newest = backups[-1]
    if len(backups) == 1:
        return f"in {newest.name}"
    return f"in {counted(len(backups), 'backup')} up to {newest.name}"


def check_is_indexed(catalog: Catalog) -> None:
    """Check that there is something to ask.

    Raises:
        ImageNotFoundError: no image is indexed.
    """
    from ..catalog.errors import ImageNotFoundError

    with catalog.database.asking() as connection:
        if connection.execute("SELECT 1 FROM file_generations").fetchone() is None:
            raise ImageNotFoundError(
                "no image's files are in the catalog yet: `imgcat index --all` writes them there"
            )


def generations_like(catalog: Catalog, tokens: list[str] | None) -> frozenset[int] | None:
    """Return the rows of the backups that users mean: images, or snapshots; None for all.

    Raises:
        ImageNotFoundError: there is no such image, or it is not indexed.
    """
    if not tokens:
        return None
    return frozenset(
        each.generation_id for token in tokens for each in backups_like(catalog, token)
    )


def backups_like(catalog: Catalog, token: str) -> list[Backup]:
    """Return the backups that a user means by a word. Raises as `generations_like`."""
    import fnmatch

    from ..catalog.errors import ImageNotFoundError
    from ..catalog.files.asking import Backups

    with catalog.database.reading() as connection:
        backups = Backups(connection)
    found = [
        each
        for each in backups.all
        if each.image_id is None and fnmatch.fnmatchcase(each.name, token)
    ]
    try:
        images = catalog.resolve_many([token])
    except ImageNotFoundError:
        if found:
            return found
        raise
    known = [each for each in map(backups.of_image, images) if each is not None]
    if not known and not found:
        raise ImageNotFoundError(
            f"{token}: its files are not in the catalog: `imgcat index {shlex.quote(token)}`"
        )
    return known + found
