"""The program without the start of Python: a process that has imported it, and forks.

Run by the tests' `started` as a script of its own. It imports what the commands import, runs none
itself, and for each request makes a child that is as ``python -m imgcat`` would be: its arguments,
environment, directory, file-creation mask, standard streams and no other descriptor, nothing
blocked or ignored. So nothing that one command leaves in memory is seen by another.

What such a child cannot tell is how long the program takes to start, what it imports, and how much
memory it takes: tests of that start Python, as do all that give ``imgcat`` to a shell.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
from typing import Any

LIBRARIES = (
    "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "alembic.command", "alembic.config", "isal",
    "lz4.block", "numpy", "prompt_toolkit", "pyfuse3", "sqlalchemy", "tqdm", "trio", "typer",
    "xxhash", "zstandard",
)  # fmt: skip
"""What commands import when they come to need it."""

OF_OTHERS = (
    "imgcat.__main__", "imgcat.filesystems.worker.", "imgcat.migrations.", "imgcat.nbd.plugin",
)  # fmt: skip
"""What is run and not imported, and what other programs import: the worker, Alembic, nbdkit."""

_FDS = 5
"""With each request: for its answer, the directory, and the three standard streams."""


def import_all() -> None:
    """Import what any command imports."""
    for name in LIBRARIES:
        importlib.import_module(name)
    package = importlib.import_module("imgcat")
    for found in pkgutil.walk_packages(package.__path__, "imgcat."):
        if not found.name.startswith(OF_OTHERS):
            importlib.import_module(found.name)


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request until the tests have ended; in a child, return what was asked for."""
    running: dict[int, tuple[int, socket.socket]] = {}
    ended: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        for fd, _event in poll.poll():
            if fd in running:
                pid, answer = running.pop(fd)
                poll.unregister(fd)
                os.close(fd)
                _tell(answer, _status_of(pid))
                # As long as nobody has waited for it, a signal must find it and no other process.
                ended[answer.fileno()] = pid, answer
                poll.register(answer, 0)
            elif fd in ended:
                pid, answer = ended.pop(fd)
                poll.unregister(fd)
                answer.close()
                os.waitpid(pid, 0)
            elif request := _take_request(requests):
                arguments, answer, fds = request
                pid = os.fork()
                if pid == 0:
                    _close_all(running, ended)
                    answer.close()
                    requests.close()
                    _take_place(arguments, fds)
                    return arguments
                for each in fds:
                    os.close(each)
                _tell(answer, pid)
                watched = os.pidfd_open(pid)
                running[watched] = pid, answer
                poll.register(watched, select.POLLIN)
            else:
                _close_all(running, ended)
                return None


def _close_all(
    running: dict[int, tuple[int, socket.socket]], ended: dict[int, tuple[int, socket.socket]]
) -> None:
    for watched in running:
        os.close(watched)
    for _pid, answer in (*running.values(), *ended.values()):
        answer.close()


def _take_request(
    requests: socket.socket,
) -> tuple[dict[str, Any], socket.socket, list[int]] | None:
    """Return what is asked for, where the answer goes, and the descriptors; None at the end."""
    _data, fds, _flags, _address = socket.recv_fds(requests, 1, _FDS)
    if not fds:
        return None
    answer = socket.socket(fileno=fds[0])
    with answer.makefile("rb") as file:
        return json.load(file), answer, fds[1:]


def _tell(answer: socket.socket, number: int) -> None:
    # Whoever asked may have ended.
    with contextlib.suppress(BrokenPipeError):
        answer.sendall(b"%d\n" % number)


def _status_of(pid: int) -> int:
    """Return how a process has ended, as `os.waitpid` does, and leave it to be waited for."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    if found.si_code == os.CLD_EXITED:
        return found.si_status << 8
    return found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)


def _take_place(request: dict[str, Any], fds: list[int]) -> None:
    """Be the process that was asked for, up to its first line of Python."""
    os.fchdir(fds[0])
    for number, fd in enumerate(fds[1:]):
        os.dup2(fd, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if request["start_new_session"]:
        os.setsid()
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["-m", *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", "imgcat", *request["arguments"]]
    # What `-m` puts there, instead of the directory of this script.
    sys.path[0] = os.getcwd()
    sys.stdin = sys.__stdin__ = _stream(0, "r", sys.__stdin__)
    sys.stdout = sys.__stdout__ = _stream(1, "w", sys.__stdout__)
    sys.stderr = sys.__stderr__ = _stream(2, "w", sys.__stderr__)


def _stream(fd: int, mode: str, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a standard stream as Python makes it at its start."""
    stream = io.TextIOWrapper(
        open(fd, f"{mode}b", closefd=False),  # noqa: SIM115 - open as long as the process is
        encoding=like.encoding, errors=like.errors, newline="\n",
        line_buffering=fd == 2 or os.isatty(fd),
    )  # fmt: skip
    stream.mode = mode
    return stream


def main() -> None:
    # What the user interrupts is the tests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    codes: list[object] = []
    # Registered first, it is called last.
    atexit.register(_end_soon, codes)
    import_all()
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=0)
    request = serve(requests)
    if request is None:
        requests.close()
        return
    try:
        runpy.run_module("imgcat", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        codes.append(end.code)
        raise


def _end_soon(codes: list[object]) -> None:
    """End where the interpreter has waited for threads and has called what was registered.

    It would go on and free all that was imported, object by object: longer than most commands take.
    """
    if codes and isinstance(codes[0], int):
        # What is unreachable is ended as it would be, with the warnings that this gives.
        gc.collect()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0])


if __name__ == "__main__":
    main()
