"""Running nbdkit: its command line, its readiness, its end. Used in the main thread."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from ..catalog.database.runtime import held, new_directory, runtime_directory
from ..catalog.errors import CatalogError
from ..catalog.opening.entries import mount_entries
from ..catalog.opening.permissions import KnownPermissions
from ..catalog.opening.trust import check_catalog
from ..catalog.store import Catalog, default_path
from ..formats import temporary
from . import arguments
from .errors import ArgumentsError, ServeError
from .exports import everybody_may, export_name
from .program import find_nbdkit, script_text
from .request import PluginRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from .arguments import NbdkitArguments
    from .request import ServeRequest

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_SOCKET = 107
"""Bytes in the path of a socket. Source: unix(7), `sun_path` with its zero byte."""

_THREADS = "2"
"""Of each connection. Only one runs Python at a time: with more, they wait for each other, and
what the page cache holds is read a third more slowly with nbdkit's own 16."""

_GRACE_SECONDS = 1.0
"""How long clients that are connected have, once the server is told to end."""

_READY_SECONDS = 120.0
_POLL_SECONDS = 0.1
_LINES_KEPT = 20
_MOST_NAMED = 50
_PREFIX = "serve-"

_FIRST_PASSED_FD = 3
"""As systemd passes sockets: from 3 on. Source: sd_listen_fds(3)."""


class _Place(NamedTuple):
    """Where a server listens.

    Attributes:
        options: what tells nbdkit.
        socket: the path of a socket.
        is_made: whether nbdkit makes that socket.
        host: the host and the port of TCP, as a URI has them.
        passed: descriptors of sockets that somebody else listens on for us.
        is_private: whether only this user, and root, can connect.
    """

    options: tuple[str, ...] = ()
    socket: str | None = None
    is_made: bool = False
    host: str = ""
    passed: tuple[int, ...] = ()
    is_private: bool = False


class _Chosen(NamedTuple):
    """What is served: the ids, None for all, and the exports' names as far as they were named."""

    only: tuple[int, ...] | None
    names: tuple[str, ...]


def serve(
    request: ServeRequest, on_ready: Callable[[list[str]], None], notify: Callable[[str], None]
) -> None:
    """Serve until a signal says to stop.

    Args:
        request: what to serve where.
        on_ready: called once it accepts connections, with the URIs.
        notify: told in words what the user should know, nbdkit's messages among it.

    Raises:
        ServeError: nbdkit is missing, or has ended, or nothing can be served.
        ArgumentsError: an argument for nbdkit cannot be passed on, or not here.
        ImageNotFoundError: an image that is asked for is not in the catalog.
        UntrustedCatalogError: somebody else could have written the catalog.
        CatalogError: the catalog cannot be used.
    """
    extra = arguments.parse(request.arguments)
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(_stopped_by_signals())
        program = find_nbdkit()
        directory = stack.enter_context(_private_directory())
        place = _place(request, extra, directory)
        must_be_known = place.is_private or extra.knows_clients
        path = os.path.abspath(request.catalog_path or default_path())
        check_trust = not request.trust_catalog and (os.geteuid() == 0 or not must_be_known)
        if check_trust:
            check_catalog(path)
        with Catalog.open_to_ask(path, notify) as catalog:
            chosen = _choose(catalog, request, notify, public_only=not must_be_known)
        keeping = ("cow",) * request.cow + extra.keeping_filters
        if keeping and len(chosen.names) != 1:
            raise ArgumentsError(
                f"the filter {keeping[0]} takes all exports for one: name the one image to serve"
            )
        plugin = PluginRequest(
            path, chosen.only, public_only=not must_be_known, one_content=bool(keeping),
            check_trust=check_trust,
        )  # fmt: skip
        command = [
            program, "--exit-with-parent", *place.options,
            *(() if extra.has_threads else ("-t", _THREADS)), *extra.options,
            *(("--filter=cow",) if request.cow else ()),
            "python", os.path.join(directory, "serve.py"), *extra.parameters,
        ]  # fmt: skip
        if stopping.is_set():
            return
        stack.callback(_remove_socket, place)
        nbdkit = stack.enter_context(_running(command, place, plugin, notify))
        _watch(nbdkit, stopping, lambda: on_ready(uris(place, chosen.names, extra)))
    with contextlib.suppress(CatalogError), Catalog.open(path) as catalog:
        # What was kept because it was open.
        catalog.purge()


