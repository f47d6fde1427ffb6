"""The shell on a terminal: a prompt with history and completion."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.history import FileHistory

from ...formats.text import printable
from .commands import COMMANDS
from .session import Quit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from .session import Session

_PRIVATE_DIRECTORY, _PRIVATE_FILE = 0o700, 0o600


def run_prompt(session: Session) -> None:
    """Ask for commands and run them until the user has had enough."""
    prompt: PromptSession[str] = PromptSession(
        history=FileHistory(_history_path()), completer=_Words(session),
        complete_while_typing=False,
    )  # fmt: skip
    while True:
        try:
            line = prompt.prompt(f"{printable(session.name)}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            session.run_script(line)
            if line.strip() in {"quit", "exit"}:
                return
        except Quit:
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
        text = document.text_before_cursor
        words = text.split()
        word = "" if not text or text[-1].isspace() else words[-1]
        before = words if not word else words[:-1]
        for each in self._candidates(before):
            if each.startswith(word):
                yield Completion(each, start_position=-len(word))

    def _candidates(self, before: list[str]) -> list[str]:
        if not before or before == ["help"]:
            return list(COMMANDS)
        if before == ["use"]:
            inside = self._session.catalog.inside(self._session.record.row.id)
            numbers = [f"p{each.number}" for each in inside.partitions if not each.is_container]
            names = [row.name for row, _volumes in self._session.catalog.list_images()]
            return [*numbers, "..", *map(printable, names)]
        return []


def _history_path() -> str:
    """Return the file that remembers commands, which is its owner's alone."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    directory = os.path.join(state, "imgcat")
    os.makedirs(directory, mode=_PRIVATE_DIRECTORY, exist_ok=True)
    path = os.path.join(directory, "history")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE))
    return path
