"""The commands of the shell that look at the files in an image."""

from __future__ import annotations

import posixpath
import stat
from typing import TYPE_CHECKING

from ..exit_codes import DAMAGED
from .session import UsageError, write, write_fields

if TYPE_CHECKING:
    from ...filesystems.worker.wire import Entry
    from .session import Session


def ls(session: Session, words: list[str]) -> None:
    """List a directory, or tell of a file."""
    from ...filesystems.names import shown
    from ..files import line_of, listed

    flags, paths = _options(words, "-l")
    path = _path(session, paths[0] if paths else ".")
    long = "-l" in flags
    entry = session.volume.resolve(path, follow=not long)
    if not stat.S_ISDIR(entry.mode):
        write(line_of(shown(path), entry, long=long))
        return
    found = listed(
        session.volume, entry, b"", recursive=False, tell=lambda why: session.fail(why, DAMAGED)
    )
    for name, each in found:
        write(line_of(shown(name), each, long=long))


def cd(session: Session, words: list[str]) -> None:
    """Go to a directory, to the root where none is named."""
    _flags, paths = _options(words)
    path = _path(session, paths[0] if paths else "/")
    if not stat.S_ISDIR(session.volume.resolve(path).mode):
        raise UsageError(f"{words[0]} is no directory")
    session.directory = path


def cat(session: Session, words: list[str]) -> None:
    """Write what a file holds."""
    from ..files import refuse_special, write_content

    _flags, paths = _options(words, least=1)
    entry = session.volume.resolve(_path(session, paths[0]))
    if stat.S_ISDIR(entry.mode):
        raise UsageError(f"{paths[0]} is a directory")
    refuse_special(entry)
    write_content(session.volume.content(entry.inode))


def cp(session: Session, words: list[str]) -> None:
    """Copy files out of the image."""
    from ..copy import copy_one, report
    from ..guarding import guarding
    from ..inside import Place

    flags, paths = _options(words, "-r", most=1000, least=2)
    *sources, target = paths
    with guarding(session.catalog) as guard:
        for source in sources:
            place = Place(session.name, _path(session, source))
            problems, tally = copy_one(
                session.volume, place, target, guard, recursive="-r" in flags, streams=False
            )
            report(place, tally, as_json=False)
            if problems:
                session.code = max(session.code, DAMAGED)


def tell_of(session: Session, words: list[str]) -> None:
    """Tell what a file is, and where in the image each of its runs lies."""
    _flags, paths = _options(words, least=1)
    path = _path(session, paths[0])
    entry = session.volume.resolve(path, follow=False)
    write_fields(_fields(path, entry))
    for name, value in session.volume.attributes(entry.inode, write).items():
        write(f"attribute {name.decode(errors='backslashreplace')}: {len(value)} bytes")
    for name, size in session.volume.streams(entry.inode):
        write(f"stream {name.decode(errors='backslashreplace')}: {size} bytes")
    if stat.S_ISREG(entry.mode):
        _write_runs(session, entry)


def _fields(path: bytes, entry: Entry) -> dict[str, object]:
    from ...filesystems.names import shown
    from ..files import TYPES, time_of

    fields: dict[str, object] = {
        "path": shown(path),
        "type": TYPES[stat.S_IFMT(entry.mode)],
        "inode": entry.inode,
        "size": f"{entry.size} bytes",
        "stored": f"{entry.stored} bytes" if entry.stored else None,
        "mode": f"{stat.S_IMODE(entry.mode):04o} {stat.filemode(entry.mode)}",
        "owner": f"{entry.uid}:{entry.gid}",
        "links": entry.links,
    }
    if stat.S_ISLNK(entry.mode):
        fields["target"] = shown(entry.target)
    return fields | {name: time_of(moment, " ") for name, moment in entry.times._asdict().items()}


def _write_runs(session: Session, entry: Entry) -> None:
    from ...filesystems.content import FileContent
    from ...filesystems.worker.wire import LOST, ZEROS
    from ..render import write_table

    content = session.volume.content(entry.inode, tell=lambda why: session.fail(why, DAMAGED))
    if not isinstance(content, FileContent):
        write("its bytes lie nowhere as they are: in the inode, or compressed")
        return
    words = {ZEROS: "zeros", LOST: "cannot be read"}
    rows = [
        (start, stop, words.get(place, place))
        for start, stop, place in content.runs(0, content.size)
    ]
    write_table(("START", "STOP", "IN THE IMAGE"), rows, right=frozenset({"START", "STOP"}))


def _path(session: Session, word: str) -> bytes:
    """Return the path from the root on that a user means, who stands in a directory."""
    from ...filesystems.names import typed

    path = posixpath.normpath(posixpath.join(session.directory, typed(word)))
    # Two slashes at the beginning stay two there.
    return b"/" + path.lstrip(b"/")


def _options(
    words: list[str], *known: str, most: int = 1, least: int = 0
) -> tuple[set[str], list[str]]:
    flags = {word for word in words if word in known}
    paths = [word for word in words if word not in known]
    if len(paths) > most:
        raise UsageError(f"{paths[most]!r} is too much")
    if len(paths) < least:
        raise UsageError("something is missing")
    return flags, paths