def uris(place: _Place, names: tuple[str, ...], extra: NbdkitArguments) -> list[str]:
    """Return a URI for each name; without names, that of the server."""
    scheme = "nbds" if extra.requires_tls else "nbd"
    if place.socket is not None:
        end = f"?socket={quote(place.socket)}"
        return [f"{scheme}+unix:///{quote(name, safe='/')}{end}" for name in names or ("",)]
    return [f"{scheme}://{place.host}/{quote(name, safe='/')}" for name in names or ("",)]


# -- where -----------------------------------------------------------------


def _place(request: ServeRequest, extra: NbdkitArguments, directory: str) -> _Place:
    passed = _passed_sockets()
    if passed:
        if request.port is not None or request.socket is not None or extra.address is not None:
            raise ArgumentsError("--port, --socket and an address: a socket has been passed to us")
        return _place_of_passed(passed, extra)
    if request.port is None:
        if extra.address is not None:
            raise ArgumentsError("an address is one of TCP: give --port too")
        path = os.path.abspath(request.socket) if request.socket else f"{directory}/nbd.sock"
        _check_socket(path)
        return _Place(("-U", path), socket=path, is_made=True, is_private=True)
    address = extra.address or arguments.LOOPBACK
    if not arguments.is_loopback(address) and not extra.requires_tls:
        raise ArgumentsError(
            f"{address}: others could connect: only with TLS, such as `-- --tls=require "
            "--tls-certificates=DIR --tls-verify-peer`"
        )
    host = f"[{address}]" if ":" in address else address
    options = ("-p", str(request.port), *(() if extra.address else ("-i", address)))
    return _Place(options, host=f"{host}:{request.port}")


def _place_of_passed(passed: tuple[int, ...], extra: NbdkitArguments) -> _Place:
    """Return where sockets listen that were passed to us, as systemd does."""
    is_private, path, host = True, None, ""
    for fd in passed:
        with socket.socket(fileno=os.dup(fd)) as each:
            name = each.getsockname()
            if each.family == socket.AF_UNIX:
                path = os.fsdecode(name)
                is_private = is_private and _is_private(path)
            else:
                is_private = False
                host = f"{name[0]}:{name[1]}"
                if not arguments.is_loopback(name[0]) and not extra.requires_tls:
                    raise ArgumentsError(
                        f"{name[0]}: others could connect: only with `-- --tls=require`"
                    )
    return _Place(socket=None if host else path, host=host, passed=passed, is_private=is_private)


def _is_private(path: str) -> bool:
    """Tell whether only this user, and root, can connect to a socket."""
    if not path.startswith("/"):
        # One without a file, to which everybody can.
        return False
    status = os.stat(path)
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & 0o077


def _passed_sockets() -> tuple[int, ...]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return ()
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return tuple(range(_FIRST_PASSED_FD, _FIRST_PASSED_FD + count))


