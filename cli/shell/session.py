"""A session of the shell: the image that it looks into, and how results are written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from ...formats.text import printable
from ..exit_codes import NOT_FOUND
from ..settings import complain

if TYPE_CHECKING:
    from ...catalog.opening.open import OpenImage
    from ...catalog.records import ImageRecord
    from ...catalog.store import Catalog
    from ...filesystems.process import WorkerFailure
    from ...filesystems.volume import Volume


class Quit(Exception):  # noqa: N818 - no error
    """The user has had enough."""


class UsageError(Exception):
    """A command was not given what it takes; its text says what it is."""


class Session:
    """What a user looks at, one image after the other.

    Args:
        catalog: where the images are.
        image_id: the first one.
        as_is: whether files are read though the journal of their file system was not replayed.

    Attributes:
        catalog: as given.
        record: what the catalog knows of the image.
        opened: the image, open.
        code: the exit code of the worst that happened.
        directory: where the user stands among the files in the image.
    """

    def __init__(self, catalog: Catalog, image_id: int, *, as_is: bool = False) -> None:
        self.catalog = catalog
        self.directory = b"/"
        self._as_is = as_is
        self._volume: Volume | None = None
        self._failures: list[WorkerFailure] = []
        self.code = 0
        self._image_id = image_id
        self.record, self.opened = self._open(image_id)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the image."""
        self._close()

    @property
    def volume(self) -> Volume:
        """The files in the image.

        Raises:
            RefusedError: what it holds is not read.
        """
        from ..inside import open_volume

        if self._volume is None:
            self._volume = open_volume(
                self.catalog, self.record, self.opened, as_is=self._as_is, failures=self._failures
            )
        return self._volume

    def _close(self) -> None:
        from ...catalog.upkeep.damage import record_worker_failures

        if self._volume is not None:
            self._volume.close()
            self._volume = None
        self.opened.close()
        record_worker_failures(self.catalog.path, self.opened.spec, self._failures)
        self._failures.clear()

    @property
    def name(self) -> str:
        """The image's name."""
        return self.record.row.name

    def use(self, token: str) -> None:
        """Look into another image: one of the catalog, ``pN`` of this disk, or ``..`` of this.

        Raises:
            ImageNotFoundError: there is none.
        """
        from ...catalog.errors import ImageNotFoundError

        image_id = self._image_id
        if token == "..":  # noqa: S105 - no password
            if self.record.row.parent is None:
                raise ImageNotFoundError(f"{self.name} is no part of another image")
            image_id = self.catalog.resolve(self.record.row.parent)
        elif (number := self._partition_number(token)) is not None:
            image_id = number
        else:
            image_id = self.catalog.resolve(token)
        record, opened = self._open(image_id)
        self._close()
        self._image_id, self.record, self.opened = image_id, record, opened
        self.directory = b"/"

    def look_again(self) -> None:
        """Ask the catalog again what it knows of the image."""
        self.record = self.catalog.get(self._image_id)

    def not_found(self, text: str) -> None:
        """Tell that there is nothing of what was asked for."""
        self.fail(text, NOT_FOUND)

    def fail(self, text: str, code: int) -> None:
        """Tell that something went wrong, and what exit code that calls for."""
        sys.stdout.flush()
        complain(text)
        self.code = max(self.code, code)

    def _open(self, image_id: int) -> tuple[ImageRecord, OpenImage]:
        from ...catalog.opening.open import open_image

        record = self.catalog.get(image_id)
        return record, open_image(self.catalog, image_id, at_any_cost=True)

    def _partition_number(self, token: str) -> int | None:
        """Return the id of the image that ``pN`` of this disk is, None where there is none."""
        if not token.startswith("p") or not token[1:].isdecimal():
            return None
        for each in self.catalog.inside(self._image_id).partitions:
            if each.number == int(token[1:]):
                return each.image_id
        return None


def write(text: str = "") -> None:
    """Write a line of a result."""
    sys.stdout.write(f"{printable(text)}\n")


def write_fields(fields: dict[str, object]) -> None:
    """Write names and values, a line each."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        write(f"{name:<{width}}  {'-' if value is None else value}")
