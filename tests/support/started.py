"""Processes of the program: by starting Python, or by asking the fork server, which is quicker."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "imgcat"]

_SERVER = Path(__file__).with_name("fork_server.py")

_AT_START = (
    "PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_", "OPENBLAS_", "OMP_", "GLIBC_", "ASAN_",
)  # fmt: skip
"""Variables that Python and the libraries look at when they start."""

_OPTIONS = {
    "bufsize", "cwd", "encoding", "env", "errors", "start_new_session", "stderr", "stdin", "stdout",
    "text",
}  # fmt: skip
"""The options of `subprocess.Popen` that the server knows."""


def popen(arguments: list[str | bytes], *, fresh: bool, **options: Any) -> subprocess.Popen[Any]:
    """Start the program.

    Args:
        arguments: of the program.
        fresh: start Python, though the server could fork.
        options: as those of `subprocess.Popen`, with `env`; `program`, what Python is given in
            place of the program.
    """
    program = options.pop("program", None)
    if program is not None:
        return subprocess.Popen([COMMAND[0], *program, *arguments], **options)
    words = list(map(os.fsdecode, arguments))
    at_start = _at_start(options["env"])
    # Whatever is not known to be the same in a fork is started.
    if fresh or not options.keys() <= _OPTIONS or any("\0" in word for word in words):
        return subprocess.Popen([*COMMAND, *arguments], **options)
    return Forked(words, _server(at_start), **options)


def run(
    arguments: list[str | bytes], *, fresh: bool, timeout: float, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run the program to its end, its output taken, as `subprocess.run` does."""
    given = options.pop("input", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with popen(arguments, fresh=fresh, **options) as process:
        try:
            out, err = process.communicate(given, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Forked(subprocess.Popen[Any]):
    """A process that the server has forked: its parent, which tells how it has ended.

    In all else it is as if `subprocess.Popen` had started it.
    """

    def __init__(self, words: list[str], server: socket.socket, **options: Any) -> None:
        self._words = words
        self._server = server
        self._options = options
        super().__init__([*COMMAND, *words], **options)

    def _execute_child(self, *given: Any) -> None:
        pipes = p2cread, _p2cwrite, _c2pread, c2pwrite, _errread, errwrite = given[10:16]
        request = {
            "arguments": self._words,
            "env": {os.fsdecode(name): os.fsdecode(v) for name, v in self._options["env"].items()},
            "umask": _umask(),
            "start_new_session": self._options.get("start_new_session", False),
        }
        directory = os.open(self._options.get("cwd") or ".", os.O_PATH | os.O_DIRECTORY)
        streams = [
            number if fd == -1 else fd for number, fd in enumerate((p2cread, c2pwrite, errwrite))
        ]
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._server, [b"."], [theirs.fileno(), directory, *streams])
        os.close(directory)
        # Without a buffer: how it has ended may be there already, and is waited for by `select`.
        self._told = ours.makefile("rb", buffering=0)
        with ours:
            ours.sendall(json.dumps(request).encode())
            ours.shutdown(socket.SHUT_WR)
        self.pid = int(self._told.readline())
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _ended(self, _pid: int, flags: int) -> tuple[int, int]:
        """Do as `os.waitpid` does."""
        if flags & os.WNOHANG and not select.select([self._told], [], [], 0)[0]:
            return 0, 0
        with self._told:
            return self.pid, int(self._told.readline())

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        return self._ended(self.pid, wait_flags)

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        return super()._internal_poll(_deadstate, _waitpid=self._ended)


_servers: dict[frozenset[tuple[str, str]], tuple[subprocess.Popen[bytes], socket.socket]] = {}


def _server(at_start: frozenset[tuple[str, str]]) -> socket.socket:
    """Return the socket that takes requests for programs that start with these variables."""
    if at_start not in _servers:
        ours, theirs = socket.socketpair()
        environment = {"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "1", **dict(at_start)}
        with theirs:
            process = subprocess.Popen([sys.executable, _SERVER], env=environment, stdin=theirs)
        _servers[at_start] = process, ours
    return _servers[at_start][1]


def end_servers() -> None:
    """End the servers; what they have forked goes on."""
    while _servers:
        process, requests = _servers.popitem()[1]
        requests.close()
        process.wait()


def _at_start(environment: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in environment.items() if item[0].startswith(_AT_START))


def _umask() -> int:
    """Return this process's mask; asking the system would change it for a moment."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("Umask:")[2].split()[0], 8)
