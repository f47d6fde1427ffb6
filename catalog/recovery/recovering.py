"""Getting files back from where they lay when a snapshot was taken, each with a verdict."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from ...filesystems.errors import RefusedError
from ...filesystems.of_one_file import OF_ONE_FILE
from ...filesystems.target import FULL
from ...filesystems.volume import found_in
from ..files.indexing import telling_uuid
from ..files.records import family
from .judging import read_file, verdict_of, with_owners
from .present import Wanted, look
from .records import Cause, Outcome, Unwritten, Verdict
from .target import beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ...formats.superblocks.file_system import FileSystem
    from .present import Present
    from .records import Range, SavedFile, SavedName, Snapshot
    from .source import Source
    from .stored import Saved
    from .taking import Telling
    from .target import Output, Target

_IS_WHOLE = frozenset({Verdict.VERIFIED, Verdict.UNVERIFIABLE})
"""Of these a file comes to be under its own name; of others, if at all, as `target.PARTIAL`."""

_IS_NOTHING = frozenset({Verdict.ZEROED, Verdict.ABSENT})
"""Of these there is nothing to write."""

_TOLD = frozenset({Cause.HOLDS})


class _NotWholeError(Exception):
    """What is being written is not to have its own name."""


class Recovery:
    """Gets files of a snapshot back. For one thread.

    Args:
        saved: the files of the snapshot.
        source: where they lay.
        target: where they go to.
        telling: who is told what.
    """

    def __init__(self, saved: Saved, source: Source, target: Target, telling: Telling) -> None:
        self._saved = saved
        self._source = source
        self._target = target
        self._telling = telling
        self._chosen: list[int] = []
        self._wanted: Wanted | None = None
        self._present: Present | None = None
        self._has_looked = False
        self._done = 0
        self._block_size = 1

    def close(self) -> None:
        """Throw away what was found out."""
        if self._present is not None:
            self._present.close()

    def check_source(self) -> None:
        """Check that the source may have what the snapshot tells of.

        Raises:
            RefusedError: it holds another file system, and there are no hashes by which to tell.
        """
        found = held_by(self._source)
        if found is not None:
            self._block_size = found.block_size or 1
        why = difference(found, self._saved.snapshot)
        if why is None:
            return
        if not self._saved.snapshot.has_hashes:
            raise RefusedError(
                self._source.name, 0, f"{why}: without hashes nothing would tell what came back"
            )
        self._telling.tell(why)

    def recover(self, files: Iterable[tuple[SavedName, str]]) -> Iterator[Outcome | Unwritten]:
        """Get files back, one after the other; `Target.sync` has them come to the disk.

        Args:
            files: regular files, and the paths that they go to, in directories that are there.

        Yields:
            What came of each. One that cannot be written does not stop the others, unless the
            target takes no more at all.

        Raises:
            CatalogError: the catalog is damaged.
            What `files` raises, before anything is written.
        """
        chosen = list(files)
        self._chosen = [name.inode for name, _path in chosen]
        self._telling.size(sum(name.size for name, _path in chosen))
        for name, path in chosen:
            found = self._try(name, path)
            yield found
            if isinstance(found, Unwritten) and found.ends_all:
                return
            self._done += name.size
            self._telling.done(self._done)

    def _try(self, name: SavedName, path: str) -> Outcome | Unwritten:
        try:
            return self._recover(name, path)
        except OF_ONE_FILE as error:
            # What cannot be read is an outcome: this is about what is written.
            ends_all = isinstance(error, OSError) and error.errno in FULL
            return Unwritten(error, ends_all)

    def _recover(self, name: SavedName, path: str) -> Outcome:
        file = self._saved.file(name.inode)
        if file is None:
            return self._absent(name, "where it lay was not kept: see what the snapshot said of it")
        if not self._source.has_unused and file.data is None:
            what = "has only what files use, and no blocks of deleted ones"
            return self._absent(name, f"{self._source.name} ({self._source.kind}) {what}")
        if file.why is not None:
            return self._absent(name, file.why)
        if file.data is not None:
            return self._from_catalog(name, path, file.data)
        if file.hashes is None and file.runs:
            self._look()
        with contextlib.suppress(_NotWholeError):
            return self._whole(name, path, file)
        return self._in_part(name, path, file)

    def _absent(self, name: SavedName, why: str) -> Outcome:
        return self._hinted(Outcome(name.path, name.size, Verdict.ABSENT, None, (), why))

    def _from_catalog(self, name: SavedName, path: str, data: bytes) -> Outcome:
        """Write a file that lay nowhere as it was: the catalog has what it held."""
        with self._target.writing(path, len(data), self._mode(name), name.mtime_ns) as output:
            output.write(0, memoryview(data))
        detail = "the snapshot itself has what it held"
        return Outcome(name.path, len(data), Verdict.VERIFIED, path, (), detail)

    def _whole(self, name: SavedName, path: str, file: SavedFile) -> Outcome:
        """Write a file under its own name.

        Raises:
            _NotWholeError: it is not to have that.
        """
        with self._target.writing(path, file.size, self._mode(name), name.mtime_ns) as output:
            ranges = self._read(name, file, output)
            verdict = verdict_of(ranges)
            if verdict not in _IS_WHOLE:
                raise _NotWholeError
        told = tuple(each for each in ranges if each.cause not in _TOLD)
        detail = ""
        if verdict is Verdict.UNVERIFIABLE:
            detail = "there are no hashes: whether it is what it was cannot be known"
        return self._hinted(Outcome(name.path, file.size, verdict, path, told, detail))

    def _in_part(self, name: SavedName, path: str, file: SavedFile) -> Outcome:
        """Write what there is of a file, and which bytes of it are not."""
        self._look()
        with contextlib.ExitStack() as stack:
            ranges = self._read(name, file, None)
            verdict = verdict_of(ranges)
            partial, map_of_it = beside(path)
            is_written = verdict not in _IS_NOTHING
            if is_written:
                # Before the file is there, and the map of it cannot be.
                self._target.check(map_of_it)
                output = stack.enter_context(
                    self._target.writing(partial, file.size, self._mode(name), name.mtime_ns)
                )
                # What is there may have changed since: what counts is what is written.
                ranges = self._read(name, file, output)
                verdict = verdict_of(ranges)
                for each in ranges:
                    if each.cause is Cause.OTHERS:
                        _clear(output, each)
            told = tuple(each for each in ranges if each.cause not in _TOLD)
            outcome = self._hinted(
                Outcome(name.path, file.size, verdict, partial if is_written else None, told)
            )
        if is_written:
            self._target.write_map(map_of_it, outcome, self._saved.snapshot.name)
        return outcome

    def _read(self, name: SavedName, file: SavedFile, output: Output | None) -> list[Range]:
        def write(offset: int, data: memoryview) -> None:
            if output is not None:
                output.write(offset, data)

        ranges = read_file(self._source.reader, file, write)
        if self._wanted is None:
            return ranges

        def owners(start: int, stop: int) -> Iterator[tuple[int, int, int, bytes]]:
            assert self._wanted is not None
            assert self._present is not None
            for held in self._wanted.holders(start, stop):
                if self._is_another(name, held.inode, held.start, held.stop):
                    yield *held, self._present.name_of(held.inode)

        return with_owners(ranges, owners)

    def _is_another(self, name: SavedName, inode: int, start: int, stop: int) -> bool:
        """Tell whether bytes that belong to a file now belong to another than then."""
        assert self._present is not None
        if inode == name.inode:
            now = self._present.find(name.path)
            if now is not None and now.inode == inode:
                return False
            # A number is given again: what has other times is another file.
            path = self._present.name_of(inode)
            now = self._present.find(path) if path else None
            return now is None or (now.size, now.mtime_ns) != (name.size, name.mtime_ns)
        # Files may share bytes, and did so then.
        before = self._saved.file(inode)
        if before is None or before.runs is None:
            return True
        return not any(
            place <= start and stop <= place + length
            for _start, length, place in before.runs
            if place >= 0
        )

    def _look(self) -> None:
        """Find out to which files the bytes belong now that are to come back, once."""
        if self._has_looked:
            return
        self._has_looked = True
        wanted = Wanted(self._ranges(), self._block_size)
        try:
            self._present = look(self._source, wanted, self._telling)
        except OF_ONE_FILE as error:
            self._telling.tell(
                f"{self._source.name}: to which files blocks belong now cannot be told: {error}"
            )
        else:
            self._wanted = wanted

    def _ranges(self) -> Iterator[tuple[int, int]]:
        for inode in set(self._chosen):
            file = self._saved.file(inode)
            if file is not None:
                for _start, length, place in file.runs or ():
                    if place >= 0:
                        yield place, length

    def _mode(self, name: SavedName) -> int:
        # Of a file system without owners, permissions stand for nothing.
        has_owners = self._saved.snapshot.fs_type in {"ext", "xfs"}
        return stat.S_IMODE(name.mode) & 0o777 if has_owners else 0o666

    def _hinted(self, outcome: Outcome) -> Outcome:
        """Return an outcome that offers older backups of the file, where it is not whole."""
        if outcome.verdict is Verdict.VERIFIED:
            return outcome
        backups = self._saved.backups(outcome.path)
        if not backups:
            return outcome
        offer = f"backups that have it: {', '.join(backups)} (`imgcat cp`)"
        return outcome._replace(detail="; ".join(filter(None, [outcome.detail, offer])))


def _clear(output: Output, each: Range) -> None:
    """Write zeros in place of bytes that are another file's."""
    zeros = memoryview(bytes(min(each.stop - each.start, 1 << 20)))
    for at in range(each.start, each.stop, len(zeros)):
        output.write(at, zeros[: each.stop - at])


