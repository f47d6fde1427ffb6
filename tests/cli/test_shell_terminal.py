"""The shell on a terminal: its prompt, its completion, its history, and what ends it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.program import Program


@pytest.mark.fresh
def test_prompt_toolkit_is_only_for_terminals(
    qcow2: Path, program: Program, tmp_path: Path
) -> None:
    program.run("add", qcow2)
    poison = tmp_path / "poison"
    poison.mkdir()
    (poison / "prompt_toolkit.py").write_text("raise ImportError('too early')")
    env = program.environment | {"PYTHONPATH": str(poison)}
    assert "format" in program.run("shell", "-c", "info", "vm.qcow2", env=env).stdout
    assert "format" in program.run("shell", "vm.qcow2", input="info\n", env=env).stdout


_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What moves the cursor or changes how is drawn."""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, program: Program, *arguments: str, **more: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            env = program.environment | {"TERM": "xterm"} | more
            os.execve(sys.executable, [sys.executable, "-m", "imgcat", *arguments], env)
        self.text = ""

    def expect(self, wanted: str) -> None:
        """Wait until something is on the screen, whatever it was drawn in."""
        deadline = time.monotonic() + 60
        while wanted not in _CONTROL.sub("", self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.fd], [], [], 0.2)[0]:
                data = os.read(self.fd, 65536).decode("utf-8", "replace")
                self.text += data
                if "\x1b[6n" in data:
                    # It asks where the cursor is.
                    os.write(self.fd, b"\x1b[1;1R")

    def type(self, keys: str) -> None:
        """Press keys."""
        self.text = ""
        os.write(self.fd, os.fsencode(keys))


@contextlib.contextmanager
def terminal(program: Program, *arguments: str, **more: str) -> Iterator[Terminal]:
    """Start a program, and have it ended by then."""
    started = Terminal(program, *arguments, **more)
    yield started
    deadline = time.monotonic() + 20
    while True:
        pid, status = os.waitpid(started.pid, os.WNOHANG)
        if pid:
            break
        assert time.monotonic() < deadline, "it does not end"
        with contextlib.suppress(OSError):
            if select.select([started.fd], [], [], 0.1)[0]:
                os.read(started.fd, 65536)
    os.close(started.fd)
    assert os.waitstatus_to_exitcode(status) == 0


def test_on_a_terminal(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    with terminal(program, "shell", "vm.qcow2") as screen:
        screen.expect("vm.qcow2>")
        screen.type("he\t")
        screen.expect("hea")
        screen.type("\x03")
        screen.expect("vm.qcow2>")
        screen.type("l1\r")
        screen.expect("L2 table at")
        screen.type("use pack\t")
        screen.expect("packed.qcow2")
        screen.type("\r")
        screen.expect("packed.qcow2>")
        screen.type("\x04")
    with terminal(program, "shell", "vm.qcow2") as screen:
        screen.expect("vm.qcow2>")
        # The last command but one of the time before.
        screen.type("\x1b[A\x1b[A\r")
        screen.expect("L2 table at")
        screen.type("quit\r")
    (history,) = program.home.rglob("history")
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+l1" in history.read_text()


@pytest.mark.parametrize("ending", ["info; quit", "exit", "quit # for good", "\x04"])
def test_what_ends_the_shell(ending: str, qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    with terminal(program, "shell", "vm.qcow2") as screen:
        screen.expect("vm.qcow2>")
        screen.type(ending if ending == "\x04" else f"{ending}\r")


def test_completion_behind_a_semicolon_and_of_odd_names(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    program.run("rename", "packed.qcow2", "a base; with words")
    with terminal(program, "shell", "vm.qcow2") as screen:
        screen.expect("vm.qcow2>")
        screen.type("l1; hex\t")
        screen.expect("hexdump")
        screen.type("\x03")
        screen.expect("vm.qcow2>")
        screen.type("use a\t")
        screen.expect("a base; with words'")
        screen.type("\r")
        screen.expect("a base; with words>")
        screen.type("\x04")


def test_a_history_is_private_and_never_in_the_way(qcow2: Path, program: Program) -> None:
    program.run("add", qcow2)
    state = program.home / "state" / "imgcat"
    state.mkdir(parents=True, exist_ok=True)
    history = state / "history"
    history.write_text("")
    history.chmod(0o644)
    with terminal(program, "shell", "vm.qcow2") as screen:
        screen.expect("vm.qcow2>")
        screen.type("use \udcff\r")
        screen.expect("no image in the catalog")
        screen.type("l1; quit\r")
        screen.expect("L2 table at")
    assert "+use " in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600
    no_directory = program.home / "file"
    no_directory.write_text("")
    with terminal(program, "shell", "vm.qcow2", XDG_STATE_HOME=str(no_directory)) as screen:
        screen.expect("commands are not remembered")
        screen.expect("vm.qcow2>")
        screen.type("l1\r")
        screen.expect("L2 table at")
        screen.type("quit\r")
