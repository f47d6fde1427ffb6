"""Two hundred images in one daemon: right bytes to everybody, and images that come and go."""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.program import is_dead, is_mounted, wait_until
from support.volumes import quiet, sha256

if TYPE_CHECKING:
    from support.program import Program
    from support.samples import Sample

pytestmark = pytest.mark.fuse

COUNT = 200


@pytest.fixture
def fleet(program: Program, samples: list[Sample], tmp_path: Path) -> Path:
    """A directory of 200 images, copies of the samples in turn, all of them in the catalog."""
    directory = tmp_path / "fleet"
    directory.mkdir()
    for number in range(COUNT):
        shutil.copy(samples[number % len(samples)].path, directory / f"n{number:03d}.img")
    program.run("add", "-r", directory)
    return directory


def read_direct(path: Path, size: int = 1 << 20) -> bytes:
    """Read a file with O_DIRECT."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, size)
        length = os.fstat(fd).st_size
        parts = []
        for offset in range(0, length, size):
            count = os.preadv(fd, [buffer], offset)
            parts.append(buffer[:count])
        return b"".join(parts)
    finally:
        os.close(fd)


def test_two_hundred_images_in_one_daemon(
    program: Program, samples: list[Sample], fleet: Path, tmp_path: Path
) -> None:
    mount = program.mount_all(tmp_path / "mount")
    pid = program.daemon_pid(mount)
    assert [each["pid"] for each in program.json("mounts") if each["path"] == str(mount)] == [pid]

    names = sorted(os.listdir(mount))
    assert names == [f"n{number:03d}" for number in range(COUNT)]
    listing = quiet("ls", "-l", mount).splitlines()[1:]
    assert {line.split()[4] for line in listing} == {str(samples[0].volume_bytes)}
    used = samples[0].used_blocks * samples[0].block_size
    assert all((mount / name).stat().st_blocks == -(-used // 512) for name in names)
    assert quiet("du", "-s", "--block-size=512", mount / "n007").split()[0] == str(-(-used // 512))
    assert quiet("stat", "-c", "%s %F", mount / "n100").split() == [
        str(samples[0].volume_bytes), "regular", "file",
    ]  # fmt: skip

    expected = samples[0].volume_sha256
    quiet("cp", "--sparse=always", mount / "n003", tmp_path / "copy")
    assert sha256(tmp_path / "copy") == expected
    assert (tmp_path / "copy").stat().st_blocks <= -(-used // 512) + 64
    quiet("dd", f"if={mount}/n004", f"of={tmp_path}/dd", "bs=1M", "status=none")
    assert sha256(tmp_path / "dd") == expected

    victim = "n050"
    with concurrent.futures.ThreadPoolExecutor(16) as executor:
        others = [name for name in names if name != victim]
        first = executor.map(sha256, [mount / name for name in others[:100]])
        os.truncate(fleet / f"{victim}.img", 700_000)
        second = executor.map(
            lambda name: hashlib.sha256(read_direct(mount / name)).hexdigest(), others
        )
        assert {*first, *second} == {expected}
    with pytest.raises(OSError, match=r"Input/output|Stale") as caught:
        (mount / victim).read_bytes()
    assert caught.value.errno in {errno.EIO, errno.ESTALE}
    assert sha256(mount / "n051") == expected


def test_random_reads_by_parallel_processes_are_right(
    program: Program, samples: list[Sample], fleet: Path, tmp_path: Path
) -> None:
    mount = program.mount_all(tmp_path / "mount")
    guest = (mount / "n000").read_bytes()
    assert hashlib.sha256(guest).hexdigest() == samples[0].volume_sha256

    def check(number: int) -> None:
        generator = random.Random(number)
        with (mount / f"n{number:03d}").open("rb", buffering=0) as file:
            for _ in range(200):
                offset = generator.randrange(len(guest) + 100)
                length = generator.choice([1, 511, 512, 4096, 70_000, 1 << 20])
                assert os.pread(file.fileno(), length, offset) == guest[offset : offset + length]

    with concurrent.futures.ThreadPoolExecutor(16) as executor:
        assert list(executor.map(check, range(1, 33))) == [None] * 32


def test_images_come_and_go_while_mounted(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.img", tmp_path / "second.img"
    shutil.copy(samples[0].path, first)
    shutil.copy(samples[1].path, second)
    program.run("add", first)
    mount = program.mount_all(tmp_path / "mount")
    assert os.listdir(mount) == ["first"]
    assert not (mount / "second").exists()

    program.run("add", second)
    wait_until(lambda: "second" in os.listdir(mount), "the new image is listed", 30)
    assert sha256(mount / "second") == samples[1].volume_sha256

    with (mount / "second").open("rb", buffering=0) as file:
        program.run("rm", "second")
        wait_until(lambda: not (mount / "second").exists(), "the removed image is gone", 30)
        assert os.listdir(mount) == ["first"]
        assert hashlib.file_digest(file, "sha256").hexdigest() == samples[1].volume_sha256

    program.run("rename", "first", "laptop/root")
    wait_until((mount / "laptop").is_dir, "the new name is there", 30)
    assert sha256(mount / "laptop" / "root") == samples[0].volume_sha256
    assert sorted(os.listdir(mount)) == ["laptop"]


def test_some_images_only(program: Program, fleet: Path, tmp_path: Path) -> None:
    mount = program.mount("n00*", "11", fleet / "n150.img", tmp_path / "some")
    assert sorted(os.listdir(mount)) == [*(f"n00{n}" for n in range(10)), "n010", "n150"]
    for _ in range(2):
        said = program.run("mount", "nothing", tmp_path / "some2", code=3).stderr
        assert "nothing: no image" in said
    # What was made to mount on was made in vain.
    assert not (tmp_path / "some2").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts(
    program: Program, samples: list[Sample], tmp_path: Path, number: signal.Signals
) -> None:
    program.run("add", samples[0].path)
    mount = program.mount_all(tmp_path / "mount")
    program.kill_daemon(mount, number)
    assert not is_mounted(mount)
    assert os.listdir(mount) == []


def test_a_killed_daemon_leaves_a_dead_mount_that_the_next_clears(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    program.run("add", samples[0].path)
    mount = program.mount_all(tmp_path / "mount")
    program.kill_daemon(mount, signal.SIGKILL)
    # The last thread of a killed process may let go of the device a moment later.
    wait_until(lambda: is_dead(mount), "the mount is dead", 30)
    assert [each["alive"] for each in program.json("mounts") if each["path"] == str(mount)] == [
        False
    ]
    assert "dead mount" in program.run("mount-all", mount).stderr
    assert sha256(mount / samples[0].name) == samples[0].volume_sha256
    program.run("unmount", mount)
    assert not is_mounted(mount)


def test_the_daemon_holds_neither_pipe_nor_terminal(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    program.run("add", samples[0].path)
    mount = tmp_path / "mount"
    mount.mkdir()
    program._mounts.append(mount)
    command = f"{sys.executable} -m imgcat mount-all {mount} 2>&1 | tail -1"
    said = subprocess.run(
        ["sh", "-c", command], env=program.environment, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert said.stdout == f"1 image in {mount}\n"
    pid = program.daemon_pid(mount)
    assert pid is not None
    descriptors = {
        os.readlink(link)
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.name in {"0", "1", "2"}
    }
    assert descriptors == {"/dev/null"}
    assert os.getsid(pid) != os.getsid(0)


def test_sql_answers_while_a_daemon_runs_and_an_add_writes(
    program: Program, samples: list[Sample], fleet: Path, tmp_path: Path
) -> None:
    program.mount_all(tmp_path / "mount")
    more = tmp_path / "more"
    more.mkdir()
    for number in range(60):
        shutil.copy(samples[0].path, more / f"m{number}.img")
    adding = program.start("add", *sorted(more.iterdir()))
    counts = []
    while adding.poll() is None or not counts:
        counts.append(program.sql("SELECT images FROM totals")[0]["images"])
        said = quiet("sqlite3", program.catalog, "SELECT count(*) FROM shelf")
        counts.append(int(said))
    assert adding.communicate()[1] == b""
    assert adding.returncode == 0
    assert counts == sorted(counts)
    assert COUNT <= counts[0] <= counts[-1] <= COUNT + 60
    assert program.sql("SELECT images FROM totals") == [{"images": COUNT + 60}]


def test_what_was_scanned_anew_is_opened_at_once(program: Program, tmp_path: Path) -> None:
    device, image = tmp_path / "device", tmp_path / "a.img"

    def save(number: int) -> None:
        device.write_bytes(bytes([number]) * (1 << 20))
        command = ("partclone.imager", "-c", "-q", "-s", device, "-o", image, "-L", tmp_path / "l")
        image.unlink(missing_ok=True)
        subprocess.run(command, check=True, capture_output=True)

    save(0)
    program.run("add", image)
    mount = program.mount_all(tmp_path / "mnt")
    for number in range(1, 5):
        save(number)
        program.run("rescan")
        # The daemon need not have looked at the catalog since.
        assert (mount / "a").read_bytes() == device.read_bytes()
