"""A device that does not answer: all else is served, and the daemon ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import blocking_fs
from support.partclone_writer import Recipe, write
from support.program import is_mounted, wait_until
from support.streams import compress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.program import Program

pytestmark = pytest.mark.fuse

BLOCK = 4096
BLOCKS = 300
IMAGES = 24
"""More than there are threads of any one kind."""


class Device:
    """Images on a device that blocks what it is told to."""

    def __init__(self, base: Path) -> None:
        self.source, self.mount, self.control = (base / name for name in ("src", "dev", "control"))
        for directory in (self.source, self.mount, self.control):
            directory.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, blocking_fs.__file__, self.source, self.mount, self.control]
        )
        wait_until(lambda: is_mounted(self.mount), "the device is there", 20)

    def block(self, what: str) -> None:
        (self.control / what).write_bytes(b"")

    def let_go(self) -> None:
        for file in self.control.iterdir():
            file.unlink()

    def end(self) -> None:
        self.let_go()
        subprocess.run(["umount", "-l", self.mount], check=True)
        assert self.process is not None
        self.process.wait(60)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    rng = random.Random(1)
    for number in range(IMAGES):
        image = write(
            Recipe(
                present=[True] * BLOCKS, block_size=BLOCK, guest=rng.randbytes(BLOCK * BLOCKS)
            )
        ).image  # fmt: skip
        if number % 3 == 0:
            (made.source / f"slow{number}.img").write_bytes(image)
        elif number % 3 == 1:
            (made.source / f"slow{number}.img.zst").write_bytes(compress("zstd", image))
        else:
            for chunk in range(6):
                start = chunk * len(image) // 6
                stop = (chunk + 1) * len(image) // 6
                (made.source / f"slow{number}.img.a{'abcdef'[chunk]}").write_bytes(
                    image[start:stop]
                )
    made.start()
    with contextlib.closing(_Ending(made)):
        yield made


class _Ending:
    def __init__(self, device: Device) -> None:
        self.close = device.end


@pytest.fixture
def control() -> Iterator[None]:
    """The kernel's directory of settings of FUSE mounts, which a system that is booted has.

    Without it, twelve reads that wait take all the places that the kernel has for a mount.
    """
    place = Path("/sys/fs/fuse/connections")
    is_missing = not place.is_mount()
    if is_missing:
        subprocess.run(["mount", "-t", "fusectl", "fusectl", place], check=True)
    yield
    if is_missing:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def mount(program: Program, device: Device, control: None, tmp_path: Path) -> Path:
    """A mount of the device's images, and of one elsewhere that is called ``well``."""
    del control
    guest = random.Random(2).randbytes(BLOCK * BLOCKS)
    (tmp_path / "well.img").write_bytes(
        write(Recipe(present=[True] * BLOCKS, block_size=BLOCK, guest=guest)).image
    )
    program.run("add", tmp_path / "well.img")
    program.run("add", "-r", device.mount)
    return program.mount_all(tmp_path / "images")


def together(mount: Path, act: Callable[[Path], object]) -> list[threading.Thread]:
    """Do the same with every image of the device at once, in threads that are left behind."""

    def alone(path: Path) -> None:
        with contextlib.suppress(OSError):
            act(path)

    paths = sorted(path for path in mount.iterdir() if path.name.startswith("slow"))
    assert len(paths) == IMAGES
    threads = [threading.Thread(target=alone, args=(path,), daemon=True) for path in paths]
    for thread in threads:
        thread.start()
    return threads


def read_first(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        os.pread(fd, BLOCK, 0)
    finally:
        os.close(fd)


def check_all_else(mount: Path) -> None:
    """Read another image a thousand times, and list the mount."""
    guest = random.Random(2).randbytes(BLOCK * BLOCKS)
    fd = os.open(mount / "well", os.O_RDONLY | os.O_DIRECT)
    try:
        for number in range(1000):
            offset = number * 7 % BLOCKS * BLOCK
            assert os.pread(fd, BLOCK, offset) == guest[offset : offset + BLOCK]
    finally:
        os.close(fd)
    assert len(os.listdir(mount)) == IMAGES + 1
    assert os.stat(mount / "well").st_size == len(guest)


@pytest.mark.parametrize("what", ["open", "read", "close", "stat"])
def test_all_else_is_served_while_a_device_does_not_answer(
    what: str, device: Device, mount: Path
) -> None:
    if what != "open":
        # Some of it is cached, so that the quick way is taken as far as it goes.
        for thread in together(mount, read_first):
            thread.join(60)
    device.block(what)
    threads = together(mount, read_first)
    waiting = threading.Thread(target=check_all_else, args=(mount,), daemon=True)
    waiting.start()
    waiting.join(40)
    assert not waiting.is_alive(), "others wait for the device too"
    if what in {"open", "read"}:
        assert any(thread.is_alive() for thread in threads), "nothing was blocked"
    device.let_go()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("how", ["SIGTERM", "unmount --force"])
def test_the_daemon_ends_serving_whatever_is_blocked(
    how: str, program: Program, device: Device, mount: Path
) -> None:
    pid = program.daemon_pid(mount)
    assert pid is not None
    device.block("read")
    together(mount, read_first)
    # They are on their way.
    check_all_else(mount)
    if how == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    else:
        program.run("unmount", "--force", mount)
    wait_until(lambda: not is_mounted(mount), "it is unmounted", 20)
    wait_until(lambda: program.daemon_pid(mount) is None, "it serves no more", 20)
    # The kernel lets no process go while a file system's own process has its request.
    device.let_go()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon has ended", 20)


def test_what_is_asked_is_answered_as_it_was_last(
    program: Program, device: Device, tmp_path: Path
) -> None:
    """What needs only the catalog does not wait for a disk; what would forget images, does not."""
    program.run("add", "-r", device.mount)
    assert {each["status"] for each in program.json("ls")} == {"ready"}
    device.block("stat")
    told = "imgcat: a disk does not answer: statuses are those of the last look\n"
    asked = (
        (("ls", "--columns", "status"), 0, {"STATUS", "ready"}),
        (("sql", "SELECT count(*) AS n FROM images"), 0, {"n", str(IMAGES)}),
        (("rm", "--missing"), 5, set()),
    )
    for arguments, code, words in asked:
        # All of it ends, and whoever reads its output is told so.
        command = shlex.join([sys.executable, "-m", "imgcat", *arguments])
        said = subprocess.run(
            ["sh", "-c", f"{{ {command}; echo $? >&2; }} | cat"], env=program.environment,
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert said.stderr == f"{told}{code}\n"
        assert set(said.stdout.split()) == words
    mount = tmp_path / "mount"
    program._mounts.append(mount)
    program.run("mount-all", mount, timeout=60)
    assert len(os.listdir(mount)) == IMAGES
    device.let_go()
    assert {each["status"] for each in program.json("ls")} == {"ready"}
