"""A real shell at a pseudo-terminal, which a test types into."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import termios
import time
from typing import TYPE_CHECKING, Self

from support.program import COMMAND, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

_STARTS = {
    "bash": (["--norc", "--noprofile", "-i"], "PS1='ready> '; source {script}; PS1='now''> '"),
    "zsh": (["-f", "-i"], "autoload -U compinit; compinit -D -u; source {script}; PS1='now''> '"),
    "fish": (["--no-config", "-i"], "source {script}; function fish_prompt; echo 'now''> '; end"),
}

_WRAPPER = """#!/bin/sh
[ -z "$_IMGCAT_COMPLETE" ] || exec {command} "$@"
printf '%s\\0' "$@" > {words}.new && mv {words}.new {words}
"""


class InteractiveShell:
    """A shell for which ``imgcat`` completes by the script, and then only notes its words.

    Args:
        name: bash, zsh or fish, which must be installed.
        program: whose catalog is asked.
        directory: where the shell begins; what a name does, if it is run, happens in here.
    """

    def __init__(self, name: str, program: Program, directory: Path) -> None:
        self.name = name
        shell = shutil.which(name)
        assert shell is not None, f"{name} is not installed: tools/system-packages.sh does that"
        tools = program.home / "tools"
        tools.mkdir(exist_ok=True)
        self._words = program.home / "words"
        wrapper = tools / "imgcat"
        wrapper.write_text(_WRAPPER.format(command=" ".join(COMMAND), words=self._words))
        wrapper.chmod(0o755)
        script = program.home / f"completion.{name}"
        script.write_text(program.run("completion", name).stdout)
        arguments, start = _STARTS[name]
        environment = program.environment | {
            "PATH": f"{tools}:{os.environ['PATH']}", "TERM": "dumb", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(directory)
            os.execve(shell, [name, *arguments], environment)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 250, 0, 0))
        self._seen = b""
        self._type(start.format(script=script) + "\r")
        wait_until(lambda: b"now> " in self._read(), "the shell is ready", 30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def run(self, keys: str) -> list[str]:
        """Type keys and a return, and return the words that `imgcat` was then run with."""
        self._words.unlink(missing_ok=True)
        self._seen = b""
        self._type(keys + "\r")
        deadline = time.monotonic() + 30
        while not self._words.exists():
            self._read()
            assert time.monotonic() < deadline, f"imgcat was not run: {self._seen!r}"
        return [os.fsdecode(word) for word in self._words.read_bytes().split(b"\0")[:-1]]

    def _type(self, keys: str) -> None:
        os.write(self._terminal, os.fsencode(keys))

    def _read(self) -> bytes:
        """Return all that was shown since the last keys, after waiting a moment for more."""
        if select.select([self._terminal], [], [], 0.02)[0]:
            self._seen += os.read(self._terminal, 1 << 16)
        return self._seen
