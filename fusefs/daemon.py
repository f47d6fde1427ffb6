"""The daemon: mount, serve, follow the catalog, unmount. One mount a process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import resource
import signal
import threading
from typing import TYPE_CHECKING, NamedTuple

import pyfuse3
import trio

from ..catalog.database.moment import utc_now
from ..catalog.database.runtime import held, remove
from ..catalog.errors import CatalogError
from ..catalog.opening.open import open_watched
from ..catalog.opening.permissions import KnownPermissions
from ..catalog.opening.trust import check_catalog
from ..catalog.store import Catalog, default_path
from ..catalog.upkeep.damage import DamageRecorder
from ..filesystems.process import Workers
from . import mounts, receiving
from .errors import MountError
from .following import REFRESH_SECONDS, Following
from .indexer import indexing
from .memory import Memory
from .mount_target import MountTarget
from .operations import Operations
from .request import STOPPING
from .tree import FILES, Planner
from .volumes import InsideFile, Volumes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from ..catalog.opening.watched import WatchedReader
    from ..catalog.records import MountEntry
    from ..filesystems.process import WorkerFailure
    from .request import MountRequest
    from .volumes import InsideReader

log = logging.getLogger("imgcat.daemon")

READ_AHEAD_KB = 4096
"""Buffered reads are this far ahead; the kernel's 128 KiB would cost two thirds of the speed."""

_MAX_BACKGROUND = 256
"""Read-ahead requests in flight for the whole mount: a slow image must not use up all of them."""

_GRACE_SECONDS = 0.8
"""How long requests that are under way have, when the daemon is told to end: what waits for a
device that does not answer would wait for ever."""

_CLOSING_SECONDS = 3.0
"""How long the closing of files has then, for the same reason. Indexes of files that are left open
stay in the catalog until somebody changes it."""

