"""recover: files that were deleted, from where they lay when a snapshot was taken."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption
from .completion import complete_snapshots
from .exit_codes import DAMAGED, NOT_SUPPORTED, naming
from .files import time_of
from .guarding import guarding
from .settings import complain, notify, open_catalog
from .signals import ending_on_signals
from .snapshot import telling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.recovery.records import Outcome, SavedName
    from ..catalog.recovery.source import Source
    from ..catalog.recovery.stored import Saved
    from ..catalog.recovery.taking import Telling
    from ..catalog.recovery.target import Target


def recover(
    place: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:PATH]",
            help="A snapshot, and a file or directory in it.",
            autocompletion=complete_snapshots,
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="The device or image to read; else what the snapshot was taken of.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", metavar="OUT", help="Where to: a file, or a directory."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="A directory, with all that was in it.")
    ] = False,
    deleted: Annotated[
        bool,
        typer.Option(
            "--deleted", help="List what is gone since; with -o, recover no more than that."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read files from where they lay when a snapshot was taken, also if they were deleted since.

    Nothing is written to SOURCE, and OUT must not lie on it. Of each file it is said:

    \b
      verified      every hash holds: it is what it was
      partial       some bytes are not what they were, or cannot be read
      reallocated   no hash holds, or there are none: blocks belong to another file now
      zeroed        all of it reads as zeros, as after TRIM, and did not when it was hashed
      absent        SOURCE does not have the bytes: partclone and ntfsclone images have only what
                    files used; or they lay nowhere as they are, being compressed or encrypted
      unverifiable  there are no hashes: nothing is known to be wrong, and nobody can know

    What is verified or unverifiable is OUT. Of a partial or reallocated one there is OUT.partial,
    with zeros in place of bytes that are another file's, and OUT.partial.map, which says of each
    range what became of it: to 64 KiB of a run exactly, with the name of the file that has it now.
    Of what is zeroed or absent, nothing is written. Times and permissions are kept, owners are not.

    What lies in a directory of which not all can be read is not listed as deleted.

    Exit code 5: of some file it is not said that it is verified; or, of --deleted, something could
    not be read, or SOURCE holds another file system than that of the snapshot.

    \b
    Examples:
      imgcat recover --deleted before-the-move --from /dev/sdb1
      imgcat recover before-the-move:/home/anna/thesis.odt --from /dev/sdb1 -o thesis.odt
      imgcat recover -r before-the-move:/home/anna --from /dev/sdb1 -o /srv/rescued
    """
    name, path = _parse(place)
    if out is None and not deleted:
        raise typer.BadParameter("says where files go to; or --deleted lists", param_hint="-o")
    from ..catalog.recovery.source import open_source
    from ..catalog.recovery.stored import Saved, find_snapshot
    from ..catalog.recovery.target import Target

    with open_catalog() as catalog, ending_on_signals():
        snapshot = find_snapshot(catalog, name)
        from_where = source or snapshot.source
        with (
            naming(from_where),
            open_source(catalog, from_where) as opened,
            catalog.database.reading() as connection,
            telling(from_where) as told,
            guarding(catalog) as guard,
        ):
            saved = Saved(connection, snapshot)
            top = saved.find(path)
            if snapshot.caveat:
                complain(f"{name}: {snapshot.caveat}")
            if out is None:
                code = _list(saved, opened, top, told, as_json=as_json)
            elif stat.S_ISDIR(top.mode) and not recursive:
                raise typer.BadParameter(f"{place} is a directory: -r recovers directories")
            else:
                target = Target(opened, guard, force=force)
                code = _recover(
                    saved, opened, top, target, out, told, deleted=deleted, as_json=as_json
                )
    if code:
        raise typer.Exit(code)


def _parse(place: str) -> tuple[str, bytes]:
    from ..filesystems.names import typed

    between = ":/" if ":/" in place else ":"
    name, _between, path = place.partition(between)
    if not name:
        raise typer.BadParameter(f"{place!r} names no snapshot: NAME:/PATH")
    return name, typed(path)


def _list(saved: Saved, source: Source, top: SavedName, told: Telling, *, as_json: bool) -> int:
    """List what is gone since; return the exit code: that of what cannot be read, if any."""
    from ..catalog.recovery.recovering import difference, held_by
    from ..filesystems.names import shown

    problems = 0

    def tell(why: str) -> None:
        nonlocal problems
        problems += 1
        told.tell(why)

    why = difference(held_by(source), saved.snapshot)
    if why is not None:
        # A disk that was made anew is what one may mean: all is gone of it.
        tell(why)
    gone = _Gone(saved, source, top, dataclasses.replace(told, tell=tell))
    if as_json:
        from .render import write_json

        write_json([_fields(each) for each in gone.names()])
    else:
        for each in gone.names():
            time = time_of(each.mtime_ns, " ")
            sys.stdout.write(f"{each.size:>12} {time:<19} /{shown(each.path)}\n")
    return DAMAGED if problems or gone.unknown else 0


