"""The pyfuse3 adapter: kernel requests to tree and readers.

Every handler raises only `pyfuse3.FUSEError`: any other exception that left one would end the
whole mount. What goes wrong with an image is logged with its name and becomes an errno for that
one request.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    NoReturn,
    ParamSpec,
    TypeVar,
    TypeVarTuple,
)  # fmt: skip

import pyfuse3
import trio

from ..catalog.errors import ScannedAnewError
from ..catalog.opening.errnos import errno_of, is_expected
from ..catalog.opening.permissions import own_permissions
from . import attributes as attributes_of
from .access import Access, Answer
from .buffers import MOST, Buffers
from .catching_up import CatchingUp
from .guarding import guarded
from .insides import Insides
from .open_readers import OpenReaders
from .tree import ROOT_INODE, Tree, handle_of, is_inside
from .volumes import InsideFile, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from ..catalog.opening.permissions import KnownPermissions
    from ..catalog.records import MountEntry
    from .listings import Listings
    from .open_readers import Opener
    from .receiving import Turns
    from .tree import Applied, Changes, Node
    from .volumes import Volumes

log = logging.getLogger("imgcat.mount")

_MOST_CATCHING_UP = 2.0
"""Seconds that an open waits until the catalog was looked at again."""

_LOOK_AHEAD = 32
"""Files of which it is found out beforehand who may read them."""

_NAME_MAX = 255

_USUAL = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP}
"""What happens to whoever asks for names that are not there; no log tells of it."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Args = TypeVarTuple("_Args")


