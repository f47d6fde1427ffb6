"""The parent's side of a worker: starting it, asking it, reading for it, ending it.

One worker a volume, one question at a time. A worker that dies, hangs or talks nonsense is an error
of the question that it was asked; the next question is answered by a new one.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..formats.errors import FormatError
from ..formats.index.rank_chunk import ChunkMissingError
from .errors import DamagedError, RefusedError, WorkerError
from .names import shown
from .worker.wire import MOST, READ, Kind, receive, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..formats.reader import ImageReader


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take.

    Attributes:
        memory: bytes of address space.
        cpu_seconds: of its whole life.
        seconds: of its own for one question; reading guest bytes for it is not counted.
        wall_seconds: for one question, all told.
    """

    memory: int = 1 << 30
    cpu_seconds: int = 3600
    seconds: float = 30.0
    wall_seconds: float = 900.0


_USUAL = Limits()
_RETIRED_AFTER = 1800.0
"""Seconds of work after which a worker is replaced, before its limit ends it."""

_TO_END = 1.0


@dataclasses.dataclass(slots=True)
class _Running:
    """A worker that runs. `worked` are the seconds that it was asked in."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    worked: float = 0.0

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class WorkerFailure(NamedTuple):
    """A worker that died, hung or talked nonsense.

    Attributes:
        when: seconds since 1970.
        fs_type: the file system that it read, as blkid has it.
        question: what it was asked.
        ending: what became of it.
    """

    when: float
    fs_type: str
    question: str
    ending: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"the reader of {self.fs_type}, asked for {self.question!r}, failed: {self.ending}"


_MOST_WAITING = 6


class Workers:
    """The workers of one program: few at a time, of which the longest unused ends.

    One that waits for bytes of its image is not counted: a disk that hangs holds up nobody else.

    Args:
        most: how many may run; of those that wait, `_MOST_WAITING` times as many.
    """

    def __init__(self, most: int = 6) -> None:
        self._most = most
        self._answering = threading.Semaphore(most)
        self._asked = threading.Semaphore(most * _MOST_WAITING)
        self._lock = threading.Lock()
        self._by_use: collections.OrderedDict[Worker, None] = collections.OrderedDict()

    def enter(self, worker: Worker) -> None:
        """Wait for a turn, and make room for a worker that is to run."""
        self._asked.acquire()
        self._answering.acquire()
        with self._lock:
            self._by_use[worker] = None
            self._by_use.move_to_end(worker)
            others = [each for each in self._by_use if each is not worker]
        for other in others[: max(0, len(others) - self._most + 1)]:
            # One that answers just now is not unused.
            if other.end_if_idle():
                self.forget(other)

    def leave(self) -> None:
        """Give the turn to another."""
        self._answering.release()
        self._asked.release()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Let another have the turn for the time of the block, and wait for one again."""
        self._answering.release()
        try:
            yield
        finally:
            self._answering.acquire()

    def forget(self, worker: Worker) -> None:
        """Take note that a worker does not run any more."""
        with self._lock:
            self._by_use.pop(worker, None)


