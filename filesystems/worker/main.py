"""The worker's program: one file system, asked by its parent until that closes the socket.

Started as ``python -P -m imgcat.filesystems.worker.main DESCRIPTOR``.
"""

from __future__ import annotations

import codecs
import importlib
import itertools
import json
import signal
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

from ..errors import DamagedError, RefusedError
from .confine import confine
from .driver import rows_of
from .source import Source
from .wire import (
    ALONE,
    CONTENT,
    FEW_BYTES,
    FEW_RUNS,
    MANY_RUNS,
    MOST,
    ROWS_AT_ONCE,
    RUN,
    Kind,
    pack_content,
    pack_entry,
    pack_rows,
    receive,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .driver import Content, Driver
    from .wire import Entry, Row

_BATCH = 64 << 10
_RUNS_AT_ONCE = 4096

_DRIVERS = {
    "ext2": ("ext", "open_ext"),
    "ext3": ("ext", "open_ext"),
    "ext4": ("ext", "open_ext"),
    "ntfs": ("ntfs", "Ntfs"),
    "vfat": ("fat", "Fat"),
    "exfat": ("exfat", "ExFat"),
    "xfs": ("xfs", "Xfs"),
    "hfsplus": ("hfsplus", "HfsPlus"),
    "iso9660": ("iso9660", "Iso9660"),
}
"""The module that reads each file system, and what in it opens one."""


class _Answers:
    """What is sent for one question.

    Args:
        connection: to the parent.
        driver: the file system.
    """

    def __init__(self, connection: socket.socket, driver: Driver) -> None:
        self._connection = connection
        self._driver = driver
        self._in_short = rows_of(driver)
        self._kind = Kind.ENTRIES
        self._batch: list[bytes] = []
        self._batched = 0

    def _send(self, kind: Kind, data: bytes | memoryview = b"") -> None:
        send(self._connection, kind, data)

    def _tell(self, text: str) -> None:
        # Problems come in order: behind what was found before, before what is found later.
        self.flush()
        self._send(Kind.PROBLEM, text.encode(errors="backslashreplace")[: MOST >> 4])

    def _entry(self, entry: Entry) -> None:
        self._keep(Kind.ENTRIES, pack_entry(entry))

    def _keep(self, kind: Kind, packed: bytes) -> None:
        """Keep a part of a frame back, to send more at once; all parts are of one kind."""
        if self._batched + len(packed) > MOST:
            self.flush()
        self._kind = kind
        self._batch.append(packed)
        self._batched += len(packed)
        if self._batched >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what was kept back."""
        if self._batch:
            self._send(self._kind, b"".join(self._batch))
            self._batch, self._batched = [], 0

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send all that answers a question, and return what comes last."""
        what = question.pop("ask")
        answers: dict[str, Callable[..., dict[str, Any]]] = {
            "list": self._list,
            "find": self._find,
            "stat": self._stat,
            "content": self._content,
            "read": self._read,
            "attributes": self._attributes,
            "streams": self._streams,
            "files": self._files,
            "contents": self._contents,
            "walk": self._walk,
        }
        return answers[what](**question)

    def _number(self, inode: int) -> int:
        """Return the number of a file: 0 stands for the root, whatever that has."""
        return inode or self._driver.root

    def _list(self, inode: int) -> dict[str, Any]:
        for entry in self._driver.entries(self._number(inode), self._tell):
            self._entry(entry)
        return {}

    def _find(self, inode: int, name: str) -> dict[str, Any]:
        entry = self._driver.find(self._number(inode), bytes.fromhex(name))
        if entry is None:
            raise FileNotFoundError("no such file")
        self._entry(entry)
        return {}

    def _stat(self, inode: int) -> dict[str, Any]:
        self._entry(self._driver.stat(self._number(inode)))
        return {}

    def _content(self, inode: int, stream: str) -> dict[str, Any]:
        content = self._driver.content(inode, bytes.fromhex(stream))
        runs = content.runs
        for why in content.reasons:
            self._tell(why)
        if runs is not None:
            for start in range(0, len(runs), _RUNS_AT_ONCE):
                some = runs[start : start + _RUNS_AT_ONCE]
                self._send(Kind.RUNS, b"".join(RUN.pack(*run) for run in some))
        return {"size": content.size, "plain": runs is not None}

    def _read(self, inode: int, stream: str, offset: int, length: int) -> dict[str, Any]:
        data = self._driver.read(inode, bytes.fromhex(stream), offset, min(length, MOST))
        self._send(Kind.DATA, data)
        return {}

    def _attributes(self, inode: int) -> dict[str, Any]:
        found = self._driver.attributes(self._number(inode), self._tell)
        return {"attributes": [[name.hex(), value.hex()] for name, value in found]}

    def _streams(self, inode: int) -> dict[str, Any]:
        return {
            "streams": [
                [name.hex(), size] for name, size in self._driver.streams(self._number(inode))
            ]
        }

    def _files(self, inodes: list[int]) -> dict[str, Any]:
        """Send a frame for each of some files, as far as it is small and nothing is wrong with it.

        What is said of the others is that they must be asked for one by one.
        """
        for inode in inodes:
            try:
                told = self._small(inode)
            except EOFError:
                raise
            except Exception:  # noqa: BLE001 - it is met again, and told, by who asks for this file
                told = None
            self._send(Kind.FILE, json.dumps({"inode": inode, "told": told}).encode())
        return {}

    def _contents(self, inodes: list[int]) -> dict[str, Any]:
        """Send where each of some files lies, or that it must be asked for alone."""
        for inode in inodes:
            try:
                told = self._in_few(inode, MANY_RUNS)
            except EOFError:
                raise
            except Exception:  # noqa: BLE001 - it is met again, and told, by who asks for this file
                told = None
            if told is None:
                self._keep(Kind.CONTENTS, CONTENT.pack(inode, 0, 0, ALONE))
                continue
            content, data = told
            packed = pack_content(inode, content.size, content.runs, data or b"")
            self._keep(Kind.CONTENTS, packed)
        return {}

    def _walk(self, inodes: list[int]) -> dict[str, Any]:
        """Send what some directories have, in short, each in a frame or more."""
        for inode in inodes:
            try:
                self._send_rows(inode)
            except (DamagedError, RefusedError, NotADirectoryError, FileNotFoundError) as error:
                self._tell(f"directory {inode}: {error}")
                self._rows(inode, [])
        return {}

    def _send_rows(self, inode: int) -> None:
        rows = self._in_short(self._number(inode), self._tell)
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            self._rows(inode, some)
            if len(some) < ROWS_AT_ONCE:
                return
        self._rows(inode, [])

    def _rows(self, inode: int, rows: list[Row]) -> None:
        self._keep(Kind.DIRECTORIES, pack_rows(inode, rows))

    def _small(self, inode: int) -> dict[str, Any] | None:
        """Return all that there is to know of a file, None where that is too much, or damaged."""
        problems: list[str] = []
        told = self._in_few(inode, FEW_RUNS)
        if told is None:
            return None
        content, data = told
        attributes = self._driver.attributes(inode, problems.append)
        streams = self._driver.streams(inode)
        if problems or sum(len(value) for _name, value in attributes) > FEW_BYTES:
            return None
        return {
            "size": content.size,
            "runs": None if content.runs is None else list(content.runs),
            "data": None if data is None else data.hex(),
            "attributes": [[name.hex(), value.hex()] for name, value in attributes],
            "streams": [[name.hex(), size] for name, size in streams],
        }

    def _in_few(self, inode: int, most_runs: int) -> tuple[Content, bytes | None] | None:
        """Return where a file lies, or what is in it; None where that is too much, or damaged."""
        content = self._driver.content(inode, b"")
        if content.reasons:
            return None
        if content.runs is not None:
            return None if len(content.runs) > most_runs else (content, None)
        if content.size > FEW_BYTES:
            return None
        data = self._driver.read(inode, b"", 0, content.size) if content.size else b""
        return (content, data) if len(data) == content.size else None


def _failure(error: Exception) -> tuple[Kind, dict[str, Any]]:
    """Return how the parent is told what went wrong."""
    if isinstance(error, RefusedError | DamagedError):
        kind = Kind.REFUSED if isinstance(error, RefusedError) else Kind.DAMAGED
        return kind, {
            "structure": error.structure, "offset": error.offset, "detail": error.detail,
        }  # fmt: skip
    if isinstance(error, FileNotFoundError):
        return Kind.MISSING, {"detail": str(error)}
    if isinstance(error, NotADirectoryError):
        return Kind.NO_DIRECTORY, {"detail": str(error)}
    kinds = {
        struct.error: "a structure is cut off",
        RecursionError: "it is nested too deep",
        MemoryError: "it takes more memory than there may be",
    }  # fmt: skip
    detail = kinds.get(type(error), f"{type(error).__name__}: {error}")
    return Kind.DAMAGED, {"structure": "file system", "offset": 0, "detail": detail}


def _opened(connection: socket.socket, question: dict[str, Any]) -> tuple[Driver, dict[str, Any]]:
    """Return the file system, opened once there is nothing left that it could do harm with."""
    module, name = _DRIVERS[question["type"]]
    kind = getattr(importlib.import_module(f".{module}", __package__), name)
    # What is imported when it is first needed is imported now.
    for codec in ("utf-16-le", "utf-16-be", "utf-8", "cp437", "cp850"):
        codecs.lookup(codec)
    lacking = confine(question["memory"], question["seconds"], connection.fileno())
    source = Source(connection, question["size"])
    driver: Driver = kind(source, question["type"], question["options"])
    return driver, {"root": driver.root, "lacking": lacking}


def main(descriptor: int) -> None:
    """Answer until the parent has gone."""
    # What the user interrupts is the parent's; it closes the socket then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    answers = None
    while True:
        try:
            _kind, data = receive(connection)
        except EOFError:
            return
        question = json.loads(bytes(data))
        try:
            if answers is None:
                driver, done = _opened(connection, question)
                answers = _Answers(connection, driver)
            else:
                done = answers.answer(question)
                answers.flush()
            send(connection, Kind.DONE, json.dumps(done).encode())
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:  # noqa: BLE001 - each is told, and becomes an error there
            if answers is not None:
                # What was found before is right.
                answers.flush()
            kind, failure = _failure(error)
            send(connection, kind, json.dumps(failure).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