class Operations(pyfuse3.Operations):
    """The handlers of one mount.

    Nothing that one handler remembers is needed by another: a handle is the key of a content, and a
    directory is listed from the place where the last answer ended. So several processes can serve
    one mount.

    Args:
        opener: opens the image of an entry; it may block.
        permissions: who may read the images.
        turns: who receives the next request; passed on before a handler waits.
        inside: the file systems of the images and what is kept of them, where their files are shown
            too; None where they are not.
        is_real: whether the files inside are shown with the owners and modes that they have there.
        on_short_of_memory: told that there was too little for a request, and of which.

    Attributes:
        kernel_is_there: set when the kernel has begun to talk to the mount.
        catching_up: asked for a look at the catalog where what is shown is outdated.
    """

    supports_dot_lookup = True

    def __init__(
        self,
        opener: Opener,
        permissions: KnownPermissions,
        turns: Turns,
        on_short_of_memory: Callable[[str], None] = lambda _why: None,
        *,
        inside: tuple[Volumes, Listings] | None = None,
        is_real: bool = False,
    ) -> None:
        super().__init__()
        self._on_short_of_memory = on_short_of_memory
        self._turns = turns
        self.kernel_is_there = trio.Event()
        self.catching_up = CatchingUp()
        self._tree = Tree(with_files=inside is not None)
        self._volumes: Volumes | None = None if inside is None else inside[0]
        listings = None if inside is None else inside[1]
        self._readers = OpenReaders(
            opener,
            self._in_thread,
            *([] if self._volumes is None else [self._volumes.open_file_nowait]),
        )
        self._open_readers = self._readers.get
        self._access = Access(permissions, self._in_thread, self._wait_for)
        self._insides = None
        if self._volumes is not None and listings is not None:
            self._insides = Insides(
                self._volumes, listings, self._access, self._in_thread, is_real=is_real
            )
        self._doubtful: set[int] = set()
        self._invalidating = trio.CapacityLimiter(1)
        self._last_place = 0
        self._changed_ns = time.time_ns()
        self._uid, self._gid = os.getuid(), os.getgid()
        self._buffers = Buffers()
        # The hot path takes them from here.
        self._views = self._buffers.views

    @property
    def image_count(self) -> int:
        """The number of images shown."""
        return self._tree.image_count

    def show(self, changes: Changes | None) -> Applied | None:
        """Show what has changed from now on. Files that are open go on working.

        Returns:
            What the kernel must forget; see `let_kernel_forget`.
        """
        if changes is None:
            return None
        applied = self._tree.apply(changes)
        for gone in applied.unlinked:
            pyfuse3.invalidate_entry_async(
                pyfuse3.InodeT(gone.parent_inode),
                pyfuse3.FileNameT(gone.name),
                deleted=pyfuse3.InodeT(0),
                ignore_enoent=True,
            )
        self._doubtful.update(applied.reused)
        self._changed_ns = time.time_ns()
        return applied

    async def let_kernel_forget(self, applied: Applied | None) -> None:
        """Have the kernel forget the data of inode numbers that stand for other contents now.

        And of others what `stat` told: by that, it judges who may read.
        """
        if applied is None:
            return
        for inode in applied.reused:
            await self._invalidate(inode, attr_only=False)
        for inode in applied.touched:
            await self._invalidate(inode, attr_only=True)

    async def _invalidate(self, inode: int, *, attr_only: bool) -> None:
        try:
            # In a thread: the kernel waits for reads of it that are under way.
            await trio.to_thread.run_sync(
                pyfuse3.invalidate_inode, pyfuse3.InodeT(inode), attr_only,
                limiter=self._invalidating, abandon_on_cancel=True,
            )  # fmt: skip
        except OSError as error:
            if error.errno != errno.ENOENT:
                log.warning("inode %d stays cached: %s", inode, error)

    def close_files(self) -> None:
        """Close what is still open, when the mount has ended."""
        self._readers.close()
        if self._volumes is not None:
            self._volumes.close()

    # -- names and attributes ----------------------------------------------

    def init(self) -> None:
        """Tell that the mount is usable."""
        self.kernel_is_there.set()

    @guarded
    async def lookup(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        """Find a name in a directory."""
        if is_inside(parent_inode):
            return await self._ask_inside("look-up", Insides.lookup, parent_inode, name)
        if name == b".":
            node = self._tree.node(parent_inode)
        elif name == b"..":
            here = self._tree.node(parent_inode)
            node = here and (here.parent or here)
        else:
            node = self._tree.child(parent_inode, name)
        if node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        if node.entry is not None:
            self._look_ahead(parent_inode, node, node.entry)
        return await self._current_attributes(node)

    def _look_ahead(self, parent_inode: int, node: Node, entry: MountEntry) -> None:
        """Where files are asked for in their order, have a thread look who may read the next ones.

        So that not each of them is waited for.
        """
        is_next = 0 < node.place - self._last_place <= _LOOK_AHEAD
        self._last_place = node.place
        if is_next and not self._access.known(entry).seconds:
            following = self._tree.children(parent_inode, node.place, _LOOK_AHEAD)
            self._access.refresh([each.entry for each in following if each.entry is not None])

    @guarded
    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Do nothing: nothing is kept for the kernel's sake."""

    @guarded
    async def getattr(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        """Return what `stat` tells, also of a file that has no name any more but is open."""
        node = self._tree.node(inode)
        if node is None:
            if is_inside(inode) and self._tree.image_around(inode) is not None:
                return await self._ask_inside("stat", Insides.getattr, inode)
            known = self._readers.of_inode(inode)
            if known is not None:
                # Nobody can open it any more.
                answer = Answer(own_permissions(), attributes_of.LONG)
                if isinstance(known.entry, InsideFile):
                    return attributes_of.of_open_file(known.entry, known.size, answer)
                return attributes_of.of_image(inode, known.entry, answer)
        return await self._current_attributes(self._node(inode))

    @guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:  # noqa: ARG002
        """Return the sizes of all images together."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = -(-self._tree.size_bytes // 4096)
        data.f_files = self._tree.image_count
        data.f_namemax = _NAME_MAX
        return data

    @guarded
    async def readlink(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.FileNameT:
        """Return where a link inside of an image leads: nowhere but into that."""
        target = await self._ask_inside("link", Insides.readlink, inode)
        return pyfuse3.FileNameT(target)

    @guarded
    async def listxattr(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> Sequence[pyfuse3.XAttrNameT]:
        """Return the names of a file's extended attributes; images have none."""
        if not is_inside(inode):
            return []
        names = await self._ask_inside("attributes", Insides.listxattr, inode)
        return [pyfuse3.XAttrNameT(each) for each in names]

    @guarded
    async def getxattr(
        self,
        inode: pyfuse3.InodeT,
        name: pyfuse3.XAttrNameT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> bytes:
        """Return an extended attribute of a file; images have none."""
        found = None
        if is_inside(inode):
            found = await self._ask_inside("attributes", Insides.getxattr, inode, name)
        if found is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return found

    # -- directories -------------------------------------------------------

    @guarded
    async def opendir(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.FileHandleT:
        """Check that it is a directory; listing remembers nothing."""
        if is_inside(inode):
            # The kernel knows that it is one.
            return pyfuse3.FileHandleT(inode)
        if not self._node(inode).is_directory:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return pyfuse3.FileHandleT(inode)

    @guarded
    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """List the directory from behind the place `start_id` on.

        Waits for nothing, but where it is inside of an image.
        """
        if is_inside(fh):
            await self._ask_inside("listing", Insides.readdir, fh, start_id, token)
            return
        nodes = self._tree.children(fh, start_id)
        if start_id == 0:
            self._access.refresh([node.entry for node in nodes if node.entry is not None])
        for node in nodes:
            name = pyfuse3.FileNameT(node.name)
            if not pyfuse3.readdir_reply(token, name, self._attributes(node), node.place):
                break

    @guarded
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """Do nothing: nothing was kept."""

    # -- files -------------------------------------------------------------

    @guarded
    async def open(
        self,
        inode: pyfuse3.InodeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.FileInfo:
        """Open an image, if its files may be read, and still are the ones that were scanned."""
        if is_inside(inode):
            image, handle = self._around(inode), inode
            assert self._insides is not None
            entry: MountEntry | InsideFile = self._insides.file(image, inode)
        else:
            entry = image = self._entry(inode)
            handle = handle_of(image)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        if inode in self._doubtful:
            # The kernel may mean the content that the number stood for before: it looks the name up
            # again, and tells by the generation.
            self._doubtful.discard(inode)
            raise pyfuse3.FUSEError(errno.ESTALE)
        try:
            judged = await self._access.may_open(image, ctx)
        except PermissionError:
            raise pyfuse3.FUSEError(errno.EACCES) from None
        try:
            known = await self._readers.open(handle, entry)
        except ScannedAnewError:
            await self._catch_up()
        except Exception as error:  # noqa: BLE001 - each becomes an errno and a line in the log
            self._fail(entry.name, "open", error)
        if judged is not None and not known.reader.files <= judged:
            # A path led elsewhere when it was judged than when it was opened.
            self._readers.release(handle)
            raise pyfuse3.FUSEError(errno.EACCES)
        # Of a file that was touched, what the kernel has cached may be from before.
        is_kept = not known.reader.was_touched
        return pyfuse3.FileInfo(
            fh=pyfuse3.FileHandleT(handle),
            # Of a block device, which others may write to, nothing is kept.
            keep_cache=is_kept and not image.is_live,
            direct_io=image.is_live,
        )

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Return guest bytes, fewer than asked for only at the image's end.

        Not `_guarded`: it is the hot path, and catches everything itself.
        """
        try:
            known = self._open_readers(fh)
            if known is not None:
                rest = known.size - off
                if size <= rest and size <= MOST:
                    view = self._views.get(size)
                    if view is None:
                        view = self._buffers.view(size)
                    if known.read_into_nowait(view, off):
                        # pyfuse3 takes any buffer, though it declares bytes.
                        return view  # type: ignore[return-value]
            return await self._read_waiting(fh, off, size)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - each becomes an errno and a line in the log
            self._fail(self._name(fh), f"read of {size} bytes at {off}", error)

    async def _read_waiting(self, handle: int, off: int, size: int) -> bytes:
        """Read what may have to be waited for, or lies at the end, or nobody has opened here."""
        known = self._open_readers(handle)
        if known is None:
            entry: MountEntry | InsideFile | None = self._tree.entry_of_handle(handle)
            if entry is None and is_inside(handle):
                entry = InsideFile(self._around(handle), number_of(handle))
            if entry is None:
                raise pyfuse3.FUSEError(errno.ESTALE)
            known = await self._readers.reading(handle, entry)
        size = min(size, known.size - off)
        if size <= 0:
            return b""
        if size <= MOST and off + size == known.size:
            # Of the end of a file, as much as there is was not asked for yet.
            view = self._buffers.scratch[:size]
            if known.read_into_nowait(view, off):
                return view  # type: ignore[return-value]
        known.reads += 1
        try:
            buffer = await self._in_thread(
                known.limiter, self._buffers.read, known.reader, off, size
            )
        finally:
            self._readers.done_reading(known)
        self._buffers.give_back(buffer)
        return buffer[:size]  # type: ignore[return-value]

    @guarded
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Close the image, if this was its last handle."""
        self._readers.release(fh)

    # -- helpers -----------------------------------------------------------

    async def _in_thread(
        self,
        limiter: trio.CapacityLimiter,
        function: Callable[[*_Args], _R],
        *args: *_Args,
    ) -> _R:
        """Call what may block."""
        try:
            with self._away():
                return await trio.to_thread.run_sync(
                    function, *args, limiter=limiter, abandon_on_cancel=True
                )
        except RuntimeError as error:
            if "start new thread" in str(error):
                raise MemoryError(str(error)) from error
            raise

    async def _wait_for(self, event: trio.Event) -> None:
        """Wait until another handler has done what this one needs too."""
        with self._away():
            await event.wait()

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        """Let another handler receive. The only place where one waits for anything."""
        self._turns.pass_on()
        self._turns.away += 1
        try:
            yield
        finally:
            self._turns.away -= 1

    async def _ask_inside(
        self,
        what: str,
        function: Callable[Concatenate[Insides, MountEntry, int, _P], Coroutine[Any, Any, _R]],
        inode: int,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        """Ask for what is inside of an image, and turn what goes wrong into an errno."""
        image = self._around(inode)
        assert self._insides is not None
        try:
            return await function(self._insides, image, inode, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except ScannedAnewError:
            await self._catch_up()
        except OSError as error:
            if error.errno in _USUAL and error.filename is None:
                raise pyfuse3.FUSEError(error.errno) from None
            self._fail(image.name, what, error)
        except Exception as error:  # noqa: BLE001 - each becomes an errno and a line in the log
            self._fail(image.name, what, error)

    async def _catch_up(self) -> NoReturn:
        """Wait until what was scanned anew is shown, and have the kernel look its name up again."""
        with trio.move_on_after(_MOST_CATCHING_UP):
            await self._wait_for(self.catching_up.ask())
        raise pyfuse3.FUSEError(errno.ESTALE) from None

    def _around(self, inode: int) -> MountEntry:
        """Return the image that a file is inside of."""
        image = self._tree.image_around(inode)
        if image is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return image

    def _node(self, inode: int) -> Node:
        node = self._tree.node(inode)
        if node is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return node

    def _entry(self, inode: int) -> MountEntry:
        entry = self._node(inode).entry
        if entry is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        return entry

    def _name(self, handle: int) -> str:
        known = self._open_readers(handle)
        entry = known.entry if known is not None else self._tree.entry_of_handle(handle)
        if entry is None and is_inside(handle):
            entry = self._tree.image_around(handle)
        return entry.name if entry else f"handle {handle}"

    def _fail(self, name: str, what: str, error: Exception) -> NoReturn:
        if isinstance(error, MemoryError):
            self._on_short_of_memory(f"{name}: {what}: {error or 'out of memory'}")
        elif is_expected(error):
            log.warning("%s: %s: %s", name, what, error)
        else:
            log.error("%s: %s failed", name, what, exc_info=error)
        raise pyfuse3.FUSEError(errno_of(error)) from None

    async def _current_attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        """Return what `stat` tells, also of a file of which it must be found out."""
        if node.entry is None:
            return self._attributes(node)
        if node.is_volume and self._insides is not None:
            found = await self._insides.root(node.entry)
            if found is not None:
                return found
        answer = await self._access.current(node.entry)
        making = attributes_of.of_volume if node.is_volume else attributes_of.of_image
        return making(node.inode, node.entry, answer)

    def _attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        """Return what is known of what `stat` tells."""
        if node.entry is not None:
            making = attributes_of.of_volume if node.is_volume else attributes_of.of_image
            return making(node.inode, node.entry, self._access.known(node.entry))
        return attributes_of.of_directory(
            node.inode, node.subdirectory_count, self._uid, self._gid, self._changed_ns
        )


__all__ = ["ROOT_INODE", "Operations"]