class Worker:
    """What answers for one volume. Used from any thread.

    Args:
        reader: reads the volume.
        kind: its file system, as blkid has it.
        options: for the driver.
        workers: the other workers of this program.
        limits: what it may take.
        on_failure: told when a worker has died, hung or talked nonsense.
    """

    def __init__(
        self,
        reader: ImageReader,
        kind: str,
        options: dict[str, Any],
        workers: Workers,
        limits: Limits = _USUAL,
        on_failure: Callable[[WorkerFailure], None] = lambda _failure: None,
    ) -> None:
        self._reader = reader
        self._kind = kind
        self._options = options
        self._workers = workers
        self._limits = limits
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._read_error: Exception | None = None
        self._is_amid = False
        self._is_closed = False
        self.opened: dict[str, Any] = {}

    def ask(
        self,
        what: str,
        take: Callable[[Kind, memoryview], None],
        **arguments: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """Ask, and return what the answer ends with.

        Nobody else can ask meanwhile, nor may `take`.

        Args:
            what: the question.
            take: is given each frame of the answer but the last. Where it raises anything for what
                is in a frame, the worker is ended, as one that talks nonsense.
            arguments: of the question.

        Raises:
            RefusedError: it is of a kind that is not read.
            DamagedError: it cannot be read.
            FileNotFoundError: there is no such file.
            NotADirectoryError: it is no directory.
            WorkerError: the worker has died, hung, or talked nonsense.
            Exception: whatever the reader has raised.
        """
        with self._lock:
            if self._is_closed:
                raise ValueError("the volume is closed")
            self._workers.enter(self)
            is_done = False
            try:
                running = self._running or self._start()
                told = self._exchange(running, {"ask": what, **arguments}, take)
                is_done = True
                if running.worked > _RETIRED_AFTER:
                    self._end()
            except (RefusedError, FileNotFoundError, NotADirectoryError):
                is_done = not self._is_amid
                raise
            except DamagedError:
                is_done = not self._is_amid
                self._raise_read_error()
                raise
            finally:
                if not is_done:
                    # In the middle of an answer: whoever asks next must not get the rest of it.
                    self._end()
                self._workers.leave()
            # The worker may have gone on with what it could read: that is of another image by now.
            self._raise_read_error()
            return told

    def _raise_read_error(self) -> None:
        if self._read_error is not None:
            raise self._read_error from None

    def end_if_idle(self) -> bool:
        """End it, unless it answers just now; return whether it is ended."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._end()
        finally:
            self._lock.release()
        return True

    def close(self) -> None:
        """End it. Closing twice is harmless."""
        with self._lock:
            self._is_closed = True
            self._end()
        self._workers.forget(self)

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.end()

    def _start(self) -> _Running:
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(  # noqa: S603 - this Python, this package
                [
                    sys.executable, "-P", "-m", "imgcat.filesystems.worker.main",
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), cwd="/", start_new_session=True,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        running = self._running = _Running(process, ours)
        question = {
            "type": self._kind, "size": self._reader.size, "options": self._options,
            "memory": self._limits.memory, "seconds": self._limits.cpu_seconds,
        }  # fmt: skip
        try:
            self.opened = self._exchange(running, question, lambda _kind, _data: None)
        except BaseException:
            # It has nothing open: what it would answer to the next question is no answer.
            self._end()
            raise
        return running

    def _exchange(
        self,
        running: _Running,
        question: dict[str, Any],
        take: Callable[[Kind, memoryview], None],
    ) -> dict[str, Any]:
        """Send a question, read for the worker while it asks to, and take what it answers."""
        self._read_error = None
        self._is_amid = True
        about = str(question.get("ask", "open"))
        connection = running.connection
        left, began = self._limits.seconds, time.monotonic()
        late = f"no answer to {about!r} within {self._limits.seconds:g} s: it was ended"
        try:
            send(connection, Kind.ASK, json.dumps(question).encode())
            while True:
                asked = time.monotonic()
                kind, data = receive(connection, asked + left)
                took = time.monotonic() - asked
                left -= took
                running.worked += took
                if left <= 0 or asked - began > self._limits.wall_seconds:
                    break
                if kind is Kind.READ:
                    self._read_for(connection, data)
                elif kind in _FAILURES:
                    failure = _failure(kind, data)
                    self._is_amid = False
                    raise failure
                elif kind is Kind.DONE:
                    told = json.loads(bytes(data))
                    self._is_amid = False
                    return dict(told)
                else:
                    take(kind, data)
            why = late
        except TimeoutError:
            why = late
        except (EOFError, ConnectionError):
            why = f"it died when asked for {about!r}: {_end_of(running.process)}"
        except (ValueError, KeyError, TypeError, struct.error) as error:
            why = f"it answers {about!r} with what is no answer: {error}"
        self._end()
        self._on_failure(WorkerFailure(time.time(), self._kind, _in_words(question), why))
        raise WorkerError(f"reader of {self._kind}", 0, why)

    def _read_for(self, connection: socket.socket, data: memoryview) -> None:
        """Send the worker guest bytes that it asks for.

        Raises:
            ValueError: there are none.
        """
        if len(data) != READ.size:
            raise ValueError("a read without a range")
        offset, length = READ.unpack(data)
        if length > MOST or offset + length > self._reader.size:
            raise ValueError(f"it asks for bytes [{offset}, {offset + length})")
        view = memoryview(bytearray(length))
        try:
            with self._workers.aside():
                self._reader.read_into(view, offset)
        except (FormatError, ChunkMissingError, OSError) as error:
            send(connection, Kind.UNREADABLE, str(error).encode(errors="replace")[:4096])
        except Exception as error:  # noqa: BLE001 - raised where the answer ends
            self._read_error = error
            send(connection, Kind.UNREADABLE, str(error).encode(errors="replace")[:4096])
        else:
            send(connection, Kind.BYTES, view)


_LONGEST_QUESTION = 200


def _in_words(question: dict[str, Any]) -> str:
    words = [str(question.get("ask", "open"))]
    words += [str(question[key]) for key in ("inode", "offset", "length") if key in question]
    words += [shown(bytes.fromhex(question[key])) for key in ("name", "stream") if key in question]
    return " ".join(filter(None, words))[:_LONGEST_QUESTION]


_FAILURES = {Kind.REFUSED, Kind.DAMAGED, Kind.MISSING, Kind.NO_DIRECTORY}


def _failure(kind: Kind, data: memoryview) -> Exception:
    told = json.loads(bytes(data))
    if kind is Kind.MISSING:
        return FileNotFoundError(errno.ENOENT, str(told["detail"]))
    if kind is Kind.NO_DIRECTORY:
        return NotADirectoryError(errno.ENOTDIR, str(told["detail"]))
    error = RefusedError if kind is Kind.REFUSED else DamagedError
    return error(str(told["structure"]), int(told["offset"]), str(told["detail"]))


def _end_of(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(_TO_END)
    except subprocess.TimeoutExpired:
        return "it has closed its socket"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
