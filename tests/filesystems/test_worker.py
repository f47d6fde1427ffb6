"""The process that parses file systems: what it may not do, and what its end means."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from imgcat.filesystems.errors import WorkerError
from imgcat.filesystems.process import Limits, Workers
from imgcat.filesystems.volume import Volume
from imgcat.filesystems.worker.wire import Entry, Times, pack_entry, unpack_entries
from imgcat.formats.errors import FormatError
from support.files_inside import asked_within, volume_in
from support.program import wait_until
from support.volumes import MIB, quiet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("volume")
    content = place / "content"
    (content / "directory").mkdir(parents=True)
    for number in range(50):
        (content / "directory" / f"file{number}").write_text(str(number))
    path = place / "volume.raw"
    path.touch()
    os.truncate(path, 16 * MIB)
    quiet("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, path)
    return path


CONFINED = """
import os, socket, sys
from imgcat.filesystems.worker.confine import confine
here, there = socket.socketpair()
lacking = confine(1 << 29, 60, there.fileno())
assert lacking == [], lacking
def refused(what):
    try:
        what()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"
print(refused(lambda: {attempt}))
"""

ATTEMPTS = {
    "reads a file": "open('/etc/passwd')",
    "writes a file": "open('/tmp/x', 'w')",
    "lists a directory": "os.listdir('/')",
    "asks for a file": "os.stat('/')",
    "makes a socket": "socket.socket()",
    "makes a process": "os.fork()",
    "runs a program": "os.execv('/bin/true', ['true'])",
    "kills": "os.kill(os.getppid(), 0)",
    "uses a descriptor of before": "os.fstat(here.fileno())",
    "allocates without end": "bytes(1 << 30)",
    "looks at memory of others": "os.readlink('/proc/1/exe')",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_worker_can_do_no_harm(attempt: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFINED.replace("{attempt}", ATTEMPTS[attempt])],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() in {"PermissionError", "OSError", "MemoryError"}, done.stderr


def test_it_ends_at_its_limit_of_time() -> None:
    source = CONFINED.replace("60, there", "1, there").replace(
        "{attempt}", "[0 for _ in iter(int, 1)]"
    )
    done = subprocess.run([sys.executable, "-c", source], check=False, timeout=60)
    assert done.returncode in {-signal.SIGKILL, -signal.SIGXCPU}


def _process_of(volume: Volume) -> subprocess.Popen[bytes]:
    running = volume._worker._running
    assert running is not None
    return running.process


def test_a_worker_that_is_killed_is_an_error_once_and_then_there_is_another(raw: Path) -> None:
    failures: list[str] = []
    with volume_in(raw, on_failure=failures.append) as volume:
        before = volume.entries()
        process = _process_of(volume)
        process.kill()
        process.wait()
        with pytest.raises(WorkerError, match="it died when asked for 'list': signal 9"):
            volume.entries()
        assert len(failures) == 1
        assert volume.entries() == before
        assert _process_of(volume).pid != process.pid


def test_a_worker_that_hangs_is_ended_at_its_limit(raw: Path) -> None:
    with volume_in(raw) as hanging:
        hanging.entries()
        process = _process_of(hanging)
        os.kill(process.pid, signal.SIGSTOP)
        caught: list[str] = []

        def ask() -> None:
            with asked_within(hanging, 0.3), pytest.raises(WorkerError) as error:
                hanging.entries()
            caught.append(str(error.value))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(30)
        was_ended = process.returncode
        process.kill()
        thread.join(30)
        assert was_ended == -signal.SIGKILL
        assert "no answer to 'list' within 0.3 s" in caught[0]
        assert len(hanging.entries()) == 2


def test_a_worker_that_hangs_holds_up_no_other(raw: Path) -> None:
    workers = Workers()
    with volume_in(raw, workers=workers) as hanging, volume_in(raw, workers=workers) as other:
        hanging.entries()
        process = _process_of(hanging)
        os.kill(process.pid, signal.SIGSTOP)
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(len(hanging.entries())))
        thread.start()
        wait_until(hanging._worker._lock.locked, "it is asked", 30)
        try:
            assert len(other.entries()) == 2
            assert answers == []
        finally:
            os.kill(process.pid, signal.SIGCONT)
            thread.join(30)
        assert answers == [2]


HOSTILE = """
import ctypes, sys

def crash():
    ctypes.string_at(0)

def abort():
    ctypes.CDLL(None).abort()

def hang():
    while True:
        pass

def hoard():
    held = []
    while True:
        held.append(bytes(1 << 20))

def use_what_was_refused():
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    while True:
        ctypes.memset(malloc(ctypes.c_size_t(1 << 24)), 1, 1 << 24)

def harm(driver, number):
    if number == driver.root:
        # Beside others that are busy, it takes as much longer as they do.
        for _ in range(10_000_000):
            pass
        {harm}()
    return []

