"""cp --from-find: the files that find, history --last-good or diff have found."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ..filesystems.names import typed
from .inside import Place, parse_place

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDIN = "-"
_HINT = "--from-find"


class Found(NamedTuple):
    """A file that was found.

    Attributes:
        place: where; of a snapshot, its name stands for that of an image.
        is_directory: whether it is known to be a directory.
        has_bytes: whether an image has it: of a snapshot, `cp` gets nothing.
    """

    place: Place
    is_directory: bool
    has_bytes: bool


def read_found(path: str) -> list[Found]:
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
    return list(_each(found))


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as opened:
        return opened.read()


def _each(found: Any) -> Iterator[Found]:  # noqa: ANN401 - whatever somebody has written
    if not isinstance(found, list):
        raise typer.BadParameter("no list of files", param_hint=_HINT)
    for each in found:
        if isinstance(each, dict) and isinstance(each.get("last_good"), dict):
            each = each["last_good"]  # noqa: PLW2901
        place = _place_of(each) if isinstance(each, dict) else None
        if place is None:
            raise typer.BadParameter(
                "what is in it names no file of an image: of a history, --last-good tells which is"
                " meant",
                param_hint=_HINT,
            )
        yield Found(place, _type_of(each) == "directory", each.get("place") is not None)


def _place_of(each: dict[str, Any]) -> Place | None:
    """Return where a file was found, None where nothing tells that."""
    place = each.get("place")
    if isinstance(place, str):
        found = parse_place(place)
        if found.path is None:
            raise typer.BadParameter("a place in it has no path", param_hint=_HINT)
        return found
    # Of a snapshot, as `find` has it; of a difference, what it was before is what is got.
    backup, path = each.get("image"), each.get("old_path") or each.get("path")
    if isinstance(backup, str) and isinstance(path, str):
        return Place(backup, typed(path))
    return None


def _type_of(each: dict[str, Any]) -> object:
    """Return the type of what was found; of a difference, of what it was, or of what is new."""
    what = each.get("old") or each.get("new") or each
    return what.get("type") if isinstance(what, dict) else None


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
