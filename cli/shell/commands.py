"""The commands of the shell: a table, and what each does with the image at hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from ...formats.text import printable
from ..arguments import parse_size
from . import files
from .session import Quit, UsageError, write, write_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session

    _Run = Callable[[Session, list[str]], None]

_PIECE = 64 << 10
_USUAL_LENGTH = 256


class Command(NamedTuple):
    """A command.

    Attributes:
        usage: what it takes.
        help: what it does, in a line.
        run: does it.
        examples: how it is used.
    """

    usage: str
    help: str
    run: _Run
    examples: tuple[str, ...] = ()


def usage_of(name: str) -> str:
    """Return how a command is used."""
    return f"usage: {f'{name} {COMMANDS[name].usage}'.strip()}"


def _info(session: Session, words: list[str]) -> None:
    _take(words, 0)
    row, record = session.record.row, session.record
    write_fields(
        {
            "name": row.name,
            "id": row.id,
            "format": f"{row.format} {row.format_version}".strip(),
            "holds": row.fs_type,
            "size": f"{row.size_bytes} bytes",
            "used": f"{row.used_bytes} bytes, units of {row.block_size}",
            "compression": row.compression,
            "status": row.status,
            "part of": row.parent,
        }
    )
    for number, volume in enumerate(session.opened.spec.volumes):
        role = f" ({volume.role})" if volume.role != "image" else ""
        write(f"file {number}: {volume.path}{role}, {volume.size_bytes} bytes")
    for segment in record.segments:
        if segment.child_name is not None and row.path is not None:
            write(f"a difference to {segment.child_name}")
    for warning in record.warnings:
        write(f"warning: {warning}")


def _header(session: Session, words: list[str]) -> None:
    _take(words, 0)
    if session.record.row.format == "qcow2":
        from . import qcow2

        qcow2.write_header(session)
    elif session.record.row.format == "vhd":
        from . import vhd

        vhd.write_header(session)
    else:
        write_fields(dict(session.record.header))


def _footer(session: Session, words: list[str]) -> None:
    _take(words, 0)
    _must_be(session, "vhd", "footer")
    from . import vhd

    vhd.write_footer(session)


def _bat(session: Session, words: list[str]) -> None:
    _take(words, 1)
    _must_be(session, "vhd", "bat")
    from . import vhd

    vhd.write_table(session, _numbers(words))


def _l1(session: Session, words: list[str]) -> None:
    _take(words, 0)
    _must_be(session, "qcow2", "l1")
    from . import qcow2

    qcow2.write_l1(session)


def _l2(session: Session, words: list[str]) -> None:
    _take(words, 1, least=1)
    _must_be(session, "qcow2", "l2")
    from . import qcow2

    qcow2.write_l2(session, parse_size(words[0]))


def _map(session: Session, words: list[str]) -> None:
    from ...formats.extent import joined_in_place
    from ..map import write_map_table

    _take(words, 1)
    reader = session.opened.reader
    start, stop = _range(words, reader.size)
    write_map_table(joined_in_place(reader.extents(start, stop)), reader.size)


def _where(session: Session, words: list[str]) -> None:
    from .where import steps

    _take(words, 1, least=1)
    offset = parse_size(words[0])
    if offset >= session.opened.reader.size:
        raise UsageError(f"the image has {session.opened.reader.size} bytes")
    for depth, step in enumerate(steps(session, offset)):
        write(f"{'  ' * depth}{step}")


def _hexdump(session: Session, words: list[str]) -> None:
    from ...formats.stored.used_windows import read_guest
    from ..hexdump import hexdump

    _take(words, 2, least=1)
    reader = session.opened.reader
    offset = parse_size(words[0])
    if offset >= reader.size:
        raise UsageError(f"the image has {reader.size} bytes")
    length = parse_size(words[1]) if len(words) > 1 else _USUAL_LENGTH
    stop = min(reader.size, offset + length)
    for start in range(offset, stop, _PIECE):
        view = memoryview(bytearray(min(_PIECE, stop - start)))
        read_guest(reader, view, start)
        sys.stdout.write(hexdump(view, start))


def _partitions(session: Session, words: list[str]) -> None:
    from ..render import write_table

    _take(words, 0)
    inside = session.catalog.inside(session.record.row.id)
    if inside.table is None:
        session.not_found(f"{session.name}: no partition table was found in it")
        return
    write(inside.table.words)
    columns = ("NUMBER", "START", "STOP", "TYPE", "HOLDS", "LABEL", "IMAGE")
    rows = [
        (
            f"p{each.number}", str(each.start), str(each.stop), each.type_name or each.type,
            each.fs_type, each.label, each.image,
        )
        for each in inside.partitions
    ]  # fmt: skip
    write_table(columns, rows, right=frozenset({"START", "STOP"}))


def _use(session: Session, words: list[str]) -> None:
    _take(words, 1, least=1)
    session.use(words[0])


def _verify(session: Session, words: list[str]) -> None:
    from ..settings import open_catalog
    from ..verify import verify_one

    _take(words, 0)
    with open_catalog(write=True) as catalog:
        code, _report = verify_one(catalog, session.record.row.id)
    session.code = max(session.code, code)
    session.look_again()


def _export(session: Session, words: list[str]) -> None:
    from ..export import export

    paths = [word for word in words if word != "--force"]
    _take(paths, 1, least=1)
    export(str(session.record.row.id), paths[0], force=len(paths) < len(words))


def _help(_session: Session, words: list[str]) -> None:
    _take(words, 1)
    if not words:
        for name in COMMANDS:
            write(_help_of(name))
        return
    name = words[0]
    if name not in COMMANDS:
        raise UsageError(f"{name}: no such command")
    write(_help_of(name))
    for example in COMMANDS[name].examples:
        write(f"  {example}")


def _help_of(name: str) -> str:
    command = COMMANDS[name]
    return f"{f'{name} {command.usage}':<24} {command.help}"


def _quit(_session: Session, words: list[str]) -> None:
    _take(words, 0)
    raise Quit


def _take(words: list[str], most: int, *, least: int = 0) -> None:
    if len(words) > most:
        raise UsageError(f"{printable(words[most])!r} is too much")
    if len(words) < least:
        raise UsageError("something is missing")


def _must_be(session: Session, image_format: str, what: str) -> None:
    if session.record.row.format != image_format:
        raise UsageError(f"{session.name} is {session.record.row.format}, which has no {what}")


def _range(words: list[str], size: int) -> tuple[int, int]:
    """Return the guest bytes that a word such as ``1M-2M``, ``1M-`` or ``1M`` means."""
    if not words:
        return 0, size
    start_text, dash, stop_text = words[0].partition("-")
    start = parse_size(start_text) if start_text else 0
    stop = parse_size(stop_text) if stop_text else size if dash else start + 1
    if not 0 <= start < stop <= size:
        raise UsageError(f"{words[0]} is no range within {size} bytes")
    return start, stop


def _numbers(words: list[str]) -> tuple[int, int | None]:
    """Return first and behind the last of what ``3``, ``3-7`` or ``3-`` means, all of nothing.

    Numbers of entries are counted as people do: the last one is among them.
    """
    if not words:
        return 0, None
    first, dash, last = words[0].partition("-")
    start = parse_size(first)
    if not dash:
        return start, start + 1
    stop = parse_size(last) + 1 if last else None
    if stop is not None and stop <= start:
        raise UsageError(f"{words[0]} is no range")
    return start, stop


COMMANDS = {
    "info": Command("", "what the image is, and its files", _info, ("info",)),
    "header": Command("", "its header, every field", _header, ("header",)),
    "footer": Command(
        "", "of a VHD: its footer and dynamic header, every field", _footer, ("footer",)
    ),
    "bat": Command(
        "[N[-M]]", "of a VHD: where its blocks lie, all or those from N to M", _bat,
        ("bat", "bat 7", "bat 7-12", "bat 7-"),
    ),
    "l1": Command("", "of a QCOW2: the first table", _l1, ("l1",)),
    "l2": Command(
        "N", "of a QCOW2: the table that entry N of the first leads to", _l2, ("l2 0",)
    ),
    "map": Command(
        "[START[-STOP]]", "which guest bytes are stored, and where: all, one, or before STOP", _map,
        ("map", "map 0x1000", "map 1M-2M", "map 1_000_000-"),
    ),
    "where": Command(
        "OFFSET", "where a guest byte lies, through all that is between", _where,
        ("where 0", "where 0x100000", "where 1M"),
    ),
    "hexdump": Command(
        "OFFSET [LENGTH]", f"guest bytes, {_USUAL_LENGTH} if it is not said how many", _hexdump,
        ("hexdump 0", "hexdump 1K 64"),
    ),
    "ls": Command(
        "[-l] [PATH]", "the files in a directory", files.ls, ("ls", "ls -l /etc")
    ),
    "cd": Command("[PATH]", "go to a directory", files.cd, ("cd /etc", "cd ..")),
    "cat": Command("PATH", "what a file holds", files.cat, ("cat /etc/fstab",)),
    "cp": Command(
        "[-r] PATH... DEST", "copy files out of the image", files.cp,
        ("cp /etc/fstab .", "cp -r /home/anna /srv/restored"),
    ),
    "stat": Command(
        "PATH", "what a file is, and where in the image its runs lie", files.tell_of,
        ("stat /etc/fstab",),
    ),
    "partitions": Command("", "the partition table", _partitions, ("partitions",)),
    "use": Command(
        "pN|IMAGE|..", "look into a partition, into another image, or back", _use,
        ("use p1", "use ..", "use base.qcow2"),
    ),
    "verify": Command("", "check all that is stored, and record the result", _verify, ("verify",)),
    "export": Command(
        "[--force] OUT", "write the guest bytes to a file", _export,
        ("export disk.raw", "export --force disk.raw"),
    ),
    "help": Command("[COMMAND]", "this, or how one of them is used", _help, ("help bat",)),
    "quit": Command("", "end; so does Ctrl-D", _quit, ("quit",)),
}  # fmt: skip