def held_by(source: Source) -> FileSystem | None:
    """Return the file system that a source holds now; None where none is known, or readable."""
    with contextlib.suppress(*OF_ONE_FILE):
        return found_in(source.reader)
    return None


def difference(found: FileSystem | None, snapshot: Snapshot) -> str | None:
    """Return how what a source holds is another file system than that of a snapshot.

    Args:
        found: what it holds.
        snapshot: of what is to be there.

    Returns:
        A text that names both; None where it is the same, by its type and UUID.
    """
    holds = "no file system that is known"
    if found is not None:
        uuid = telling_uuid(found.uuid)
        if (family(found.type), uuid) == (snapshot.fs_type, snapshot.fs_uuid):
            return None
        holds = _called(found.type, uuid)
    return f"it holds {holds}, and the snapshot is of {_called(snapshot.fs_type, snapshot.fs_uuid)}"


def _called(fs_type: str, uuid: str | None) -> str:
    return f"{fs_type} {uuid or 'without a UUID'}"


def gone(
    saved: Saved, present: Present, top: SavedName, unknown: Callable[[SavedName], None]
) -> Iterator[SavedName]:
    """Yield the files below a directory, or the file itself, whose paths lead nowhere now.

    Args:
        saved: the files of the snapshot.
        present: what there is now.
        top: the directory, or file.
        unknown: given those of which it is not known: their directory could not be read.
    """
    names = saved.below(top) if stat.S_ISDIR(top.mode) else iter([top])
    for name in names:
        if stat.S_ISDIR(name.mode):
            continue
        is_gone = present.is_gone(name.path)
        if is_gone is None:
            unknown(name)
        elif is_gone:
            yield name


def output_of(out: str, name: SavedName) -> str:
    """Return where one file goes to: into a directory, or under a name."""
    if os.path.isdir(out):
        return os.path.join(out, os.fsdecode(os.path.basename(name.path)))
    return out
