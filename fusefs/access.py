"""Who may read the images of a mount: what is known of that, and finding it out in threads.

Nothing here looks at a file in the event loop. A look-up of one image waits for a thread, though
never for longer than `MOST_WAIT`: its files may lie on a share that does not answer, and then
nobody but the daemon's user may read it. A listing waits for nothing: it tells what is known, and
has a thread find out the rest.

Used in the event loop only.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pyfuse3
import trio

from ..catalog.opening.permissions import SUPERUSER, own_permissions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from ..catalog.opening.permissions import FileIdentity, KnownPermissions, Permissions
    from ..catalog.records import MountEntry

    InThread = Callable[..., Awaitable[Any]]
    WaitFor = Callable[[trio.Event], Awaitable[None]]

log = logging.getLogger("imgcat.mount")

MOST_WAIT = 2.0
"""Seconds that a look-up waits for files that do not answer."""

_MOST_STUCK = 1024
"""Threads that may wait for files that do not answer, beside those that look."""

_RETRY_SECONDS = 1.0
_THREADS = 32
"""Of those who look, and as many of those who open: one kind must not use up the other's."""


class Answer(NamedTuple):
    """Who may read an image, and for how many seconds the kernel may go by that."""

    permissions: Permissions
    seconds: float


class Access:
    """Who may read the images of a mount.

    Args:
        known: what is known of that; it may be used by several mounts.
        in_thread: calls a function in a thread, under a limiter.
        wait_for: waits for what another handler does.
    """

    def __init__(self, known: KnownPermissions, in_thread: InThread, wait_for: WaitFor) -> None:
        self._known = known
        self._in_thread = in_thread
        self._wait_for = wait_for
        self._looking = trio.CapacityLimiter(_THREADS)
        self._opening = trio.CapacityLimiter(_THREADS)
        self._awaited: dict[int, trio.Event] = {}
        self._given_up: dict[int, trio.CapacityLimiter] = {}
        self._refresher = _Refresher(known)

    def known(self, entry: MountEntry) -> Answer:
        """Return what is known of an image; if nothing is, that the daemon's user alone may read.

        That holds for 0 seconds: the kernel asks again before it goes by it.
        """
        return Answer(*self._known.known(entry.image_id))

    async def current(self, entry: MountEntry) -> Answer:
        """Return who may read an image, as was found in the last seconds, or is now."""
        image_id = entry.image_id
        answer = self.known(entry)
        if answer.seconds:
            return answer
        event = self._awaited.get(image_id)
        if event is not None:
            await self._wait_for(event)
        elif not self._is_stuck(image_id):
            event = self._awaited[image_id] = trio.Event()
            try:
                with trio.move_on_after(MOST_WAIT) as waiting:
                    await self._in_thread(self._looking, self._known.look, image_id)
                if waiting.cancelled_caught:
                    self._give_up(image_id, self._looking)
            finally:
                del self._awaited[image_id]
                event.set()
        answer = self.known(entry)
        return answer if answer.seconds else Answer(own_permissions(), _RETRY_SECONDS)

    async def may_open(
        self, entry: MountEntry, ctx: pyfuse3.RequestContext
    ) -> frozenset[FileIdentity] | None:
        """Check that who asks may read an image, by what its files say at this moment.

        The kernel has judged by what it was told some seconds ago. For the superuser, nothing need
        be looked up.

        Returns:
            The files that this was told from: what is opened must be of these. None where it does
            not matter, for who asks may read whatever this program can.

        Raises:
            PermissionError: who asks may not.
        """
        if ctx.uid in {SUPERUSER, os.geteuid()}:
            return None
        files: frozenset[FileIdentity] | None = None
        if not self._is_stuck(entry.image_id):
            with trio.move_on_after(MOST_WAIT) as waiting:
                files = await self._in_thread(
                    self._opening, self._look_for, entry.image_id, ctx.uid, ctx.gid, ctx.pid
                )
            if waiting.cancelled_caught:
                self._give_up(entry.image_id, self._opening)
        if files is None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return files

    def refresh(self, entries: Sequence[MountEntry]) -> None:
        """Have a thread find out about those of which nothing is known. Waits for nothing."""
        unknown = [each.image_id for each in entries if not self.known(each).seconds]
        if unknown:
            self._refresher.look_at(unknown)

    def _look_for(
        self, image_id: int, uid: int, gid: int, pid: int
    ) -> frozenset[FileIdentity] | None:
        """Return the files of an image that a user may read, None if the user may not."""
        found = self._known.look(image_id)
        groups = None if uid == found.permissions.uid else _groups(gid, pid)
        return found.files if found.permissions.allow(uid, groups) else None

    def _give_up(self, image_id: int, limiter: trio.CapacityLimiter) -> None:
        """Remember an image whose files do not answer; its thread is no other image's loss."""
        if image_id not in self._given_up and len(self._given_up) < _MOST_STUCK:
            self._given_up[image_id] = limiter
            limiter.total_tokens += 1

    def _is_stuck(self, image_id: int) -> bool:
        """Tell whether a look at its files has not come back for too long to begin another."""
        since = self._known.waits_since(image_id)
        if since is None:
            limiter = self._given_up.pop(image_id, None)
            if limiter is not None:
                limiter.total_tokens -= 1
            return False
        return image_id in self._given_up or time.monotonic() - since > MOST_WAIT


def _groups(gid: int, pid: int) -> set[int] | None:
    """Return the groups of a process that waits for an answer; None if it is out of sight."""
    try:
        return {gid, *pyfuse3.get_sup_groups(pid)}
    except (OSError, RuntimeError, ValueError) as error:
        log.info("process %d: its groups cannot be looked up: %s", pid, error)
        return None


class _Refresher:
    """Looks at many images' files in a thread of its own.

    The thread is started when it is first needed, in each process that needs it.
    """

    def __init__(self, known: KnownPermissions) -> None:
        self._known = known
        self._wanted: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def look_at(self, image_ids: list[int]) -> None:
        """Have these looked at soon."""
        self._wanted.put(image_ids)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._known.look_at_all(self._wanted.get())
