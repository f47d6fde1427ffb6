"""One mount, two processes that serve it: nothing that one of them is told is needed by the other.

Of what makes several processes at one mount possible: handles and inode numbers are computed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support
from support.attack_images import patchy
from support.program import is_mounted, wait_until
from support.unmounting import unmount_fuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.partclone_writer import Written
    from support.program import Program

pytestmark = pytest.mark.fuse

_SERVERS = Path(support.__file__).parent / "two_servers.py"
_BLOCK = 4096


class Servers:
    """The two processes, their mount, and what each was asked for."""

    def __init__(self, mount: Path, log: Path, pids: list[int]) -> None:
        self.mount, self.pids = mount, pids
        self._log = log

    @contextlib.contextmanager
    def only(self, pid: int) -> Iterator[None]:
        """Have one of them alone answer: the other is stopped."""
        (other,) = set(self.pids) - {pid}
        os.kill(other, signal.SIGSTOP)
        wait_until(lambda: _state(other) == "T", "the other is stopped", 30)
        try:
            yield
        finally:
            os.kill(other, signal.SIGCONT)
            wait_until(lambda: _state(other) != "T", "the other goes on", 30)

    def asked(self, handler: str) -> list[int]:
        """Return who was asked for it, in order."""
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [int(pid) for pid, name, _inode in lines if name == handler]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def images(program: Program, tmp_path: Path) -> dict[str, Written]:
    """Images in a catalog: one plain, and one packed, which is read by threads."""
    made = {name: patchy(number, 400) for number, name in enumerate(["one", "two"])}
    paths = []
    for name, written in made.items():
        path = tmp_path / f"{name}.img"
        path.write_bytes(written.image)
        if name == "two":
            subprocess.run(["gzip", path], check=True)
            path = path.with_suffix(".img.gz")
        paths.append(path)
    program.run("add", *paths)
    return made


@pytest.fixture
def servers(program: Program, images: dict[str, Written], tmp_path: Path) -> Iterator[Servers]:
    """Have two processes serve the catalog; at the end both are gone, and so is the mount."""
    del images
    mount, log = tmp_path / "mount", tmp_path / "asked.log"
    mount.mkdir()
    process = subprocess.Popen(
        [sys.executable, _SERVERS, program.catalog, mount, log],
        env=program.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pids: list[int] = []
    try:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert is_mounted(mount)
        yield Servers(mount, log, pids)
        unmount_fuse(mount, "umount")
        assert process.wait(timeout=60) == 0
    finally:
        assert process.stdout is not None
        process.stdout.close()
        if is_mounted(mount):
            subprocess.run(["umount", "-l", mount], check=True)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=60)


def _read_direct(fd: int, offset: int, length: int) -> bytes:
    """Read past the kernel's cache, so that a process is asked for each byte."""
    with mmap.mmap(-1, length) as buffer:
        count = os.preadv(fd, [buffer], offset)
        return buffer[:count]


@pytest.mark.parametrize("name", ["one", "two"])
def test_each_reads_through_files_that_the_other_has_opened(
    servers: Servers, images: dict[str, Written], name: str
) -> None:
    guest = images[name].guest
    first, second = servers.pids
    for opener, reader in ((first, second), (second, first)):
        with servers.only(opener):
            fd = os.open(servers.mount / name, os.O_RDONLY | os.O_DIRECT)
        assert servers.asked("open")[-1] == opener
        before = len(servers.asked("read"))
        with servers.only(reader):
            for offset in range(0, len(guest) - _BLOCK, 16 * _BLOCK):
                data = _read_direct(fd, offset, 3 * _BLOCK)
                assert data == guest[offset : offset + 3 * _BLOCK]
            # What lies at the end too, and what lies behind it.
            assert os.fstat(fd).st_size == len(guest)
            assert (
                _read_direct(fd, len(guest) // _BLOCK * _BLOCK, _BLOCK)
                == guest[len(guest) // _BLOCK * _BLOCK :]
            )
            released = len(servers.asked("release"))
            os.close(fd)
            wait_until(lambda n=released: len(servers.asked("release")) > n, "released", 30)
        assert servers.asked("release")[-1] == reader
        asked = servers.asked("read")[before:]
        assert len(asked) > 10
        assert set(asked) == {reader}


def test_both_at_once_give_the_right_bytes(servers: Servers, images: dict[str, Written]) -> None:
    def read(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["dd", f"if={servers.mount / name}", "bs=4096", "iflag=direct", "status=none"],
            stdout=subprocess.PIPE,
        )

    readers = [(name, read(name)) for name in ("one", "two") * 4]
    for name, process in readers:
        assert process.communicate(timeout=60)[0] == images[name].guest
        assert process.returncode == 0
    # Both have served.
    assert set(servers.asked("read")) == set(servers.pids)
