"""cp, tar: files out of an image, with what they are."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..formats.text import printable
from .arguments import JsonOption
from .completion import complete_images
from .exit_codes import BROKEN_PIPE, DAMAGED, OF_ONE_IMAGE, USAGE, code_of, message_of, naming
from .files import AsIsOption, PlaceArgument
from .guarding import guarding, refuse_stream
from .inside import Place, parse_place, volume_and_catalog, volume_of
from .progress import byte_bar, is_watched
from .settings import complain, notify, settings
from .signals import ending_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..filesystems.copying import Tally
    from ..filesystems.target import Guard
    from ..filesystems.volume import Volume

    Outcome = tuple[list[str], Tally] | Exception
    """What could not be copied, and what was; or why nothing was."""

_STDOUT = 1


def cp(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE:/PATH... DEST",
            help="Files in images, and where they are to go.",
            autocompletion=complete_images,
        ),
    ],
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Directories, with all that is in them.")
    ] = False,
    streams: Annotated[
        bool,
        typer.Option("--streams", help="Other streams of NTFS and HFS+ files too, as NAME:STREAM."),
    ] = False,
    from_find: Annotated[
        str | None,
        typer.Option(
            "--from-find",
            metavar="FILE",
            help="What find, diff or history --last-good wrote with --json; - for standard input.",
        ),
    ] = None,
    as_is: AsIsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Copy files out of an image, with mode, times, links, holes and extended attributes.

    Owners are kept where root copies. What could not be kept is said. A file comes to be under its
    name when it is whole; what was copied before, of the same size and time, is left as it is, so
    that a copy that was interrupted goes on. Nothing is written outside of DEST. What --from-find
    names goes to DEST/IMAGE/PATH; directories are made where files go into them.

    Exit code 5: something could not be copied, and is named; the rest is there.

    \b
    Examples:
      imgcat cp sda1:/home/anna/thesis.odt .
      imgcat cp -r sda1:/home/anna /srv/restored
      imgcat cp -r --streams disk.p2:/Users/anna /srv/restored
      imgcat find '*.odt' --json | imgcat cp --from-find - /srv/restored
    """
    *sources, target = places
    found = [_with_path(each) for each in sources]
    refused: list[tuple[Place, Outcome]] = []
    if from_find is not None:
        if sources:
            raise typer.BadParameter("DEST alone, where --from-find names the files")
        found, refused = _from_find(from_find, recursive=recursive)
        os.makedirs(target, exist_ok=True)
    elif not sources:
        raise typer.BadParameter("two at the least: IMAGE:/PATH... DEST")
    is_directory = os.path.isdir(target)
    if len(found) > 1 and not is_directory:
        raise typer.BadParameter(f"{target} is no directory", param_hint="DEST")
    told: list[dict[str, Any]] = []
    code = 0
    with ending_on_signals():
        outcomes = (
            _copied(
                image, list(places_in_it), target, recursive=recursive, streams=streams,
                as_is=as_is, with_path=from_find is not None,
            )
            for image, places_in_it in itertools.groupby(found, key=lambda place: place.image)
        )  # fmt: skip
        for place, outcome in itertools.chain(refused, itertools.chain.from_iterable(outcomes)):
            if isinstance(outcome, Exception):
                why = message_of(outcome) if from_find is None else _why_not(place, outcome)
                complain(why)
                is_usage = isinstance(outcome, typer.BadParameter)
                code = max(code, USAGE if is_usage else code_of(outcome))
                problems = [why]
                tally = outcome.tally if isinstance(outcome, TargetFullError) else None
            else:
                problems, tally = outcome
                report(place, tally, as_json=as_json)
                code = max(code, DAMAGED if problems else 0)
            told.append(_fields(place, problems, tally))
    if as_json:
        from .render import write_json

        write_json({"sources": told, "exit_code": code})
    if code:
        raise typer.Exit(code)


def _from_find(path: str, *, recursive: bool) -> tuple[list[Place], list[tuple[Place, Outcome]]]:
    """Return what of a list can be copied, and what cannot be, with the reason.

    Directories are in neither: they are made as far as what is copied lies in them.

    Raises:
        As `from_find.read_found`.
    """
    from ..catalog.errors import ImageNotFoundError
    from .from_find import read_found

    found: list[Place] = []
    refused: list[tuple[Place, Outcome]] = []
    for each in read_found(path):
        if each.is_directory and not recursive:
            continue
        if each.has_bytes:
            found.append(each.place)
            continue
        why = "is in no image that can be read, only where it lay in a snapshot: `imgcat recover`"
        refused.append((each.place, ImageNotFoundError(f"{why} gets it")))
    return found, refused


def _why_not(place: Place, error: Exception) -> str:
    """Return why one of many files is not copied: what is wrong with its image names no file."""
    from ..filesystems.names import shown

    why, path = message_of(error), shown(place.path or b"/")
    return why if path in why else f"{place.image}:{path}: {why}"


def _fields(place: Place, problems: list[str], tally: Tally | None) -> dict[str, Any]:
    """Return what came of one source, as JSON has it."""
    from ..filesystems.names import shown

    return {
        "place": f"{place.image}:{shown(place.path or b'/')}",
        "files": tally.files if tally else 0,
        "size": tally.size if tally else 0,
        "unchanged": tally.unchanged if tally else 0,
        "problems": problems,
        "not_kept": dict(sorted(tally.dropped.items())) if tally else {},
    }


