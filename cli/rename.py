"""rename: another name for an image, or for many by a pattern."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import JsonOption
from .completion import complete_images
from .images import say
from .settings import notify, open_catalog

if TYPE_CHECKING:
    from ..catalog.store import Catalog

_WILDCARD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")


def rename(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE", help="A name, id, path or glob.", autocompletion=complete_images
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The new name; / makes directories. With a glob: a folder, which ends in /, or a "
            "name with as many * for what they stand for.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be renamed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Change an image's name, also in running mounts; or those of many, all at once.

    \b
    Examples:
      imgcat rename sda1 laptop/root
      imgcat rename 'sd*' laptop/
      imgcat rename --dry-run '2025-*/sda*' 'archive/2025-*/disk*'
    """
    with open_catalog(write=True) as catalog:
        wanted = _wanted(catalog, image, name)
        renamed = catalog.rename_many(wanted, dry_run=dry_run)
    done = {each: names for each, names in renamed.items() if names[0] != names[1]}
    outcome = "would be" if dry_run else "renamed"
    if as_json:
        from .render import write_json

        write_json(
            [
                {"id": image_id, "before": before, "name": now, "outcome": outcome}
                for image_id, (before, now) in done.items()
            ]
        )
        return
    for before, now in done.values():
        say(outcome, f"{before} -> {now}")
    if not done:
        notify("all have these names already")


def _wanted(catalog: Catalog, image: str, name: str) -> dict[int, str]:
    """Return the names that images shall have, by their ids."""
    found = catalog.resolve_many([image])
    names = {image_id: catalog.name_of(image_id) or "" for image_id in found}
    is_pattern = _WILDCARD.search(image) is not None and image not in names.values()
    if not is_pattern:
        folder = name.endswith("/")
        return {found[0]: name + names[found[0]].rpartition("/")[2] if folder else name}
    if name.endswith("/"):
        return {image_id: name + each.rpartition("/")[2] for image_id, each in names.items()}
    parts = re.split(r"[*?]", name)
    pattern, count = _grouped(image)
    if len(parts) - 1 != count:
        raise typer.BadParameter(
            f"has {len(parts) - 1} of the {count} wildcards of {image!r}: each * or ? in it is for "
            "what one of them stands for; a folder ends in /",
            param_hint="NAME",
        )
    wanted = {}
    for image_id, each in names.items():
        match = pattern.fullmatch(each)
        # The pattern is the one that has found it.
        assert match is not None, (image, each)
        filled = (text + stands for text, stands in zip(parts, (*match.groups(), ""), strict=True))
        wanted[image_id] = "".join(filled)
    return wanted


def _grouped(glob: str) -> tuple[re.Pattern[str], int]:
    """Return a pattern with a group for each wildcard of a glob, and how many those are.

    What a wildcard is, and what it stands for, is as `fnmatch` has it.
    """
    import fnmatch

    pattern, at, count = "", 0, 0
    for found in _WILDCARD.finditer(glob):
        pattern += re.escape(glob[at : found.start()])
        translated = fnmatch.translate(found[0])
        pattern += (
            f"({translated.removeprefix('(?s:').removesuffix(chr(92) + 'Z').removesuffix(')')})"
        )
        at, count = found.end(), count + 1
    return re.compile(pattern + re.escape(glob[at:]), re.DOTALL), count
