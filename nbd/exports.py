"""The images of a catalog as exports: looked up by name, opened, and closed. Knows no nbdkit.

For any number of threads. Whatever is asked may block.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from ..catalog.database.moment import utc_now
from ..catalog.errors import (
    CatalogReplacedError,
    ImageChangedError,
    ImageNotFoundError,
    ScannedAnewError,
)
from ..catalog.names import legible
from ..catalog.opening.entries import mount_entries
from ..catalog.opening.freshness import Observed
from ..catalog.opening.open import open_watched
from ..catalog.opening.permissions import KnownPermissions
from ..catalog.opening.shared import Shared
from ..catalog.opening.trust import check_catalog
from ..catalog.records import READABLE
from ..catalog.store import Catalog
from ..catalog.upkeep.damage import DamageRecorder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..catalog.opening.permissions import FileIdentity, Permissions
    from ..catalog.opening.watched import WatchedReader
    from ..catalog.records import MountEntry
    from .request import PluginRequest

log = logging.getLogger("imgcat.nbd")

_LONGEST_NAME = 4096
"""Bytes in a string of the protocol."""

_ALL = 0o444


class Listed(NamedTuple):
    """An export that can be opened, and what it is."""

    name: str
    description: str


def export_name(name: str) -> str:
    """Return what an image is called as an export: its name, with what is not UTF-8 escaped."""
    return legible(name)


def everybody_may(permissions: Permissions) -> bool:
    """Tell whether an image may be read by whoever it is."""
    return permissions.mode & _ALL == _ALL


class Export:
    """An image that is open, for one or more connections.

    Attributes:
        name: what it is called.
        content_key: what it holds.
        size: its guest bytes.
        reader: reads it.
        read_into: the reader's own, as the others: each is called for every request.
    """

    __slots__ = (
        "content_key", "name", "read_into", "read_into_nowait", "reader", "size", "stored_ranges",
        "users",
    )  # fmt: skip

    def __init__(self, name: str, content_key: int, reader: WatchedReader) -> None:
        self.name = name
        self.content_key = content_key
        self.reader = reader
        self.size = reader.size
        self.read_into = reader.read_into
        self.read_into_nowait = reader.read_into_nowait
        self.stored_ranges = reader.stored_ranges
        self.users = 1


class Exports:
    """The images that are served.

    Args:
        request: which, of which catalog.

    Raises:
        CatalogError: the catalog cannot be used.
    """

    def __init__(self, request: PluginRequest) -> None:
        self._request = request
        self._held = contextlib.ExitStack()
        self._catalog = self._held.enter_context(Catalog.open_to_ask(request.catalog_path))
        try:
            if not self._held.enter_context(self._catalog.pins.held()):
                log.info("%s.lock cannot be made: removed images end at once", self._catalog.path)
            recorder = DamageRecorder(self._catalog.path)
            self._shared = Shared(on_broken=recorder.tell)
            self._permissions = KnownPermissions(self._catalog.image_files)
            self._follower = self._catalog.follow()
            self._held.callback(self._follower.close)
            self._following = threading.Lock()
            self._seen: int | None = None
            self._entries: Mapping[str, MountEntry] = {}
            self._lock = threading.Lock()
            self._open: dict[int, Export] = {}
            self._only_content: int | None = None
            self.entries()
        except BaseException:
            self._held.close()
            raise

    def close(self) -> None:
        """Close everything."""
        with self._lock:
            left, self._open = list(self._open.values()), {}
        for each in left:
            each.reader.close()
        self._held.close()

    def entries(self) -> Mapping[str, MountEntry]:
        """Return what the catalog holds now of what is served, by the names of the exports.

        Raises:
            CatalogError: it cannot be read just now.
        """
        with self._following:
            try:
                version = self._follower.version()
            except CatalogReplacedError as error:
                log.warning("%s: from now on, that one is served", error)
                self._take_over()
                version = self._follower.version()
            if version != self._seen:
                self._catalog.check_schema()
                found: dict[str, MountEntry] = {}
                for entry in mount_entries(self._catalog, self._request.only):
                    # A name that is UTF-8 comes before one that looks like it.
                    name = export_name(entry.name)
                    if name == entry.name or name not in found:
                        found[name] = entry
                self._entries, self._seen = found, version
            return self._entries

    def _take_over(self) -> None:
        self._follower.close()
        if self._request.check_trust:
            check_catalog(self._catalog.path)
        self._catalog.take_what_is_there()
        self._seen = None

    def default(self) -> str:
        """Return the name of the one image that is served; of several or none, no name.

        Raises:
            As `entries`.
        """
        entries = self.entries()
        if self._request.public_only and len(entries) > 1:
            names = [each.name for each in self.listed()]
        else:
            names = list(entries)
        return names[0] if len(names) == 1 else ""

    def listed(self) -> list[Listed]:
        """Return those that can be opened, as far as `stat` tells.

        A client that lists exports opens each, and gives up at the first that it cannot.

        Raises:
            As `entries`.
        """
        entries = self.entries()
        images = self._catalog.list_images()
        observed = Observed(images, self._catalog.parts())
        known = {row.id: (row, volumes) for row, volumes in images}
        if self._request.public_only:
            self._permissions.look_at_all([entry.image_id for entry in entries.values()])
        found = []
        for name, entry in entries.items():
            row, volumes = known.get(entry.image_id, (None, ()))
            if row is None or observed.status(row.id) not in READABLE:
                continue
            if not all(os.access(each.path, os.R_OK, effective_ids=True) for each in volumes):
                continue
            if self._request.public_only and not everybody_may(self._permissions.known(row.id)[0]):
                continue
            if len(name.encode()) <= _LONGEST_NAME:
                found.append(Listed(name, f"{row.format} {row.fs_type}"))
        return found

    def open(self, name: str) -> Export:
        """Open an image for one more connection; it is closed with `release`.

        Args:
            name: of the export, as the client gives it; it is looked up among the catalog's names
                and never taken as a path. Without one, the one image that is served is meant.

        Raises:
            ImageNotFoundError: no image that is served has the name.
            PermissionError: not everybody may read it, where nobody knows who asks.
            As `open_watched`.
        """
        entry = self.entries().get(name or self.default())
        if entry is None:
            raise ImageNotFoundError(
                "an image must be named: there are several, or none"
                if not name
                else f"{legible(name)!r}: no image that is served has this name"
            )
        self._check_content(entry)
        files = self._public_files(entry) if self._request.public_only else None
        export = self._open_shared(entry)
        if files is not None and not export.reader.files <= files:
            self.release(export)
            raise ImageChangedError(f"{entry.name}: is another file than before: open it again")
        return export

    def release(self, export: Export) -> None:
        """Tell that a connection has ended; what nobody uses any more is closed."""
        with self._lock:
            export.users -= 1
            if export.users:
                return
            if self._open.get(export.content_key) is export:
                del self._open[export.content_key]
        export.reader.close()

    def _check_content(self, entry: MountEntry) -> None:
        """Refuse another content than the first, where something above keeps bytes of that."""
        if not self._request.one_content:
            return
        with self._lock:
            first = self._only_content = self._only_content or entry.content_key
        if first != entry.content_key:
            raise ScannedAnewError(
                f"{entry.name}: was scanned anew at {utc_now()} or before: start the server again"
            )

    def _public_files(self, entry: MountEntry) -> frozenset[FileIdentity]:
        """Return the files of an image that everybody may read."""
        judged = self._permissions.look(entry.image_id)
        if not everybody_may(judged.permissions):
            raise PermissionError(
                errno.EACCES,
                f"not everybody may read its files: serve it on a socket: {entry.name}",
            )
        return judged.files

    def _open_shared(self, entry: MountEntry) -> Export:
        """Open an image, or return what is open where its files are still what they were."""
        key = entry.content_key
        with self._lock:
            known = self._open.get(key)
            if known is not None:
                known.users += 1
        if known is not None:
            try:
                if known.reader.is_current():
                    return known
            except BaseException:
                self.release(known)
                raise
            self.release(known)
        reader = open_watched(self._catalog, entry.image_id, content_key=key, shared=self._shared)
        reader.load_index()
        export = Export(entry.name, key, reader)
        with self._lock:
            # Of two that are opened at once, the later one serves who comes next.
            self._open[key] = export
        return export