def _with_path(text: str) -> Place:
    place = parse_place(text)
    if place.path is None:
        raise typer.BadParameter(f"{text!r} names no file in an image: IMAGE:/PATH")
    return place


def _copied(
    image: str,
    places: list[Place],
    target: str,
    *,
    recursive: bool,
    streams: bool,
    as_is: bool,
    with_path: bool,
) -> Iterator[tuple[Place, Outcome]]:
    """Yield places of one image and what came of them, each as it is copied."""
    from .from_find import target_of

    left = list(places)
    try:
        with (
            volume_and_catalog(image, as_is=as_is) as (volume, catalog),
            guarding(catalog) as guard,
        ):
            while left:
                try:
                    with naming(image):
                        into = target_of(left[0], target) if with_path else target
                        outcome: Outcome = copy_one(
                            volume, left[0], into, guard, recursive=recursive, streams=streams
                        )
                except _IsDirectoryError:
                    if not with_path:
                        raise
                    # What is in it is in the list itself, as far as it is wanted.
                    left.pop(0)
                    continue
                except typer.BadParameter as error:
                    if not with_path:
                        raise
                    outcome = error
                except OF_ONE_IMAGE as error:
                    # What is wrong with one of several must not end the work on the others.
                    outcome = error
                yield left.pop(0), outcome
    except OF_ONE_IMAGE as error:
        # It cannot be opened.
        for place in left:
            yield place, error


def copy_one(
    volume: Volume, place: Place, target: str, guard: Guard, *, recursive: bool, streams: bool
) -> tuple[list[str], Tally]:
    """Copy one file or directory; return what could not be copied, and what was.

    Raises:
        TargetFullError: the target takes no more.
        OSError: DEST cannot be opened.
        As `Volume.resolve`.
    """
    from ..filesystems.copying import Copier, size_below

    path = place.path
    assert path is not None
    problems: list[str] = []

    def tell(why: str) -> None:
        problems.append(why)
        complain(f"{place.image}:{why}")

    entry = volume.resolve(path, follow=False)
    if stat.S_ISDIR(entry.mode) and not recursive:
        raise _IsDirectoryError(f"{place.image}:{os.fsdecode(path)} is a directory: use -r")
    refuse_stream(target, entry.mode)
    name = path.rstrip(b"/").rpartition(b"/")[2]
    if name in {b".", b".."}:
        raise typer.BadParameter("a path that ends in . or .. gives no name")
    if os.path.isdir(target):
        into, name = target, name or os.fsencode(os.path.basename(place.image))
    else:
        into, last = os.path.split(target.rstrip("/"))
        name = os.fsencode(last)
    total = size_below(volume, entry) if is_watched() else 0
    with byte_bar(total, printable(place.image)) as progress:
        copier = Copier(
            volume, into or ".", tell=tell, guard=guard, streams=streams, progress=progress
        )
        try:
            copier.copy(entry, name, path, recursive=recursive)
        except OSError as error:
            raise TargetFullError(error, copier.tally) from error
        finally:
            copier.close()
    return problems, copier.tally


class _IsDirectoryError(typer.BadParameter):
    """A directory is named, and nobody has said that what is in it is wanted."""


class TargetFullError(OSError):
    """A target that takes no more.

    Args:
        error: what happened.
        tally: what was copied before.
    """

    def __init__(self, error: OSError, tally: Tally) -> None:
        files = f"{tally.files} file{'s' * (tally.files != 1)}"
        said = f"{error.strerror}: nothing more is copied; {files}, {tally.size} bytes, are there"
        super().__init__(error.errno, said, error.filename)
        self.tally = tally


def report(place: Place, tally: Tally, *, as_json: bool) -> None:
    """Tell what came of a copy."""
    for what, count in sorted(tally.dropped.items()):
        complain(f"{place.image}: not kept of {count} file{'s' * (count != 1)}: {what}")
    if not settings.quiet and not as_json:
        same = f", {tally.unchanged} there already" if tally.unchanged else ""
        files = f"{tally.files} file{'s' * (tally.files != 1)}"
        sys.stdout.write(f"copied    {files}, {tally.size} bytes{same}\n")


def tar(place: PlaceArgument, as_is: AsIsOption = False) -> None:
    """Write a file or a directory in an image to standard output, as a tar archive.

    Owners, modes, times, links and extended attributes are in it, whoever runs this. What cannot
    be read is named and the exit code is 5; of a file whose size is in the archive already, zeros
    stand for what is missing.

    \b
    Examples:
      imgcat tar sda1:/home/anna > anna.tar
      imgcat tar sda1:/etc | tar -tv
    """
    from ..filesystems.archive import Archiver, OutputError

    image, path = parse_place(place)
    if os.isatty(_STDOUT):
        raise typer.BadParameter("standard output is a terminal: write into a file or a pipe")
    problems = 0

    def tell(why: str) -> None:
        nonlocal problems
        problems += 1
        complain(f"{image}: {why}")

    with volume_of(image, as_is=as_is) as volume:
        entry = volume.resolve(path or b"/", follow=False)
        name = (path or b"/").strip(b"/").rpartition(b"/")[2] or b"."
        sys.stdout.flush()
        try:
            with open(_STDOUT, "wb", buffering=0, closefd=False) as out:
                archiver = Archiver(volume, out, tell)
                archiver.add(entry, name)
                archiver.close()
        except OutputError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise typer.Exit(BROKEN_PIPE) from error
            raise error.__cause__ or error from None
    if problems:
        notify(f"{image}: {problems} problem{'s' * (problems != 1)}")
        raise typer.Exit(DAMAGED)
