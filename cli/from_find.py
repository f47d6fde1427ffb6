"""cp --from-find: the files that find, history --last-good or diff have found."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from .inside import Place, parse_place

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDIN = "-"
_HINT = "--from-find"


def read_places(path: str) -> list[Place]:
    """Return the files that are named in what `find --json` and the like have written.

    Args:
        path: of a file, or ``-`` for standard input.

    Raises:
        typer.BadParameter: it holds nothing of the kind.
        OSError: it cannot be read.
    """
    text = sys.stdin.read() if path == _STDIN else _text_of(path)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"no JSON ({error}): `imgcat find ... --json` writes it", param_hint=_HINT
        ) from None
    places = list(_places(found))
    if any(place.path is None for place in places):
        raise typer.BadParameter("a place in it has no path", param_hint=_HINT)
    return places


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as opened:
        return opened.read()


def _places(found: Any) -> Iterator[Place]:  # noqa: ANN401 - whatever somebody has written
    if not isinstance(found, list):
        raise typer.BadParameter("no list of files", param_hint=_HINT)
    for each in found:
        if isinstance(each, dict) and isinstance(each.get("last_good"), dict):
            each = each["last_good"]  # noqa: PLW2901
        place = each.get("place") if isinstance(each, dict) else None
        if not isinstance(place, str):
            raise typer.BadParameter(
                "what is in it names no file of an image: of what a snapshot has,"
                " `imgcat recover` gets it; of a history, --last-good tells which is meant",
                param_hint=_HINT,
            )
        yield parse_place(place)


def target_of(place: Place, target: str) -> str:
    """Make the directory in `target` that a file goes into, and return it: IMAGE and its path.

    No link on the way there is followed.

    Raises:
        OSError: it cannot be made, or there is a link on the way.
    """
    assert place.path is not None
    here = target
    above = place.path.strip(b"/").split(b"/")[:-1]
    for part in [*place.image.split("/"), *map(os.fsdecode, above)]:
        if part in {"", ".", ".."}:
            continue
        here = os.path.join(here, part)
        if os.path.islink(here):
            raise NotADirectoryError(20, "is a link, which is not followed", here)
        os.makedirs(here, exist_ok=True)
    return here