class _Gone:
    """The files of a snapshot that are gone since.

    Args:
        saved: the files of the snapshot.
        source: where they lay.
        top: the directory that they are in, or the one file that is meant.
        told: told what cannot be read of the source.

    Attributes:
        unknown: files of which it is not known whether they are gone.
    """

    def __init__(self, saved: Saved, source: Source, top: SavedName, told: Telling) -> None:
        self._saved = saved
        self._source = source
        self._top = top
        self._told = told
        self.unknown = 0

    def names(self) -> Iterator[SavedName]:
        """Yield them, and say at the end of how many it is not known.

        Raises:
            As `present.look`.
        """
        from ..catalog.recovery.present import look
        from ..catalog.recovery.recovering import gone

        present = look(self._source, None, self._told)
        try:
            yield from gone(self._saved, present, self._top, self._count)
        finally:
            present.close()
        if self.unknown:
            is_one = self.unknown == 1
            files = (
                "1 file is in a directory" if is_one else f"{self.unknown} files are in directories"
            )
            complain(
                f"{self._source.name}: {files} that cannot be read: whether"
                f" {'it is' if is_one else 'they are'} gone is not known"
            )

    def _count(self, _name: SavedName) -> None:
        self.unknown += 1


def _fields(each: SavedName) -> dict[str, Any]:
    from ..filesystems.names import shown
    from .files import TYPES

    return {
        "path": "/" + shown(each.path),
        "type": TYPES.get(stat.S_IFMT(each.mode)),
        "inode": each.inode,
        "size": each.size,
        "modified": None if each.mtime_ns is None else f"{time_of(each.mtime_ns)}Z",
    }


def _recover(
    saved: Saved,
    source: Source,
    top: SavedName,
    target: Target,
    out: str,
    told: Telling,
    *,
    deleted: bool,
    as_json: bool,
) -> int:
    from ..catalog.recovery.records import Verdict
    from ..catalog.recovery.recovering import Recovery
    from ..formats.files.new_file import TargetError

    names = iter([top])
    gone = _Gone(saved, source, top, told)
    if deleted:
        names = gone.names()
    elif stat.S_ISDIR(top.mode):
        names = saved.below(top)
    recovery = Recovery(saved, source, target, told)
    outcomes: list[dict[str, Any]] = []
    code = 0
    try:
        recovery.check_source()
        chosen = _Chosen(target, out, top)
        for outcome in recovery.recover(chosen.places(names)):
            if as_json:
                outcomes.append(_outcome_fields(outcome))
            else:
                _report(outcome)
            if outcome.verdict is not Verdict.VERIFIED:
                code = max(code, DAMAGED if source.has_unused else NOT_SUPPORTED)
    except TargetError as error:
        raise typer.BadParameter(str(error), param_hint="-o") from None
    finally:
        recovery.close()
    if gone.unknown:
        code = max(code, DAMAGED)
    if chosen.others:
        notify(f"{chosen.others} links, devices and the like: a snapshot keeps files only")
    if as_json:
        from .render import write_json

        write_json(
            {
                "snapshot": saved.snapshot.name,
                "source": source.name,
                "files": outcomes,
                "others": chosen.others,
                "exit_code": code,
            }
        )
    return code


class _Chosen:
    """Where each file goes to.

    Args:
        target: makes directories.
        out: where all goes to.
        top: what is got back.

    Attributes:
        others: names of what is no regular file, nor a directory.
    """

    def __init__(self, target: Target, out: str, top: SavedName) -> None:
        self._target = target
        self._out = out
        self._top = top
        self.others = 0

    def places(self, names: Iterator[SavedName]) -> Iterator[tuple[SavedName, str]]:
        """Yield regular files and their paths, whose directories are there.

        Raises:
            RefusedError: one would lie on the source.
            OSError: a directory cannot be made.
        """
        from ..catalog.recovery.recovering import output_of

        if not stat.S_ISDIR(self._top.mode):
            for name in names:
                if stat.S_ISREG(name.mode):
                    yield name, output_of(self._out, name)
                else:
                    self.others += 1
            return
        self._target.make_directory(self._out)
        made = {b""}
        skip = len(self._top.path) + 1 if self._top.path else 0
        for name in names:
            path = name.path[skip:]
            is_directory = stat.S_ISDIR(name.mode)
            self._make(path if is_directory else os.path.dirname(path), made)
            if stat.S_ISREG(name.mode):
                yield name, os.path.join(self._out, os.fsdecode(path))
            elif not is_directory:
                self.others += 1

    def _make(self, path: bytes, made: set[bytes]) -> None:
        if path in made:
            return
        self._make(os.path.dirname(path), made)
        self._target.make_directory(os.path.join(self._out, os.fsdecode(path)))
        made.add(path)


def _report(outcome: Outcome) -> None:
    from ..catalog.recovery.records import Cause
    from ..filesystems.names import shown

    where = "" if outcome.output is None else f" -> {outcome.output}"
    told = f": {outcome.detail}" if outcome.detail else ""
    sys.stdout.write(f"{outcome.verdict.value:<12} /{shown(outcome.path)}{where}{told}\n")
    bad = [each for each in outcome.ranges if each.cause is not Cause.UNKNOWN]
    for each in bad[:_MOST_RANGES]:
        owner = ""
        if each.cause is Cause.OTHERS:
            known = f"/{shown(each.owner)}" if each.owner else "a file without a name"
            owner = f", now of {known}"
        sys.stdout.write(f"    [{each.start}, {each.stop}) {each.cause.value}{owner}\n")
    if len(bad) > _MOST_RANGES:
        sys.stdout.write(f"    and {len(bad) - _MOST_RANGES} more ranges\n")


_MOST_RANGES = 8


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    from ..catalog.recovery.target import range_fields
    from ..filesystems.names import shown

    return {
        "path": "/" + shown(outcome.path),
        "size": outcome.size,
        "verdict": outcome.verdict.value,
        "output": outcome.output,
        "detail": outcome.detail,
        "ranges": [range_fields(each) for each in outcome.ranges],
    }
