"""The files inside of images, as a mount shows them: ``DIR/files/NAME/…``.

In the event loop only, and nothing here waits in it: what is not known is asked for in a thread, of
which each image has a few, so that one whose disk hangs holds up no other.
"""

from __future__ import annotations

import collections
import errno
import logging
import os
import stat
import time
import weakref
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import pyfuse3
import trio

from ..filesystems.paths import inside_link, needs_place
from .access import MOST_WAIT
from .attributes import OfFiles, of_root
from .places import Places
from .volumes import ROOT, InsideFile, inode_in, number_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..catalog.records import MountEntry
    from ..filesystems.listing import Listing
    from ..filesystems.worker.wire import Entry
    from .access import Access, Answer
    from .listings import Listings
    from .volumes import Volumes

    InThread = Callable[..., Awaitable[Any]]

_R = TypeVar("_R")
_Args = TypeVarTuple("_Args")

log = logging.getLogger("imgcat.mount")

_THREADS_PER_IMAGE = 4

_SILENT_SECONDS = 30.0
"""Seconds for which a file system is not asked for its root again, where it could not tell."""

_LISTED_AFTER = 3
"""Names that are looked up in a directory one by one; from then on, all of it is read at once."""

_MOST_ENTRIES = 4096
"""Files of which it is kept what was found, beside the directories that are kept whole."""

_MOST_ATTRIBUTED, _MOST_BYTES = 256, 1 << 14
"""Files of which extended attributes are kept, and how many bytes of one."""

_MOST_LISTED = 64
"""Images of which it is kept which files were listed last."""

_MOST_IN_ORDER = 8192
_NEXT = 63
"""Files that are looked up with one, where files are opened in the order in which they are."""

OWNER, MODE, TARGET = b"imgcat.owner", b"imgcat.mode", b"imgcat.target"
"""Attributes that tell what the file system has where a mount shows something else. They are in no
list of names, so that nobody copies them."""


