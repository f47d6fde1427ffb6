"""The shell on a terminal: a prompt with history and completion."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ...formats.text import printable
from ..settings import complain
from .commands import COMMANDS
from .running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from .session import Session

_PRIVATE_DIRECTORY, _PRIVATE_FILE = 0o700, 0o600


def run_prompt(session: Session) -> None:
    """Ask for commands and run them until the user has had enough."""
    prompt: PromptSession[str] = PromptSession(
        history=_history(), completer=_Words(session), complete_while_typing=False
    )
    while True:
        try:
            line = prompt.prompt(f"{printable(session.name)}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            if run_script(session, line):
                return
        except KeyboardInterrupt:
            # The command ends, and not the shell.
            continue


class _Words(Completer):
    """Completes commands, and what `use` and `help` take."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(
        self,
        document: Document,
        complete_event: CompleteEvent,  # noqa: ARG002 - as the library has it
    ) -> Iterator[Completion]:
        """Yield what the word before the cursor may become."""
        text = document.text_before_cursor.rpartition(";")[2]
        words = text.split()
        word = "" if not text or text[-1].isspace() else words[-1]
        before = words if not word else words[:-1]
        for each in self._candidates(before):
            quoted = shlex.quote(each)
            if each.startswith(word) or quoted.startswith(word):
                yield Completion(quoted, start_position=-len(word), display=printable(each))

    def _candidates(self, before: list[str]) -> list[str]:
        if not before or before == ["help"]:
            return list(COMMANDS)
        if before == ["use"]:
            inside = self._session.catalog.inside(self._session.record.row.id)
            numbers = [f"p{each.number}" for each in inside.partitions if not each.is_container]
            names = [row.name for row, _volumes in self._session.catalog.list_images()]
            return [*numbers, "..", *names]
        return []


class _FileHistory(FileHistory):
    """A history that never keeps a command from being run, whatever is the matter with its file."""

    def store_string(self, string: str) -> None:
        """Add a line to the file; bytes that are no text are not kept as they are."""
        with contextlib.suppress(OSError):
            super().store_string(string.encode("utf-8", "backslashreplace").decode())


def _history() -> History:
    """Return what remembers commands: a file that is its owner's alone, where there can be one."""
    try:
        return _FileHistory(_history_path())
    except OSError as error:
        complain(f"commands are not remembered: {error.filename}: {error.strerror}")
        return InMemoryHistory()


def _history_path() -> str:
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    directory = os.path.join(state, "imgcat")
    os.makedirs(directory, mode=_PRIVATE_DIRECTORY, exist_ok=True)
    path = os.path.join(directory, "history")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        # Somebody may have made it, or copied it, with other permissions.
        os.fchmod(fd, _PRIVATE_FILE)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)
    return path
