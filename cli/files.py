"""files: what is in an image; cat: what a file in it holds."""

from __future__ import annotations

import datetime as dt
import os
import stat
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption
from .completion import complete_images
from .exit_codes import BROKEN_PIPE, DAMAGED
from .inside import parse_place, volume_of
from .settings import complain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..filesystems.content import FileContent, WorkerContent
    from ..filesystems.volume import Volume
    from ..filesystems.worker.wire import Entry

PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE:/PATH",
        help="An image and a path in it: sda1:/etc/fstab.",
        autocompletion=complete_images,
    ),
]
AsIsOption = Annotated[
    bool,
    typer.Option("--as-is", help="Read a file system whose journal was not replayed."),
]
_STDOUT = 1
_PIECE = 1 << 20
_SECOND = 1_000_000_000


def files(
    place: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE[:/PATH]",
            help="An image, or a path in it: sda1:/etc.",
            autocompletion=complete_images,
        ),
    ],
    long: Annotated[
        bool, typer.Option("-l", "--long", help="Mode, owner, size and time as well.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("-R", "--recursive", help="All that is below, by its path.")
    ] = False,
    as_is: AsIsOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the files in an image, without root and without a mount.

    A partition of a disk is an image of its own, as ls lists it: disk.p1. The image may also be a
    file that is in no catalog. What is not printable in a name is written \\xHH, and can be typed
    so.

    Exit code 5: something could not be read, and is named; the rest is listed.

    \b
    Examples:
      imgcat files sda1
      imgcat files -l sda1:/home/anna
      imgcat files -R sda1:/etc --json
      imgcat files disk.img.p1:/Users
    """
    image, path = parse_place(place)
    problems = 0

    def tell(why: str) -> None:
        nonlocal problems
        problems += 1
        complain(f"{image}: {why}")

    from ..filesystems.names import shown

    with volume_of(image, as_is=as_is) as volume:
        start = volume.resolve(path or b"/", follow=not long)
        top = path if path is not None and recursive else b""
        if stat.S_ISDIR(start.mode):
            found = listed(volume, start, top.rstrip(b"/"), recursive=recursive, tell=tell)
        else:
            found = iter([(path or b"", start)])
        if as_json:
            from .render import write_json

            write_json([_fields(shown(name), entry) for name, entry in found])
        else:
            for name, entry in found:
                sys.stdout.write(line_of(shown(name), entry, long=long) + "\n")
    if problems:
        raise typer.Exit(DAMAGED)


def listed(
    volume: Volume,
    directory: Entry,
    path: bytes,
    *,
    recursive: bool,
    tell: Any,  # noqa: ANN401
) -> Iterator[tuple[bytes, Entry]]:
    """Yield paths and files, each directory before what is in it, names in order."""
    from ..filesystems.names import shown
    from ..filesystems.of_one_file import OF_ONE_FILE

    todo = [(path, directory, frozenset[int]())]
    is_first = True
    while todo:
        above, here, seen = todo.pop()
        if not is_first:
            yield above, here
            if not stat.S_ISDIR(here.mode):
                continue
            if here.inode in seen:
                tell(f"{shown(above)}: it is inside of itself")
                continue
        try:
            inside = volume.entries(here.inode, tell)
        except OF_ONE_FILE as error:
            if is_first:
                raise
            tell(f"{shown(above)}: {error}")
            continue
        inside.sort(key=lambda each: each.name)
        prefix = above + b"/" if above or recursive else b""
        if not recursive:
            yield from ((each.name, each) for each in inside)
            return
        seen |= {here.inode}
        todo += [(prefix + each.name, each, seen) for each in reversed(inside)]
        is_first = False


def line_of(name: str, entry: Entry, *, long: bool) -> str:
    """Return how a file is listed."""
    if not long:
        return name + "/" if stat.S_ISDIR(entry.mode) else name
    from ..filesystems.names import shown

    is_device = stat.S_IFMT(entry.mode) in {stat.S_IFCHR, stat.S_IFBLK}
    device = f"{os.major(entry.device)},{os.minor(entry.device)}"
    size = device if is_device else str(entry.size)
    arrow = f" -> {shown(entry.target)}" if stat.S_ISLNK(entry.mode) else ""
    time = time_of(entry.times.modified, " ")
    mode = stat.filemode(entry.mode)
    return (
        f"{mode} {entry.links:>3} {entry.uid:>5} {entry.gid:>5} {size:>12} {time:<19} {name}{arrow}"
    )


TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}  # fmt: skip


def _fields(name: str, entry: Entry) -> dict[str, Any]:
    """Return a file as JSON has it."""
    from ..filesystems.names import shown
    from ..filesystems.worker.wire import COMPRESSED, ENCRYPTED

    return {
        "path": name,
        "type": TYPES[stat.S_IFMT(entry.mode)],
        "inode": entry.inode,
        "size": entry.size,
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "links": entry.links,
        "modified": json_time(entry.times.modified),
        "accessed": json_time(entry.times.accessed),
        "changed": json_time(entry.times.changed),
        "created": json_time(entry.times.created),
        "target": shown(entry.target) if stat.S_ISLNK(entry.mode) else None,
        "compressed": bool(entry.flags & COMPRESSED),
        "encrypted": bool(entry.flags & ENCRYPTED),
    }


def time_of(nanoseconds: int | None, between: str = "T") -> str:
    """Return a time in UTC, to the second."""
    if nanoseconds is None:
        return "-"
    seconds = nanoseconds // _SECOND
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return moment.strftime(f"%Y-%m-%d{between}%H:%M:%S")


def json_time(nanoseconds: int | None) -> str | None:
    """Return a time in UTC as JSON has it, with all of its digits."""
    if nanoseconds is None:
        return None
    return f"{time_of(nanoseconds)}.{nanoseconds % _SECOND:09d}Z"


def cat(place: PlaceArgument, as_is: AsIsOption = False) -> None:
    """Write what a file in an image holds to standard output.

    Exit code 5: it cannot be read as a whole; what comes before the damage is written.

    \b
    Examples:
      imgcat cat sda1:/etc/fstab
      imgcat cat disk.p2:/Users/anna/photo.jpg > photo.jpg
    """
    image, path = parse_place(place)
    if path is None:
        raise typer.BadParameter(f"{place!r} names no file in the image: IMAGE:/PATH")
    with volume_of(image, as_is=as_is) as volume:
        entry = volume.resolve(path)
        if stat.S_ISDIR(entry.mode):
            raise typer.BadParameter(f"{place} is a directory: `imgcat files` lists it")
        refuse_special(entry)
        write_content(volume.content(entry.inode))


def refuse_special(entry: Entry) -> None:
    """Refuse what holds nothing in the image.

    Raises:
        RefusedError: it is a device, a fifo or a socket.
    """
    from ..filesystems.errors import RefusedError
    from ..formats.files.new_file import SPECIAL

    what = SPECIAL.get(stat.S_IFMT(entry.mode))
    if what is not None:
        raise RefusedError(f"file {entry.inode}", 0, f"it is {what}, which holds nothing")


def write_content(content: FileContent | WorkerContent) -> None:
    """Write what a file holds to standard output, behind what was written there before.

    Raises:
        typer.Exit: nobody reads it any more.
        FormatError: it cannot be read as a whole; what comes before the damage is written.
    """
    from ..formats.passes.export import STDOUT_NAME, write_all

    sys.stdout.flush()
    buffer = memoryview(bytearray(_PIECE))
    try:
        for start in range(0, content.size, _PIECE):
            view = buffer[: min(_PIECE, content.size - start)]
            length, error = _read_up_to(content, view, start)
            write_all(_STDOUT, view[:length], STDOUT_NAME)
            if error is not None:
                raise error
    except BrokenPipeError as gone:
        raise typer.Exit(BROKEN_PIPE) from gone


def _read_up_to(
    content: FileContent | WorkerContent, view: memoryview, offset: int
) -> tuple[int, Exception | None]:
    """Fill `view` as far as it can be read; return how far, and why the next byte cannot."""
    from ..filesystems.errors import WorkerError
    from ..filesystems.of_one_file import OF_ONE_FILE

    try:
        content.read_into(view, offset)
    except WorkerError:
        raise
    except OF_ONE_FILE as error:
        failure: Exception = error
    else:
        return len(view), None
    length, behind = 0, len(view)
    while behind - length > 1:
        middle = (length + behind) // 2
        try:
            content.read_into(view[length:middle], offset + length)
        except OF_ONE_FILE as error:
            behind, failure = middle, error
        else:
            length = middle
    return length, failure
