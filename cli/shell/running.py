"""Running the shell's commands, one by one or as a script."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import typer

from ..exit_codes import BUG, USAGE, code_of, message_of
from .commands import COMMANDS, usage_of
from .session import Quit, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .session import Session

_ALIASES = {"exit": "quit"}


def run_script(session: Session, text: str) -> bool:
    """Run the commands of a text, and tell whether one of them says to end."""
    try:
        for line in commands_of(text):
            run_command(session, line)
    except Quit:
        return True
    return False


def run_command(session: Session, line: str) -> None:
    """Run one command, and tell what goes wrong with it.

    Raises:
        Quit: the command says so.
        BrokenPipeError: nobody reads the results any more.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        session.fail(f"{line}: {error}", USAGE)
        return
    if not words:
        return
    name = _ALIASES.get(words[0], words[0])
    command = COMMANDS.get(name)
    if command is None:
        session.fail(f"{name}: no such command; `help` lists them", USAGE)
        return
    try:
        command.run(session, words[1:])
        sys.stdout.flush()
    except UsageError as error:
        session.fail(f"{error}; {usage_of(name)}", USAGE)
    except typer.BadParameter as error:
        session.fail(f"{name}: {error.message}", USAGE)
    except typer.Exit as end:
        session.code = max(session.code, end.exit_code)
    except (Quit, BrokenPipeError):
        raise
    except Exception as error:
        code = code_of(error)
        if code == BUG:
            raise
        session.fail(f"{session.name}: {message_of(error)}", code)


def commands_of(text: str) -> list[str]:
    """Return the commands of a text, separated by semicolons and lines.

    What is quoted, behind a backslash, or in a remark separates nothing.
    """
    return [each for line in text.split("\n") for each in _commands_of_line(line) if each]


def _commands_of_line(line: str) -> Iterator[str]:
    start, quote, position = 0, "", 0
    while position < len(line):
        letter = line[position]
        if letter == "\\" and quote != "'":
            position += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == ";":
            yield line[start:position].strip()
            start = position + 1
        elif letter == "#" and (position == start or line[position - 1].isspace()):
            yield line[start:position].strip()
            return
        position += 1
    yield line[start:].strip()