_MAX_TASKS = 1024
"""Requests that are served at the same time; those of a disk that hangs are among them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """What the daemon tells when the mount is usable."""

    mount_point: str
    image_count: int
    allow_other: bool


def serve(
    request: MountRequest, on_ready: Callable[[Ready], None], notify: Callable[[str], None]
) -> None:
    """Mount, and serve until the mount is unmounted or a signal says to stop.

    Args:
        request: what to mount where.
        on_ready: called once when the mount is usable.
        notify: told in words what the user should know.

    Raises:
        MountError: the mount could not be made.
        UntrustedCatalogError: somebody else could have written the catalog.
        ImageNotFoundError: an image that is asked for is not in the catalog.
        CatalogError: the catalog cannot be used.
    """
    with _catalog_of(request):
        _serve(request, on_ready, notify)


@contextlib.contextmanager
def _catalog_of(request: MountRequest) -> Iterator[None]:
    """Have the catalog for the time of the block; one that was made for this mount goes then."""
    if request.is_temporary and request.catalog_path is not None:
        with held(os.path.dirname(request.catalog_path)):
            yield
    else:
        yield


def _serve(
    request: MountRequest, on_ready: Callable[[Ready], None], notify: Callable[[str], None]
) -> None:
    mount_point = mounts.real_path(request.mount_point)
    notice = mounts.prepare_mount_point(mount_point)
    if notice:
        notify(notice)
    with MountTarget(mount_point) as target:
        mounts.check_fuse_device()
        _serve_on(target, request, on_ready, notify)


def _serve_on(
    target: MountTarget,
    request: MountRequest,
    on_ready: Callable[[Ready], None],
    notify: Callable[[str], None],
) -> None:
    mount_point = target.path
    allow_other = mounts.decide_allow_other(request.allow_other)
    check = None
    if (allow_other or os.geteuid() == 0) and not request.trust_catalog:
        check = functools.partial(check_catalog, request.catalog_path or default_path())
        # Before it is opened: that takes it from others, and what they wrote would pass.
        check()
    _raise_file_limit()
    with Catalog.open_to_ask(request.catalog_path, notify) as catalog:
        only = _chosen(catalog, request)
        facts = {
            "pid": os.getpid(),
            "mount_point": mount_point,
            "catalog": catalog.path,
            "log_file": request.log_file,
            "started_at": utc_now(),
            "images": None if request.images is None else list(request.images),
            "files": request.files,
            "real_modes": request.real_modes,
        }
        with mounts.daemon_record(mount_point, facts):
            with catalog.pins.held(notify) as pinned:
                if not pinned:
                    log.info("%s.lock cannot be made: removed images end at once", catalog.path)
                recorder = DamageRecorder(catalog.path)
                memory = Memory(request.memory, compare=request.compare, on_broken=recorder.tell)
                serving = _Serving(
                    memory, on_ready, allow_other, check, request.files, request.real_modes,
                    recorder.tell_of_worker,
                )  # fmt: skip
                with _indexing(catalog, request):
                    _mount_and_run(catalog, target, only, serving)
            # Before the record goes: who waits for the end of this daemon finds it done.
            if request.is_temporary:
                remove(os.path.dirname(catalog.path))
            else:
                _purge(request.catalog_path)


def _indexing(catalog: Catalog, request: MountRequest) -> contextlib.AbstractContextManager[None]:
    if not request.index:
        return contextlib.nullcontext()
    return indexing(catalog.path, request.log_file)


def _purge(path: str | None) -> None:
    """Delete the indexes that this daemon has kept, unless another one still needs them."""
    try:
        with Catalog.open(path) as catalog:
            catalog.purge()
    except CatalogError as error:
        log.info("unused indexes stay until the next change: %s", error)


def _chosen(catalog: Catalog, request: MountRequest) -> Sequence[int] | None:
    if request.images is None:
        return None
    return catalog.resolve_many(request.images, directory=request.directory)


class _Serving(NamedTuple):
    """How a mount is served; `check` raises where another catalog is not to be trusted.

    `files` and `real_modes` are as in `MountRequest`. `on_worker_failure` is told what readers of
    file systems have failed over.
    """

    memory: Memory
    on_ready: Callable[[Ready], None]
    allow_other: bool
    check: Callable[[], None] | None
    files: bool
    real_modes: bool
    on_worker_failure: Callable[[MountEntry, WorkerFailure], None]


def _mount_and_run(
    catalog: Catalog, target: MountTarget, only: Sequence[int] | None, serving: _Serving
) -> None:
    async def tell_when_usable() -> None:
        # The kernel resets its read-ahead in the hand-shake, so it is set after that.
        await operations.kernel_is_there.wait()
        _tune(mount_point)
        serving.on_ready(Ready(mount_point, operations.image_count, serving.allow_other))

    memory = serving.memory
    mount_point, shared = target.path, memory.shared

    def open_image(entry: MountEntry) -> WatchedReader:
        return open_watched(catalog, entry.image_id, content_key=entry.content_key, shared=shared)

    def open_entry(entry: MountEntry | InsideFile) -> WatchedReader | InsideReader:
        if isinstance(entry, InsideFile):
            return volumes.open_file(entry)
        reader = open_image(entry)
        # So that the first read, too, is served without a thread.
        reader.load_index()
        return reader

    permissions = KnownPermissions(catalog.image_files)

    def tell_failure(image: MountEntry, failure: WorkerFailure) -> None:
        log.warning("%s: the reader of its file system: %s", image.name, failure)
        serving.on_worker_failure(image, failure)

    volumes = Volumes(
        open_image, Workers(memory.most_workers), tell_failure, memory.listings.budget
    )
    operations = Operations(
        open_entry, permissions, receiving.install(), memory.shrink,
        inside=(volumes, memory.listings) if serving.files else None,
        is_real=serving.real_modes,
    )  # fmt: skip
    planner = Planner(only, FILES if serving.files else None)
    operations.show(planner.plan(catalog.mount_rows()))
    options = {
        "default_permissions", "ro", "nosuid", "nodev", "fsname=imgcat", "subtype=imgcat",
    }  # fmt: skip
    if serving.allow_other:
        options.add("allow_other")
    try:
        pyfuse3.init(operations, target.name, options)
    except RuntimeError as error:
        raise MountError(f"{mount_point}: could not be mounted ({error})") from error
    try:
        target.check_covered()
        shared.own_device = permissions.own_device = _device_number(mount_point)
        log.info("%s: mounted, %d images", mount_point, operations.image_count)
        following = Following(catalog, operations, planner, serving.check)
        trio.run(_run, following, memory, tell_when_usable)
    finally:
        is_closed = _close_files(operations)
        # Harmless if it was unmounted from outside: the kernel then has no such mount any more.
        # Of one that is in use, the name goes at once, and the rest with this process.
        pyfuse3.close(unmount=target.aim_at_mount())
        log.info("%s: unmounted", mount_point)
        if not is_closed:
            log.warning("%s: a device does not answer: its files are left open", mount_point)


def _close_files(operations: Operations) -> bool:
    """Close what is open, and tell whether that was done in time: a device may not answer."""
    closing = threading.Thread(target=operations.close_files, name="closing", daemon=True)
    closing.start()
    closing.join(_CLOSING_SECONDS)
    return not closing.is_alive()


async def _run(
    following: Following, memory: Memory, tell_when_usable: Callable[[], Awaitable[None]]
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_when_usable)
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        nursery.start_soon(following.run)
        nursery.start_soon(_watch_memory, memory)
        await pyfuse3.main(max_tasks=_MAX_TASKS)
        nursery.cancel_scope.cancel()


async def _watch_memory(memory: Memory) -> None:
    """Shrink the caches before the system has to end the daemon."""
    while memory.limit is not None:
        try:
            await trio.to_thread.run_sync(memory.look, abandon_on_cancel=True)
        except Exception:
            # No descriptor or no thread is left: the mount goes on without this look.
            log.exception("what is in use of the memory cannot be told")
        await trio.sleep(REFRESH_SECONDS)


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    """End the main loop at the first signal, and soon after it whatever still waits for a device.

    A second signal does not wait that long.
    """
    with trio.open_signal_receiver(*STOPPING) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        log.info("stopping: %s", signal.Signals(await anext(signals)).name)
        pyfuse3.terminate()
        with trio.move_on_after(_GRACE_SECONDS):
            log.info("stopping: %s again", signal.Signals(await anext(signals)).name)
        log.warning("stopping: requests that still wait for a device are given up")
        scope.cancel()


def _device_of(mount_point: str) -> str | None:
    """Return the ``major:minor`` of the topmost mount there, without touching it."""
    points = (point for point in mounts.mount_points()[::-1] if point.path == mount_point)
    return next((point.device for point in points), None)


def _device_number(mount_point: str) -> int | None:
    device = _device_of(mount_point)
    return None if device is None else os.makedev(*map(int, device.split(":")))


def _tune(mount_point: str) -> None:
    """Let the kernel read further ahead, where this user may set that."""
    device = _device_of(mount_point)
    if device is None:
        return
    minor = device.partition(":")[2]
    settings = {
        f"/sys/class/bdi/{device}/read_ahead_kb": READ_AHEAD_KB,
        f"/sys/fs/fuse/connections/{minor}/max_background": _MAX_BACKGROUND,
        f"/sys/fs/fuse/connections/{minor}/congestion_threshold": _MAX_BACKGROUND * 3 // 4,
    }
    for path, value in settings.items():
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(value))
        except OSError as error:
            log.info("%s stays as it is: %s", path, error.strerror)


def _raise_file_limit() -> None:
    """Allow as many open files as the system grants: each open image takes one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
