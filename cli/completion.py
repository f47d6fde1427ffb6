"""Shell completion: the script for a shell, and what it is answered.

A script asks by running the program with ``_IMGCAT_COMPLETE`` in its environment, and takes the
answer as data: names end with a zero byte, and no shell ever evaluates one. zsh and fish quote what
they insert. bash does that for file names only, so here a single answer is quoted for it.
"""

from __future__ import annotations

import enum
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .settings import COMPLETION_VARIABLE, notify, open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = "imgcat"


class Shell(enum.StrEnum):
    """The shells that can be completed for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_BASH = r"""
_imgcat() {
    local found
    mapfile -t -d '' found < <(
        _IMGCAT_COMPLETE=bash "$1" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    COMPREPLY=("${found[@]}")
    # Of several, readline inserts what they have in common, quoted as a file's name is.
    ((${#found[@]} < 2)) || compopt -o filenames
}
complete -o default -F _imgcat imgcat
"""

_ZSH = r"""
#compdef imgcat
_imgcat() {
    local current="$PREFIX"
    [[ "$compstate[quote]" == "'" ]] || current="${(Q)PREFIX}"
    local -a found
    found=("${(@0)$(_IMGCAT_COMPLETE=zsh "${(Q)words[1]}" \
        "${(@Q)words[2,CURRENT-1]}" "$current" 2>/dev/null)}")
    # Each ends with a zero byte, so what is behind the last one is empty.
    found[-1]=()
    if (($#found)); then
        compadd -a found
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _imgcat ]]; then
    _imgcat "$@"
else
    compdef _imgcat imgcat
fi
"""

_FISH = r"""
function __imgcat_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    # What begins like a name is sifted by fish, which knows how it is quoted.
    string match -q -- '-*' "$current"; or set current ''
    set -l found (_IMGCAT_COMPLETE=fish $words[1] $words[2..-1] "$current" 2>/dev/null \
        | string split0)
    if set -q found[1]
        printf '%s\0' $found
    else
        __fish_complete_path (commandline -ct) | string join0
    end
end
complete -c imgcat --no-files --arguments '(__imgcat_complete | string split0)'
"""

_SCRIPTS = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}


def complete_images(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of images that begin with `incomplete`."""
    from ..catalog.errors import CatalogError

    settings.db = (ctx.parent.params.get("db") if ctx.parent else None) or settings.db
    try:
        with open_catalog() as catalog:
            names = [row.name for row, _volumes in catalog.list_images()]
    except (CatalogError, OSError):
        # Without a catalog there is nothing to offer, and a shell's prompt takes no message.
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_snapshots(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of snapshots that begin with `incomplete`."""
    from ..catalog.errors import CatalogError
    from ..catalog.recovery.stored import snapshots

    settings.db = (ctx.parent.params.get("db") if ctx.parent else None) or settings.db
    try:
        with open_catalog() as catalog:
            names = [each.name for each in snapshots(catalog)]
    except (CatalogError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def answer(app: typer.Typer, shell: str, arguments: Sequence[str]) -> bytes:
    """Return what completes a command line, each answer with a zero byte behind it.

    Args:
        app: the application.
        shell: which shell asks, by the name in `Shell`.
        arguments: of bash, the line up to the cursor, and the end of it that will be replaced; of
            the others, the words of the line as the program would get them, the last up to the
            cursor.
    """
    from .shell_words import quoted_for, split_line

    if shell == Shell.BASH:
        line, replaced = arguments
        words, context = split_line(line)
        # Bash ends words at more characters than spaces: it wants what follows the last of them.
        kept = len(words[-1]) - len(split_line(replaced, context)[0][-1])
    else:
        words, context, kept = ["", *arguments], "", 0
    found = _completions(app, words[1:-1], words[-1])
    if shell == Shell.FISH:
        # Behind a tab, fish takes all for a description, and a ~ at the beginning for a home.
        lines = [
            f"{value}\t{' '.join(text.split())}"
            for value, text in found
            if "\t" not in value and not value.startswith("~")
        ]
    else:
        lines = [value[kept:] for value, _text in found]
    if shell == Shell.BASH and len(lines) == 1:
        lines = [quoted_for(context, lines[0])]
    return b"".join(os.fsencode(line) + b"\0" for line in lines)


def _completions(app: typer.Typer, words: list[str], incomplete: str) -> list[tuple[str, str]]:
    """Return what may stand in the place of `incomplete`, each with a description."""
    from typer._completion_classes import BashComplete

    asking = BashComplete(typer.main.get_command(app), {}, _PROGRAM, COMPLETION_VARIABLE)
    items = asking.get_completions(words, incomplete)
    return [(item.value, item.help or "") for item in items if item.type == "plain"]


def completion(
    shell: Annotated[
        Shell | None,
        typer.Argument(metavar="[bash|zsh|fish]", help="The shell to complete for; else yours."),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Write it to where the shell looks for it.")
    ] = False,
) -> None:
    """Print the script that makes a shell complete commands, options and image names.

    \b
    Examples:
      imgcat completion --install
      imgcat completion zsh --install
      imgcat completion bash > /etc/bash_completion.d/imgcat
    """
    chosen = shell or _users_shell()
    script = _SCRIPTS[chosen].lstrip()
    if not install:
        sys.stdout.write(script)
        return
    path = _place(chosen)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(script)
    sys.stdout.write(f"{path}\n")
    notify(_AFTERWARDS[chosen])


_AFTERWARDS = {
    Shell.BASH: "new shells complete imgcat, if the package bash-completion is there",
    Shell.ZSH: "put `fpath+=~/.zfunc; autoload -Uz compinit; compinit` into ~/.zshrc, if it is not "
    "there; new shells complete imgcat",
    Shell.FISH: "new shells complete imgcat",
}


def _users_shell() -> Shell:
    name = os.path.basename(os.environ.get("SHELL", ""))
    return Shell(name) if name in set(Shell) else Shell.BASH


def _place(shell: Shell) -> str:
    """Return the file that a shell reads for a user's own completions, as its manual has it."""
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    bash = os.environ.get("BASH_COMPLETION_USER_DIR") or os.path.join(data, "bash-completion")
    return {
        Shell.BASH: os.path.join(bash, "completions", _PROGRAM),
        Shell.ZSH: os.path.join(home, ".zfunc", f"_{_PROGRAM}"),
        Shell.FISH: os.path.join(config, "fish", "completions", f"{_PROGRAM}.fish"),
    }[shell]
