"""Command lines as people write them: options that go for every command stand where one likes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

FLAGS = frozenset({"-q", "--quiet", "-v", "--verbose", "-qv", "-vq"})
"""Options that go for every command, and have no value."""

_VALUED = frozenset({"-c", "--name"})
"""Options whose values may look like any other word."""

_AS_THEY_ARE = frozenset({"completion"})


def arranged(arguments: Sequence[str], commands: Collection[str]) -> list[str]:
    """Return a command line with each option where it is read.

    ``-q``, ``-v`` and ``--db`` may stand behind the command too, and ``--json`` before it; ``help``
    is ``--help`` of what follows, and ``-V`` is ``--version``. What is behind ``--`` is left alone.

    Args:
        arguments: the words after the program's name.
        commands: the names of all commands.
    """
    words = list(arguments)
    if words[:1] == ["help"]:
        return [*words[1:], "--help"]
    if words[:1] == ["-V"]:
        return ["--version", *words[1:]]
    ours, theirs = _apart(words)
    before_command = len(theirs)
    for number, word in enumerate(theirs):
        if word in commands:
            before_command = number
            break
    late = [word for word in theirs[:before_command] if word == "--json"]
    odd = [word for word in theirs[:before_command] if word != "--json"]
    command = theirs[before_command : before_command + 1]
    if not command or command[0] in _AS_THEY_ARE:
        return words
    rest = theirs[before_command + 1 :]
    # Of a group of commands, the option is that of the one within.
    inner = rest[:1] if command == ["db"] else []
    return [*ours, *odd, *command, *inner, *late, *rest[len(inner) :]]


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options that go for every command, with their values, and all other words."""
    ours: list[str] = []
    theirs: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            theirs += [word, *left]
        elif word in FLAGS or word.startswith("--db="):
            ours.append(word)
        elif word == "--db":
            ours += [word, *([value] if (value := next(left, None)) is not None else [])]
        else:
            theirs.append(word)
            if word in _VALUED and (value := next(left, None)) is not None:
                theirs.append(value)
    return ours, theirs
