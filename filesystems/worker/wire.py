"""What the worker and its parent say to each other: frames over a socket, numbers and bytes.

The parent trusts nothing of what comes back: every length has a limit, every number is checked
where it is used, and nothing is unpickled.
"""

from __future__ import annotations

import enum
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

MOST = 1 << 22
"""Bytes that a frame may have."""

_HEAD = struct.Struct("<IB")


class Kind(enum.IntEnum):
    """What a frame is.

    ASK: the parent wants something; JSON.
    BYTES: the parent's answer to READ.
    UNREADABLE: the same, where the bytes cannot be had; the reason.
    READ: the worker wants guest bytes.
    ENTRIES: some entries of a directory, or one file.
    RUNS: some runs of a file.
    DATA: some bytes of a file.
    PROBLEM: what cannot be read, while the rest can; a text. Before the runs of a file: why the
        first of those that are lost is, then the second, and so on.
    DONE: all of the answer was sent; JSON.
    REFUSED: what was asked for is of a kind that is not read; JSON.
    DAMAGED: what was asked for cannot be read; JSON.
    MISSING: there is no such file; JSON.
    NO_DIRECTORY: the file is no directory; JSON.
    FILE: all of a small file, of many that were asked for at once; JSON.
    DIRECTORIES: what some directories have, of many that were asked for at once, or parts of that,
        each as `pack_rows` packs it.
    CONTENTS: where some files lie, of many that were asked for at once, each as `pack_content`
        packs it.
    """

    ASK = 1
    BYTES = 2
    UNREADABLE = 3
    READ = 4
    ENTRIES = 5
    RUNS = 6
    DATA = 7
    PROBLEM = 8
    DONE = 9
    REFUSED = 10
    DAMAGED = 11
    MISSING = 12
    NO_DIRECTORY = 13
    FILE = 14
    DIRECTORIES = 15
    CONTENTS = 16


FEW_RUNS, FEW_BYTES = 16, 4096
"""Of a file that is told whole in one frame: its runs, or its bytes where they have no place."""

_Run = tuple[int, int, int]

READ = struct.Struct("<QI")
"""A guest offset, and how many bytes."""

RUN = struct.Struct("<QQq")
"""First byte in the file, how many, and where in the volume: there, `ZEROS` or `LOST`."""

ZEROS, LOST = -1, -2
"""In place of where a run lies: nowhere, for its bytes are zeros; or nobody knows, for what would
tell is damaged."""

MOST_REASONS = 64
"""Lost runs of a file of which it is told why; of others only that they are."""

ENTRY = struct.Struct("<QQqqqqIIIIIIIIQQBHH")
"""The numbers of an entry; name and link target follow it."""

NO_TIME = -(1 << 63)
"""In place of a time, where there is none."""

DIRECTORY = struct.Struct("<QII")
"""The number of a directory, how many of its entries follow, and bytes of all their names."""

CONTENT = struct.Struct("<QQIi")
"""The number of a file, its bytes, how many runs follow, and how many bytes behind those: of a file
that lies where its runs are `NO_DATA`, of one that must be asked for alone `ALONE`."""

NO_DATA, ALONE = -1, -2

MANY_RUNS = 64
"""Runs that a file has at most which is told of beside others."""

ROWS_AT_ONCE = 8192
"""Entries of a directory that go into one frame: with names of 255 bytes they have room in it."""

Row = tuple[bytes, int, int, int, int, int]
"""An entry in short: name, inode, size, nanoseconds since 1970 at which it was written or
`NO_TIME`, mode and flags."""


class Times(NamedTuple):
    """Nanoseconds since 1970; None where there is none."""

    modified: int | None
    accessed: int | None
    changed: int | None
    created: int | None


class Entry(NamedTuple):
    """A file, by a name that leads to it.

    Attributes:
        name: its name, as bytes; empty where it was asked for by its number.
        inode: its number; every name of a hard-linked file has the same.
        size: bytes.
        mode: type and permissions, as `stat` has them.
        links: names that it says it has.
        uid: its owner's number.
        gid: its group's number.
        device: of a device, its number as `os.makedev` makes it.
        stored: bytes that are allocated for it, 0 where that is not known.
        times: when it was written, read, changed and made.
        target: where a symbolic link leads; empty for others.
        flags: `COMPRESSED` and so on.
    """

    name: bytes
    inode: int
    size: int
    mode: int
    links: int = 1
    uid: int = 0
    gid: int = 0
    device: int = 0
    stored: int = 0
    times: Times = Times(None, None, None, None)
    target: bytes = b""
    flags: int = 0


COMPRESSED, ENCRYPTED, REPARSE, WALL_CLOCK = 1, 2, 4, 8
"""Flags of an entry: it is stored compressed, or encrypted, or is more than what it says; its times
are what a clock on the wall showed, as if that had been in UTC."""

_SECOND = 1_000_000_000