def _check_socket(path: str) -> None:
    """Check that a socket can be made; one that nobody listens on any more is removed.

    Raises:
        ServeError: it cannot; the message says why.
    """
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ServeError(
            f"{path}: is longer than the {_LONGEST_SOCKET} bytes of a socket's path: "
            "name another with --socket"
        )
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ServeError(f"{path}: {error.strerror}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise ServeError(f"{path}: is there, and is no socket: name another with --socket")
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError as error:
            raise ServeError(f"{path}: {error.strerror}") from error
        else:
            raise ServeError(f"{path}: somebody serves there: name another with --socket")


def _remove_socket(place: _Place) -> None:
    """Remove a socket that nbdkit has left, as it does when it is killed."""
    if place.socket is not None and place.is_made:
        with contextlib.suppress(ServeError):
            _check_socket(place.socket)


@contextlib.contextmanager
def _private_directory() -> Iterator[str]:
    """Give a new directory that only this user can look into; removed with what is in it."""
    longest = len("/serve-12345678/nbd.sock")
    try:
        parent = runtime_directory()
        if len(os.fsencode(parent)) + longest > _LONGEST_SOCKET:
            parent = temporary.directory()
        directory = new_directory(parent, _PREFIX)
        holding = held(directory)
        holding.__enter__()
    except OSError as error:
        raise ServeError(f"{error.filename}: {error.strerror}: set XDG_RUNTIME_DIR") from error
    with contextlib.ExitStack() as stack:
        stack.push(holding)
        yield directory


# -- what ------------------------------------------------------------------


def _choose(
    catalog: Catalog, request: ServeRequest, notify: Callable[[str], None], *, public_only: bool
) -> _Chosen:
    """Return what is served, and tell what is not."""
    only = None
    if request.images is not None:
        only = tuple(catalog.resolve_many(request.images))
    entries = mount_entries(catalog, only)
    if only is not None:
        order = {image_id: number for number, image_id in enumerate(only)}
        entries.sort(key=lambda entry: order[entry.image_id])
    if public_only:
        permissions = KnownPermissions(catalog.image_files)
        served = [
            each for each in entries if everybody_may(permissions.look(each.image_id).permissions)
        ]
        ids = {each.image_id for each in served}
        private = [each.name for each in entries if each.image_id not in ids]
        for name in private[:_MOST_NAMED]:
            notify(
                f"{name}: is not served: not everybody may read its files, and on this port nobody "
                "knows who asks: use --socket"
            )
        if private[_MOST_NAMED:]:
            notify(f"nor are {len(private) - _MOST_NAMED} others, for the same reason")
        if entries and not served:
            raise ServeError("no image can be served to everybody: use --socket")
        entries = served
    if only is None and len(entries) != 1:
        return _Chosen(None, ())
    return _Chosen(only, tuple(export_name(each.name) for each in entries))


# -- nbdkit ----------------------------------------------------------------


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Give what tells whether a signal has come that ends the server."""
    event = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        event.set()

    # What is ignored stays so, as `nohup` wants it.
    changed = [each for each in _STOPPING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in changed}
    try:
        yield event
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _Nbdkit:
    """nbdkit, running.

    Args:
        process: it.
        ready: what its plugin tells its readiness on.
        place: where it listens.
        notify: told what it says, once it is ready.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], ready: int, place: _Place,
        notify: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.process = process
        self.place = place
        self._ready = ready
        self._notify = notify
        self._last: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        self._is_ready = False
        self._listening = threading.Thread(target=self._listen, name="messages", daemon=True)
        self._listening.start()

    def wait_ready(self, stopping: threading.Event) -> bool:
        """Wait until it accepts connections; return False if it was told to stop before.

        Raises:
            ServeError: it has ended, or takes too long.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not stopping.is_set():
            if select.select([self._ready], [], [], _POLL_SECONDS)[0]:
                said = os.read(self._ready, 1 << 16)
                if said == b"\n":
                    self._is_ready = True
                    return True
                raise self.death(os.fsdecode(said))
            if time.monotonic() > deadline:
                raise ServeError(f"nbdkit is not ready after {_READY_SECONDS:.0f} seconds")
        return False

    def death(self, reason: str = "") -> ServeError:
        """Return the error that says how it has ended, or is about to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)
        self._listening.join(_GRACE_SECONDS)
        reason = reason or "; ".join(self._last) or f"status {self.process.returncode}"
        return ServeError(f"nbdkit has ended: {reason}")

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode(errors="backslashreplace").strip().removeprefix("imgcat: ")
            if text:
                self._last.append(text)
                if self._is_ready:
                    self._notify(text)


@contextlib.contextmanager
def _running(
    command: list[str], place: _Place, plugin: PluginRequest, notify: Callable[[str], None]
) -> Iterator[_Nbdkit]:  # fmt: skip
    """Run nbdkit for the time of the block."""
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        try:
            script = command[command.index("python") + 1]
            with open(script, "w", encoding="ascii") as file:
                file.write(script_text(dataclasses.replace(plugin, ready_fd=writing)))
            if place.passed:
                # It must name the process that serves, which has no number yet.
                command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
            process = subprocess.Popen(  # noqa: S603 - a fixed program
                command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(),
                stderr=subprocess.PIPE, pass_fds=(writing, *place.passed), umask=0o077,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ServeError(f"{error.filename}: {error.strerror}") from error
        finally:
            os.close(writing)
        stack.callback(_end, process)
        yield _Nbdkit(process, reading, place, notify)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End nbdkit; it would wait for clients as long as they like."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _watch(nbdkit: _Nbdkit, stopping: threading.Event, on_ready: Callable[[], None]) -> None:
    """Serve until a signal comes, or nbdkit ends."""
    if not nbdkit.wait_ready(stopping):
        return
    if nbdkit.place.socket is not None and nbdkit.place.is_made:
        # It may only be connected to by whoever may write it.
        os.chmod(nbdkit.place.socket, 0o600)
    on_ready()
    while not stopping.wait(_POLL_SECONDS):
        if nbdkit.process.poll() is not None and not stopping.is_set():
            raise nbdkit.death()
