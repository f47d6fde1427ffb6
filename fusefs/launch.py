"""Starting the daemon: in the background, with word of its readiness, or in the foreground.

The parent imports nothing heavy and returns only when the mount is usable, or with the reason why
it is not. The daemon never holds the terminal: it has a session of its own, and once it is ready
its standard streams lead nowhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

from ..catalog import errors as catalog_errors
from . import errors as mount_errors
from .errors import MountError
from .log import set_up_log
from .request import STOPPING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import MountRequest


def run_in_foreground(
    request: MountRequest, on_ready: Callable[[int], None], notify: Callable[[str], None]
) -> None:
    """Mount and serve until unmounted or stopped; `on_ready` gets the number of images.

    Raises:
        As `daemon.serve`.
    """
    # Until the daemon minds signals, one would leave a dead mount. Blocked before anything heavy is
    # imported, for the threads that numpy starts take over what is blocked now.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        from .daemon import serve

        set_up_log(request.log_file)
        serve(request, lambda ready: on_ready(ready.image_count), notify)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def start_in_background(request: MountRequest, notify: Callable[[str], None]) -> int:
    """Start a daemon and return the number of images it shows, when the mount is usable.

    Raises:
        MountError: the mount could not be made, or the daemon died.
        CatalogError: the catalog cannot be used, or has no such image.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _detach_and_serve(request, writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as messages:
        image_count = None
        for line in messages:
            message = json.loads(line)
            if "notice" in message:
                notify(message["notice"])
            elif "error" in message:
                os.waitpid(child, 0)
                raise _error_named(message["error"], message["text"])
            else:
                image_count = int(message["ready"])
    os.waitpid(child, 0)
    if image_count is None:
        raise MountError(
            f"{request.mount_point}: the daemon died before the mount was usable; "
            f"see {request.log_file}"
        )
    return image_count


def _detach_and_serve(request: MountRequest, writing: int) -> None:
    """Become a daemon and serve; never returns. `writing` is the pipe to the parent."""
    code = 1
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        # The descriptors of whoever called, a pipe of `make` or a lock, are not ours to keep.
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != writing:  # noqa: PLR2004 - the standard streams
                with contextlib.suppress(OSError):
                    # Among them is the one that listed the directory, closed by now.
                    os.close(int(name))
        null = os.open(os.devnull, os.O_RDWR)
        # Standard error stays until the mount is usable: libfuse explains itself there.
        os.dup2(null, 0)
        os.dup2(null, 1)
        if null > 2:  # noqa: PLR2004 - not one of the standard streams
            os.close(null)
        _serve(request, writing)
        code = 0
    except BaseException:  # noqa: BLE001 - the last line of defence of a process without a parent
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(request: MountRequest, writing: int) -> None:
    def say(**message: Any) -> None:  # noqa: ANN401 - any JSON
        os.write(writing, json.dumps(message).encode() + b"\n")

    def on_ready(image_count: int) -> None:
        os.dup2(1, 2)
        say(ready=image_count)
        os.close(writing)

    try:
        os.chdir("/")
        run_in_foreground(request, on_ready, lambda notice: say(notice=notice))
    except Exception as error:
        if logging.getLogger().handlers:
            logging.getLogger("imgcat.daemon").exception("the daemon ended")
        try:
            say(error=type(error).__name__, text=str(error))
        except OSError:
            # The mount was usable and the pipe is closed: the log has it.
            raise error from None


def _error_named(name: str, text: str) -> Exception:
    """Return the exception that the daemon raised, as far as its class is one of ours."""
    for module in (catalog_errors, mount_errors):
        kind = getattr(module, name, None)
        if isinstance(kind, type) and issubclass(kind, catalog_errors.CatalogError | MountError):
            error: Exception = kind(text)
            return error
    return MountError(f"{name}: {text}")