def pack_entry(entry: Entry) -> bytes:
    """Return an entry as a frame has it."""
    seconds, parts = [], []
    for each in entry.times:
        whole, part = (NO_TIME, 0) if each is None else divmod(each, _SECOND)
        seconds.append(whole)
        parts.append(part)
    numbers = ENTRY.pack(
        entry.inode, entry.size, *seconds, *parts, entry.mode, entry.links, entry.uid, entry.gid,
        entry.device, entry.stored, entry.flags, len(entry.name), len(entry.target),
    )  # fmt: skip
    return numbers + entry.name + entry.target


def unpack_entries(data: memoryview) -> list[Entry]:
    """Return the entries in a frame. Raises as `unpack_entry`."""
    found = []
    position = 0
    while position < len(data):
        entry, position = unpack_entry(data, position)
        found.append(entry)
    return found


def unpack_entry(data: memoryview | bytearray, position: int) -> tuple[Entry, int]:
    """Return the entry at a position, and the position behind it.

    Raises:
        struct.error: there are fewer bytes than it says.
    """
    (
        inode, size, modified, accessed, changed, created, part_m, part_a, part_c, part_b,
        mode, links, uid, gid, device, stored, flags, name_length, target_length,
    ) = ENTRY.unpack_from(data, position)  # fmt: skip
    position += ENTRY.size
    stop = position + name_length
    name = bytes(data[position:stop])
    position = stop + target_length
    target = bytes(data[stop:position])
    if position > len(data):
        raise struct.error("a name is cut off")
    times = Times(
        None if modified == NO_TIME else modified * _SECOND + part_m,
        None if accessed == NO_TIME else accessed * _SECOND + part_a,
        None if changed == NO_TIME else changed * _SECOND + part_c,
        None if created == NO_TIME else created * _SECOND + part_b,
    )
    entry = Entry(
        name, inode, size, mode, links, uid, gid, device, stored, times, target, flags
    )  # fmt: skip
    return entry, position


def moment(nanoseconds: int | None) -> int:
    """Return a time as a row has it: one beyond what 64 bits hold becomes the nearest in them."""
    if nanoseconds is None:
        return NO_TIME
    return min(max(nanoseconds, NO_TIME + 1), -(NO_TIME + 1))


def pack_rows(inode: int, rows: Sequence[Row]) -> bytes:
    """Return entries of a directory as a frame has them: column by column, names last.

    Args:
        inode: the directory.
        rows: `ROWS_AT_ONCE` at most; no name has a ``/`` in it.
    """
    count = len(rows)
    names, inodes, sizes, times, modes, flags = zip(*rows, strict=True) if rows else ((),) * 6
    joined = b"/".join(names)
    return b"".join(
        (
            DIRECTORY.pack(inode, count, len(joined)),
            struct.pack(f"<{count}Q", *inodes),
            struct.pack(f"<{count}Q", *sizes),
            struct.pack(f"<{count}q", *times),
            struct.pack(f"<{count}I", *modes),
            struct.pack(f"<{count}I", *flags),
            joined,
        )
    )


def pack_content(inode: int, size: int, runs: Sequence[_Run] | None, data: bytes) -> bytes:
    """Return what a file holds as a frame has it.

    Args:
        inode: the file.
        size: bytes.
        runs: where they lie, `MANY_RUNS` at most; None where they lie nowhere as they are.
        data: the bytes, `FEW_BYTES` at most, where there are no runs.
    """
    if runs is None:
        return CONTENT.pack(inode, size, 0, len(data)) + data
    head = CONTENT.pack(inode, size, len(runs), NO_DATA)
    return head + b"".join([RUN.pack(*run) for run in runs])


def send(connection: socket.socket, kind: Kind, data: bytes | memoryview = b"") -> None:
    """Send a frame.

    Raises:
        OSError: the other side is gone, or takes too long.
    """
    if len(data) < 1 << 12:
        connection.sendall(_HEAD.pack(len(data), kind) + bytes(data))
    else:
        connection.sendall(_HEAD.pack(len(data), kind))
        connection.sendall(data)


def receive(connection: socket.socket, deadline: float | None = None) -> tuple[Kind, memoryview]:
    """Wait for a frame, and return it.

    Args:
        connection: to the other side.
        deadline: when it must be here, by `time.monotonic`; None where one waits for ever.

    Raises:
        EOFError: the other side has closed, or is gone.
        ValueError: it is none.
        OSError: it takes too long.
    """
    length, kind = _HEAD.unpack(_exactly(connection, _HEAD.size, deadline))
    if length > MOST:
        raise ValueError(f"a frame of {length} bytes")
    return Kind(kind), _exactly(connection, length, deadline)


def _exactly(connection: socket.socket, length: int, deadline: float | None) -> memoryview:
    view = memoryview(bytearray(length))
    have = 0
    while have < length:
        if deadline is not None:
            # For each piece anew: who sends byte by byte gets no more time than others.
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        got = connection.recv_into(view[have:])
        if not got:
            raise EOFError("the other side is gone")
        have += got
    return view