class Insides:
    """The files inside of the images of one mount.

    Args:
        volumes: the file systems.
        listings: directories that are kept.
        access: who may read the images.
        in_thread: calls a function in a thread, under a limiter.
        is_real: whether owners and modes are shown that the file systems have.
    """

    def __init__(
        self,
        volumes: Volumes,
        listings: Listings,
        access: Access,
        in_thread: InThread,
        *,
        is_real: bool,
    ) -> None:
        self._volumes = volumes
        self._listings = listings
        self._access = access
        self._in_thread = in_thread
        self._is_real = is_real
        self._limiters: weakref.WeakValueDictionary[int, trio.CapacityLimiter] = (
            weakref.WeakValueDictionary()
        )
        # By the key of what the image holds, and the number of the file.
        self._entries: _Kept[Entry] = _Kept(_MOST_ENTRIES)
        self._places = Places()
        self._attributes: _Kept[dict[bytes, bytes]] = _Kept(_MOST_ATTRIBUTED)
        self._silent: _Kept[float] = _Kept(_MOST_ENTRIES)
        self._missed: _Kept[int] = _Kept(_MOST_ENTRIES)
        self._has_owners: _Kept[bool] = _Kept(_MOST_ENTRIES)
        self._listed: _Kept[_Listed] = _Kept(_MOST_LISTED)

    # -- names and attributes ----------------------------------------------

    async def lookup(
        self, image: MountEntry, parent_inode: int, name: bytes
    ) -> pyfuse3.EntryAttributes:
        """Find a name in a directory.

        Raises:
            FileNotFoundError: there is none.
            Whatever `Volumes` raises.
        """
        parent = number_of(parent_inode)
        key = (image.content_key, parent)
        if name == b".":
            return await self.getattr(image, parent_inode)
        if name == b"..":
            above = self._places.parent(image, parent) if parent != ROOT else ROOT
            return await self.getattr(image, inode_in(image, above))
        known = self._listings.get(key)
        missed = self._missed.get(key) or 0
        if known is None and missed >= _LISTED_AFTER:
            known = await self._list(image, parent)
        if known is not None:
            if not known[0].has_index:
                await self._ask(image, known[0].index)
            found = known[0].find(name)
            if found is None and not known[0].is_whole:
                # It may be in what cannot be read.
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            entry = None if found is None else _normal(found, known[1])
        else:
            self._missed.put(key, missed + 1)
            entry = await self._ask(image, self._volumes.find, image, parent, name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._remember(image, parent, entry)
        self._entries.put((image.content_key, entry.inode), entry)
        return await self._attributes_of(image, entry)

    async def root(self, image: MountEntry) -> pyfuse3.EntryAttributes | None:
        """Return what `stat` tells of the root directory; None where that cannot be told, or soon.

        What is wrong with a file system is told to whoever looks into it.
        """
        key = (image.content_key, ROOT)
        entry = self._entries.get(key)
        if entry is None and time.monotonic() >= (self._silent.get(key) or 0):
            with trio.move_on_after(MOST_WAIT):
                try:
                    entry = await self.entry(image, inode_in(image, ROOT))
                except Exception as error:  # noqa: BLE001 - it is met again by who looks into it
                    log.info("%s: its root directory: %s", image.name, error)
        if entry is None:
            self._silent.put(key, time.monotonic() + _SILENT_SECONDS)
            return None
        return await self._attributes_of(image, entry)

    async def getattr(self, image: MountEntry, inode: int) -> pyfuse3.EntryAttributes:
        """Return what `stat` tells. Raises as `Volumes.stat`."""
        return await self._attributes_of(image, await self.entry(image, inode))

    async def entry(self, image: MountEntry, inode: int) -> Entry:
        """Return a file by its inode number. Raises as `Volumes.stat`."""
        key = (image.content_key, number_of(inode))
        entry = self._entries.get(key)
        if entry is None:
            found: Entry = await self._ask(image, self._volumes.stat, image, key[1])
            self._entries.put(key, found)
            return found
        return entry

    async def readlink(self, image: MountEntry, inode: int) -> bytes:
        """Return where a link leads, as a path that stays inside of the image.

        Raises:
            OSError: as `Places.place`: where ESTALE is told, the kernel looks the path up again.
            As `Volumes.stat`.
        """
        entry = await self.entry(image, inode)
        if not needs_place(entry.target):
            return entry.target
        place = self._places.place(image, number_of(inode))
        target = inside_link(entry.target, len(place.above) - 1)
        if target is None:
            if not place.is_only:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            target = await self._ask(image, self._volumes.way_to, image, entry.target, place.above)
        return target

    async def listxattr(self, image: MountEntry, inode: int) -> list[bytes]:
        """Return the names of a file's extended attributes."""
        return list(await self._attributes_in(image, inode))

    async def getxattr(self, image: MountEntry, inode: int, name: bytes) -> bytes | None:
        """Return an extended attribute of a file, None where it has none of that name."""
        if name in {OWNER, MODE, TARGET}:
            entry = await self.entry(image, inode)
            if name == TARGET:
                return entry.target if stat.S_ISLNK(entry.mode) else None
            if not await self._owners(image):
                return None
            return b"%d:%d" % (entry.uid, entry.gid) if name == OWNER else b"%o" % entry.mode
        return (await self._attributes_in(image, inode)).get(name)

    # -- directories -------------------------------------------------------

    async def readdir(
        self, image: MountEntry, inode: int, start: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """List a directory from behind the place `start` on. Raises as `Volumes.listing`."""
        number = number_of(inode)
        known = self._listings.get((image.content_key, number))
        if known is None:
            known = await self._list(image, number)
        listing, root = known
        if not start:
            self._listed.put((image.content_key, ROOT), _Listed())
        making = OfFiles(image, self._access.known(image), is_real=await self._shows_real(image))
        for place in range(start, len(listing)):
            entry = _normal(listing[place], root)
            attributes = making.of(inode_in(image, entry.inode), entry)
            name = pyfuse3.FileNameT(entry.name)
            if not pyfuse3.readdir_reply(token, name, attributes, place + 1):
                break
            self._remember(image, number, entry)
            if stat.S_ISREG(entry.mode):
                self._listed_in(image).add(entry.inode)

    # -- files -------------------------------------------------------------

    def file(self, image: MountEntry, inode: int) -> InsideFile:
        """Return what is to be opened."""
        number = number_of(inode)
        return InsideFile(image, number, self._listed_in(image).behind(number))

    # -- helpers -----------------------------------------------------------

    async def _list(self, image: MountEntry, number: int) -> tuple[Listing, int]:
        listing, root = await self._ask(image, self._volumes.listing, image, number)
        self._listings.put((image.content_key, number), listing, root)
        return listing, root

    async def _ask(self, image: MountEntry, function: Callable[[*_Args], _R], *args: *_Args) -> _R:
        limiter = self._limiters.get(image.content_key)
        if limiter is None:
            limiter = self._limiters[image.content_key] = trio.CapacityLimiter(_THREADS_PER_IMAGE)
        found: _R = await self._in_thread(limiter, function, *args)
        return found

    async def _attributes_of(self, image: MountEntry, entry: Entry) -> pyfuse3.EntryAttributes:
        answer: Answer = await self._access.current(image)
        if entry.inode == ROOT:
            is_real = await self._shows_real(image)
            return of_root(inode_in(image, ROOT), image, answer, entry, is_real=is_real)
        making = OfFiles(image, answer, is_real=await self._shows_real(image))
        return making.of(inode_in(image, entry.inode), entry)

    async def _shows_real(self, image: MountEntry) -> bool:
        return self._is_real and await self._owners(image)

    async def _owners(self, image: MountEntry) -> bool:
        key = (image.content_key, ROOT)
        known = self._has_owners.get(key)
        if known is None:
            known = await self._ask(image, self._volumes.has_owners, image)
            self._has_owners.put(key, known)
        return known

    async def _attributes_in(self, image: MountEntry, inode: int) -> dict[bytes, bytes]:
        key = (image.content_key, number_of(inode))
        known = self._attributes.get(key)
        if known is None:
            known = await self._ask(image, self._volumes.attributes, image, key[1])
            if sum(map(len, known.values())) <= _MOST_BYTES:
                self._attributes.put(key, known)
        return known

    def _listed_in(self, image: MountEntry) -> _Listed:
        """Return the files of the directory that was listed last."""
        key = (image.content_key, ROOT)
        known = self._listed.get(key)
        if known is None:
            known = _Listed()
            self._listed.put(key, known)
        return known

    def _remember(self, image: MountEntry, parent: int, entry: Entry) -> None:
        """Keep where a directory or a link is: that tells where a link leads."""
        if stat.S_ISDIR(entry.mode) or stat.S_ISLNK(entry.mode):
            self._places.put(image, entry.inode, parent)


def _normal(entry: Entry, root: int) -> Entry:
    return entry._replace(inode=ROOT) if entry.inode == root else entry


class _Listed:
    """The files of a directory, in the order in which it was listed: they may be opened in that."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}
        self._last = -1

    def add(self, number: int) -> None:
        """Add the next one."""
        if len(self._numbers) < _MOST_IN_ORDER:
            self._places[number] = len(self._numbers)
            self._numbers.append(number)

    def behind(self, number: int) -> tuple[int, ...]:
        """Return the files behind one that is opened, if the one before it was opened just now."""
        place = self._places.get(number)
        if place is None:
            return ()
        is_next = 0 <= place - self._last <= 1
        self._last = place
        return tuple(self._numbers[place + 1 : place + 1 + _NEXT]) if is_next else ()


class _Kept(collections.OrderedDict[tuple[int, int], _R]):
    """What was found of the last files that were looked at.

    Args:
        most: files.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: tuple[int, int], value: _R) -> None:
        """Keep something, in place of the longest unused."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
