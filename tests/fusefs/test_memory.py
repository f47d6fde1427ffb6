"""What a daemon takes of memory, and what it does where there is too little of it."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.program import COMMAND, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.program import Program

pytestmark = [pytest.mark.fuse, pytest.mark.fresh]

MIB = 1 << 20
_IN_CI = os.environ.get("CI", "") not in {"", "false", "0"}


def _saved(directory: Path, name: str, size: int, *options: str) -> tuple[Path, Path]:
    """Have partclone save a device of random words, compressed; return the device and the image."""
    device, image = directory / f"{name}.device", directory / f"{name}.img.zst"
    generator = random.Random(name)
    pieces = [generator.randbytes(MIB >> 4) for _ in range(64)]
    with device.open("wb") as file:
        for _ in range(size // (MIB >> 4)):
            # What was there already, at another place, and what was not.
            file.write(generator.choice(pieces)[: MIB >> 5] + generator.randbytes(MIB >> 5))
    plain = directory / f"{name}.img"
    subprocess.run(
        ("partclone.imager", "-c", "-q", "-s", device, "-o", plain, "-L", f"{plain}.log"),
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(("zstd", "-q", "--rm", *options, plain, "-o", image), check=True)
    return device, image


def _read(path: Path, device: Path, seed: int) -> None:
    """Read all of an image in order and pieces of it at random, and compare it with its device."""
    assert _sum(path) == _sum(device)
    generator = random.Random(seed)
    with path.open("rb", buffering=0) as image, device.open("rb", buffering=0) as right:
        for _ in range(100):
            at = generator.randrange(device.stat().st_size)
            assert os.pread(image.fileno(), 9000, at) == os.pread(right.fileno(), 9000, at)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_process(pid: int, what: str) -> int:
    """Return a line of a process's status, such as ``VmHWM``, in bytes."""
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{what}:")[1].split()[0]) * 1024


def _log_of(program: Program, mount: Path) -> str:
    (each,) = (each for each in program.json("mounts") if each["path"] == str(mount))
    return Path(each["log_file"]).read_text()


def _read_all(mount: Path, saved: list[tuple[Path, Path]]) -> None:
    """Read several images at the same time; the first that is wrong fails the test."""
    wrong: list[BaseException] = []

    def read(device: Path, image: Path, seed: int) -> None:
        try:
            _read(mount / image.stem.removesuffix(".img"), device, seed)
        except (AssertionError, OSError) as error:
            wrong.append(error)

    readers = [threading.Thread(target=read, args=(*each, seed)) for seed, each in enumerate(saved)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []


@pytest.mark.parametrize("size", [48 * MIB, 144 * MIB])
def test_a_daemon_stays_below_what_it_is_given(program: Program, tmp_path: Path, size: int) -> None:
    saved = [_saved(tmp_path, f"disk{number}", size) for number in range(2)]
    program.run("add", *(image for _device, image in saved))
    mount = program.mount_all(tmp_path / "mnt", "--memory", "160M")
    pid = program.daemon_pid(mount)
    assert pid is not None
    _read_all(mount, saved)
    assert _of_process(pid, "VmHWM") < 160 * MIB


def test_too_little_is_refused(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    refused = program.run("mount-all", tmp_path / "mnt", "--memory", "8M", code=2).stderr
    assert "a mount needs 128 MiB at the least" in refused


def test_a_read_that_gets_no_memory_fails_alone_and_is_no_damage(
    program: Program, tmp_path: Path
) -> None:
    # A window of 64 MiB: that much must be had at once for its decoder.
    device, image = _saved(tmp_path, "disk", 96 * MIB, "--ultra", "--long=26", "-3")
    other = tmp_path / "other"
    other.write_bytes(random.Random(1).randbytes(MIB))
    plain = tmp_path / "plain.img"
    subprocess.run(
        ("partclone.imager", "-c", "-q", "-s", other, "-o", plain, "-L", tmp_path / "log"),
        check=True, capture_output=True,
    )  # fmt: skip
    program.run("add", image, plain)
    mount = program.mount_all(tmp_path / "mnt")
    pid = program.daemon_pid(mount)
    assert pid is not None
    _read(mount / "plain", other, 0)
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (_of_process(pid, "VmSize") + 24 * MIB, before[1]))
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        _sum(mount / "disk")
    _read(mount / "plain", other, 1)
    resource.prlimit(pid, resource.RLIMIT_AS, before)
    # Not remembered as a failure, not recorded as damage.
    _read(mount / "disk", device, 2)
    assert {row["status"] for row in program.json("ls")} == {"ready"}
    log = _log_of(program, mount)
    assert "caches shrink to" in log
    assert "Traceback" not in log
    assert program.daemon_pid(mount) == pid


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup of 256 MiB."""
    first = Path("/sys/fs/cgroup/memory")
    name, root = "memory.limit_in_bytes", first
    if not first.is_dir():
        name, root = "memory.max", Path("/sys/fs/cgroup")
    path = root / f"imgcat-test-{os.getpid()}"
    try:
        path.mkdir()
        (path / name).write_text(str(256 * MIB))
    except OSError as error:
        if path.is_dir():
            path.rmdir()
        if _IN_CI:
            raise
        pytest.skip(f"no memory group can be made: {error}")
    yield path
    wait_until(lambda: not (path / "cgroup.procs").read_text().strip(), "the group is empty", 30)
    path.rmdir()


def test_in_a_small_memory_group(group: Path, tmp_path: Path) -> None:
    from support.program import Program

    saved = [_saved(tmp_path, f"disk{number}", 64 * MIB, "--long=25") for number in range(3)]
    with Program(tmp_path / "home") as program:
        program.run("add", *(image for _device, image in saved))
        mount = tmp_path / "mnt"
        mount.mkdir()
        subprocess.run(
            ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh",
             *COMMAND, "mount-all", mount),
            env=program.environment, check=True, capture_output=True,
        )  # fmt: skip
        pid = program.daemon_pid(mount)
        try:
            _read_all(mount, saved)
            assert program.daemon_pid(mount) == pid
            assert "Traceback" not in _log_of(program, mount)
        finally:
            program.run("unmount", mount)


def test_a_daemon_without_descriptors_goes_on(program: Program, tmp_path: Path) -> None:
    _device, image = _saved(tmp_path, "one", 4 * MIB)
    program.run("add", image)
    mount = program.mount_all(tmp_path / "mount", "--memory", "256M")
    with (mount / "one").open("rb") as file:
        assert len(file.read(4096)) == 4096
        pid = program.daemon_pid(mount)
        assert pid is not None
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))
        # Longer than it takes until the memory is looked at again.
        time.sleep(1.5)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        file.seek(0)
        assert len(file.read(4096)) == 4096
    assert (mount / "one").stat().st_size == 4 * MIB
