"""recover: files that were deleted, from where they lay when a snapshot was taken."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..formats.text import printable
from .arguments import JsonOption
from .completion import complete_snapshots
from .exit_codes import BROKEN_PIPE, DAMAGED, message_of, naming
from .files import time_of
from .guarding import guarding
from .recovery_report import RecoveryReport
from .settings import complain, notify, open_catalog
from .signals import ending_on_signals
from .snapshot import telling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.recovery.records import SavedName
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
            "--deleted", help="List what is gone since; with -o, recover that, below PATH."
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

    With -r, a file that cannot be written, as for want of --force, is told, and the others are.

    Exit code 5: of some file it is not said that it is verified, or it cannot be written; or, of
    --deleted, something cannot be read, or SOURCE holds another file system than the snapshot's.

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
            elif stat.S_ISDIR(top.mode) and not (recursive or deleted):
                raise typer.BadParameter(f"{place} is a directory: -r recovers directories")
            else:
                _check_kept(top)
                target = Target(opened, guard, force=force)
                code = _recover(
                    saved, opened, top, target, out, told, deleted=deleted, as_json=as_json
                )
    if code:
        raise typer.Exit(code)


def _check_kept(top: SavedName) -> None:
    """Check that what is to be recovered is of a kind that a snapshot keeps.

    Raises:
        RefusedError: it is not.
    """
    from ..filesystems.errors import RefusedError
    from ..filesystems.names import shown
    from .files import TYPES

    if not (stat.S_ISREG(top.mode) or stat.S_ISDIR(top.mode)):
        kind = TYPES.get(stat.S_IFMT(top.mode), "thing of an unknown kind")
        raise RefusedError(
            f"/{shown(top.path)}", 0,
            f"is a {kind}, and no regular file: of such a snapshot keeps no more than the name",
        )  # fmt: skip


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
    try:
        if as_json:
            from .render import write_json

            write_json([_fields(each) for each in gone.names()])
        else:
            for each in gone.names():
                time = time_of(each.mtime_ns, " ")
                sys.stdout.write(f"{each.size:>12} {time:<19} /{shown(each.path)}\n")
    except BrokenPipeError as error:
        raise typer.Exit(BROKEN_PIPE) from error
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
    """Recover a file, or all below a directory; return the exit code."""
    from ..catalog.recovery.recovering import Recovery
    from ..formats.files.new_file import TargetError

    is_one = not stat.S_ISDIR(top.mode)
    names = iter([top]) if is_one else saved.below(top)
    gone = _Gone(saved, source, top, told)
    if deleted:
        names = gone.names()
    recovery = Recovery(saved, source, target, told)
    report = RecoveryReport(source, is_one=is_one, as_json=as_json)
    chosen = _Chosen(target, out, top, report)
    try:
        recovery.check_source()
        for found in recovery.recover(chosen.places(names)):
            report.add(found)
        report.end(target)
    except TargetError as error:
        raise typer.BadParameter(printable(str(error)), param_hint="-o") from None
    finally:
        recovery.close()
    if gone.unknown:
        report.code = max(report.code, DAMAGED)
    if chosen.others:
        notify(f"{chosen.others} links, devices and the like: a snapshot keeps files only")
    if as_json:
        report.write(saved.snapshot.name, chosen.others)
    return report.code


class _Chosen:
    """Where each file goes to.

    Args:
        target: makes directories.
        out: where all goes to.
        top: what is got back.
        report: told which directories cannot be made.

    Attributes:
        others: names of what is no regular file, nor a directory.
    """

    def __init__(self, target: Target, out: str, top: SavedName, report: RecoveryReport) -> None:
        self._target = target
        self._out = out
        self._top = top
        self._report = report
        self._made: dict[bytes, bool] = {}
        self.others = 0

    def places(self, names: Iterator[SavedName]) -> Iterator[tuple[SavedName, str]]:
        """Yield regular files and their paths, whose directories are there.

        Raises:
            RefusedError: one would lie on the source.
            OSError: OUT cannot be made, or takes no more.
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
        self._made[b""] = True
        skip = len(self._top.path) + 1 if self._top.path else 0
        for name in names:
            path = name.path[skip:]
            is_directory = stat.S_ISDIR(name.mode)
            is_there = self._make(path if is_directory else os.path.dirname(path))
            if stat.S_ISREG(name.mode) and is_there:
                yield name, os.path.join(self._out, os.fsdecode(path))
            elif not stat.S_ISREG(name.mode) and not is_directory:
                self.others += 1

    def _make(self, path: bytes) -> bool:
        """Make a directory and those that it is in; tell whether it is there."""
        if path not in self._made:
            self._made[path] = self._make(os.path.dirname(path)) and self._make_one(path)
        return self._made[path]

    def _make_one(self, path: bytes) -> bool:
        from ..filesystems.target import FULL
        from ..formats.files.new_file import TargetError

        try:
            self._target.make_directory(os.path.join(self._out, os.fsdecode(path)))
        except (OSError, TargetError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            self._report.fail(f"{message_of(error)}: nothing is recovered into it")
            return False
        return True