if "imgcat.filesystems.worker.main" in sys.orig_argv:
    from imgcat.filesystems.worker import ext

    ext.Ext.streams = harm
"""
"""What a library does that was fed the wrong bytes; begun after a while of work."""

HARMS = {
    "crash": "it died when asked for 'streams': signal 11",
    # It may not send itself a signal: what it does in place of that ends it.
    "abort": "it died when asked for 'streams': signal",
    "hang": "no answer to 'streams' within 2 s: it was ended",
    "hoard": "it takes more memory than there may be",
    "use_what_was_refused": "it died when asked for 'streams': signal 11",
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_a_library_does_to_itself_holds_up_no_other(
    harm: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It crashes, hangs, or takes all memory: others are answered, and so is the next question."""
    (tmp_path / "sitecustomize.py").write_text(HOSTILE.replace("{harm}", harm))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    workers = Workers()
    with (
        volume_in(raw, workers=workers, limits=Limits(memory=1 << 28)) as harmed,
        volume_in(raw, workers=workers) as other,
    ):
        expected = other.entries()
        assert harmed.entries() == expected
        process = _process_of(harmed)
        caught: list[FormatError] = []

        def ask() -> None:
            # What ends by itself has time to, on a machine that is busy.
            try:
                with asked_within(harmed, 2 if harm == "hang" else 30):
                    harmed.streams(0)
            except FormatError as error:
                caught.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        answers = 0
        while thread.is_alive():
            assert other.entries() == expected
            answers += 1
        # Many a question was answered within that while alone.
        assert answers > 5
        assert HARMS[harm] in str(caught[0])
        assert harmed.entries() == expected
        assert other.streams(other.find(0, b"directory").inode) == []
        if isinstance(caught[0], WorkerError):
            assert process.poll() is not None


def test_few_run_at_a_time_and_the_longest_unused_ends(raw: Path) -> None:
    workers = Workers(most=2)
    with (
        volume_in(raw, workers=workers) as one,
        volume_in(raw, workers=workers) as two,
        volume_in(raw, workers=workers) as three,
    ):
        one.entries()
        two.entries()
        one.entries()
        first, second = _process_of(one), _process_of(two)
        three.entries()
        assert first.poll() is None
        # By the signal, or by its socket, which was closed just before.
        assert second.poll() in {-signal.SIGKILL, 0}
        assert two._worker._running is None
        assert len(two.entries()) == 2


def test_no_worker_is_left_when_a_volume_is_closed(raw: Path) -> None:
    with volume_in(raw) as volume:
        volume.entries()
        process = _process_of(volume)
        assert process.poll() is None
    assert process.poll() is not None
    with pytest.raises(ValueError, match="closed"):
        volume.entries()


def test_a_worker_whose_parent_is_gone_ends(raw: Path) -> None:
    source = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from support.files_inside import volume_in
with volume_in(Path({str(raw)!r})) as volume:
    volume.entries()
    print(volume._worker._running.process.pid, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}/fd") and _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as opened:
            return opened.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_entries_come_back_as_they_were_sent() -> None:
    times = Times(1, -1, 10**18, None)
    entries = [
        Entry(b"name", 7, 1 << 62, 0o100644, 3, 70000, 5, 1 << 40, 8192, times, b"", 2),
        Entry(b"\xff\n", 1, 0, 0o120777, target=b"../x"),
    ]
    data = b"".join(map(pack_entry, entries))
    assert unpack_entries(memoryview(data)) == entries
    for length in range(1, len(data)):
        if length != len(pack_entry(entries[0])):
            with pytest.raises(struct.error):
                unpack_entries(memoryview(data)[:length])


class Hanging:
    """A volume on a disk that does not answer any more, once that is said."""

    def __init__(self, image: bytes) -> None:
        self._image = image
        self.size = len(image)
        self.answers = threading.Event()
        self.answers.set()
        self.is_waiting = threading.Event()

    def read_into(self, view: memoryview, offset: int) -> None:
        if not self.answers.is_set():
            self.is_waiting.set()
            self.answers.wait()
        view[:] = self._image[offset : offset + len(view)]


def test_disks_that_hang_hold_up_no_other_image(raw: Path) -> None:
    """More of them than may be parsed at a time."""
    workers = Workers(most=2)
    image = raw.read_bytes()
    hanging = [Hanging(image) for _ in range(5)]
    volumes = [Volume(each, workers=workers) for each in hanging]  # type: ignore[arg-type]
    asking = []
    for each, volume in zip(hanging, volumes, strict=True):
        each.answers.clear()
        asking.append(threading.Thread(target=volume.entries))
        asking[-1].start()
        assert each.is_waiting.wait(30)
    with volume_in(raw, workers=workers) as other:
        expected = other.entries()
        assert expected
    for each in hanging:
        each.answers.set()
    for thread in asking:
        thread.join(30)
        assert not thread.is_alive()
    for volume in volumes:
        assert volume.entries() == expected
        volume.close()
