"""snapshot: where all files of a disk lie, kept, so that deleted ones can be got back."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption
from .completion import complete_snapshots
from .exit_codes import DAMAGED, naming
from .files import AsIsOption
from .progress import byte_bar, count_bar
from .settings import complain, open_catalog
from .signals import ending_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.recovery.records import Snapshot
    from ..catalog.recovery.taking import Taken, Telling
    from ..formats.progress import Progress

_MOST_TOLD = 20
"""Problems that are told one by one."""


def snapshot(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A device, a raw, VHD or QCOW2 image, or the name of one; without, what there is.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How it is called; no : or /. Else after SOURCE, and the time."
        ),
    ] = None,
    hash_them: Annotated[
        bool,
        typer.Option("--hash", help="Read all files too, to tell later what came back as it was."),
    ] = False,
    forget: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Delete the snapshot of that name.",
            autocompletion=complete_snapshots,
        ),
    ] = None,
    as_is: AsIsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Keep where each file of a disk lies, for the day on which one is deleted.

    Path, number, size and place of every regular file go into the catalog; `recover` reads a file
    from there even if it was deleted since, and `find` and `history` know it too. With --hash there
    is a hash of each 64 KiB, by which `recover` tells what came back as it was; without, it cannot.
    SOURCE is opened read-only. A mounted ext or XFS is asked file by file where it lies, which has
    the kernel write it out; of another file system that is mounted to be written, no snapshot is
    taken. How the file system was, and what may be missing for it, is kept and shown.

    Exit code 5: something could not be read, and is named; the rest is kept.

    \b
    Examples:
      imgcat snapshot /dev/sdb1 --hash
      imgcat snapshot disk.raw --name before-the-move
      imgcat snapshot
      imgcat snapshot --forget before-the-move
    """
    if forget is not None and source is not None:
        raise typer.BadParameter("SOURCE and --forget do not go together")
    if forget is not None:
        from ..catalog.recovery.stored import forget as forget_it

        with open_catalog(write=True) as catalog:
            forget_it(catalog, forget)
        return
    if source is None:
        _list(as_json=as_json)
        return
    code = _take(source, name, with_hashes=hash_them, as_is=as_is, as_json=as_json)
    if code:
        raise typer.Exit(code)


def _list(*, as_json: bool) -> None:
    from ..catalog.recovery.stored import snapshots
    from .render import human_size, write_json, write_table

    with open_catalog() as catalog:
        found = snapshots(catalog)
    if as_json:
        write_json([fields(each) for each in found])
        return
    columns = ("NAME", "TAKEN", "SOURCE", "FS", "SIZE", "FILES", "HASHES", "STATE")
    rows = [
        (
            each.name, each.taken_at, each.source, each.fs_type, human_size(each.size), each.files,
            each.has_hashes, each.state,
        )
        for each in found
    ]  # fmt: skip
    write_table(columns, rows, right=frozenset({"SIZE", "FILES"}))
    for each in found:
        if each.caveat:
            complain(f"{each.name}: {each.caveat}")


def fields(each: Snapshot) -> dict[str, Any]:
    """Return a snapshot as JSON has it."""
    return {
        "name": each.name,
        "taken_at": each.taken_at,
        "source": each.source,
        "source_kind": each.source_kind,
        "size": each.size,
        "fs_type": each.fs_type,
        "fs_uuid": each.fs_uuid,
        "state": each.state,
        "caveat": each.caveat,
        "has_hashes": each.has_hashes,
        "files": each.files,
        "problems": each.problems,
    }


def _take(what: str, name: str | None, *, with_hashes: bool, as_is: bool, as_json: bool) -> int:
    from ..catalog.recovery.source import open_source
    from ..catalog.recovery.stored import find_snapshot
    from ..catalog.recovery.taking import take_snapshot, usual_name

    with open_catalog(create=True) as catalog, ending_on_signals(), naming(what):
        with open_source(catalog, what, alone=True) as source, telling(what) as told:
            called = name or usual_name(source)
            taken = take_snapshot(
                catalog, source, called, with_hashes=with_hashes, as_is=as_is, telling=told
            )
        kept = find_snapshot(catalog, called)
    if as_json:
        from .render import write_json

        write_json(fields(kept))
    else:
        _report(kept, taken)
    if kept.caveat:
        complain(f"{called}: {kept.caveat}")
    return DAMAGED if kept.problems else 0


def _report(kept: Snapshot, taken: Taken) -> None:
    from ..formats.text import printable
    from .render import counted, human_size

    hashed = "hashed" if kept.has_hashes else "no hashes: what comes back cannot be verified"
    sys.stdout.write(
        f"{printable(kept.name)}: {counted(taken.files, 'file')},"
        f" {human_size(taken.size)} in blocks; {hashed}; {kept.state}\n"
    )


@contextlib.contextmanager
def telling(what: str) -> Iterator[Telling]:
    """Give what shows how far reading a source is, and tells what cannot be read of it."""
    from ..catalog.recovery.taking import Telling

    problems = 0

    def tell(why: str) -> None:
        nonlocal problems
        problems += 1
        if problems <= _MOST_TOLD:
            complain(f"{what}: {why}")

    with contextlib.ExitStack() as stack:
        shows: list[Progress] = []
        files = stack.enter_context(count_bar(what, "files"))

        def size(total: int) -> None:
            show = stack.enter_context(byte_bar(total, what))
            if show is not None:
                shows.append(show)

        def done(count: int) -> None:
            for show in shows[-1:]:
                show(count)

        yield Telling(tell, files, size, done)
    if problems > _MOST_TOLD:
        complain(f"{what}: {problems - _MOST_TOLD} more things could not be read")
