"""Mount points that cannot be one, mounts that died or are busy, daemons that are told to go."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.fusefs import mounts
from support.attack_images import BLOCK, solid
from support.confined import (
    UNUSABLE_DEV_FUSE,
    WITHOUT_DEV_FUSE,
    end_by_force,
    errno_of_reading,
    mounts_at,
    run_confined,
)
from support.program import COMMAND, is_dead, is_running, wait_until
from support.shortcuts import catalogue, daemon_pid
from support.unmounting import unmount_fuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.program import Program

pytestmark = pytest.mark.fuse

GUEST = b"A" * (8 * BLOCK)


@pytest.fixture
def program(program: Program, tmp_path: Path) -> Program:
    """The program with one image in its catalog."""
    (tmp_path / "a.img").write_bytes(solid(b"A", 8))
    catalogue(program, tmp_path / "a.img")
    return program


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on; whatever is mounted there is ended."""
    point = tmp_path / "mount"
    point.mkdir()
    yield point
    end_by_force(point)


def log_of(program: Program) -> str:
    """Return what every daemon has logged."""
    return "".join(
        path.read_text() for path in sorted((program.home / "state" / "imgcat").glob("*.log"))
    )


def listed(program: Program, *points: Path) -> list[dict[str, Any]]:
    """Return what `imgcat mounts` says of these mount points."""
    return [each for each in program.json("mounts") if each["path"] in map(str, points)]


# -- where one cannot mount ------------------------------------------------


def test_a_mount_point_must_be_an_empty_directory(program: Program, mount: Path) -> None:
    missing, file, full = mount / "missing", mount / "file", mount / "full"
    file.touch()
    (full / "inner").mkdir(parents=True)
    dangling = mount / "dangling"
    dangling.symlink_to(missing)
    for path, reason in [
        (missing / "below", "there is no such directory: make it with mkdir"),
        (dangling, "there is no such directory: make it with mkdir"),
        (file, "is not a directory"),
        (file / "below", "Not a directory"),
        (full, "is not empty: mount on an empty directory"),
    ]:
        said = program.run("mount-all", path, code=8).stderr
        assert said.startswith(f"imgcat: {mount}/"), said
        assert reason in said
        assert said.count("\n") == 1
    assert not list((program.home / "run").glob("imgcat/*.json"))


def test_the_reason_is_the_same_in_the_foreground(program: Program, mount: Path) -> None:
    (mount / "file").touch()
    assert "is not empty" in program.run("mount-all", "-f", mount, code=8).stderr
    (mount / "file").unlink()
    assert "nothing: no image" in program.run("mount", "-f", "nothing", mount, code=3).stderr
    for each in ((), ("-f",)):
        said = program.run("--db", mount.parent / "x.db", "mount-all", *each, mount, code=3).stderr
        assert "there is no catalog yet" in said


def test_already_mounted(program: Program, mount: Path) -> None:
    program.run("mount-all", mount)
    link = mount.parent / "link"
    link.symlink_to(mount)
    for path in (mount, f"{mount}/", link, os.path.relpath(mount)):
        said = program.run("mount-all", path)
        assert said.stderr == f"imgcat: {mount}: is mounted already, with this catalog\n"
        said = program.run("mount", "1", path, code=8).stderr
        assert f"{mount}: is an imgcat mount already: `imgcat unmount {mount}` ends it" in said
    assert mounts_at(mount) == 1
    program.run("unmount", link)
    assert mounts_at(mount) == 0


def test_already_mounted_without_what_is_asked_for(program: Program, mount: Path) -> None:
    for there, wanted, lacking in (
        ((), ("--files",), "--files"),
        ((), ("--real-modes",), "--files and --real-modes"),
        (("--files",), ("--real-modes",), "--real-modes"),
    ):
        program.run("mount-all", mount, *there)
        said = program.run("mount-all", mount, *wanted, code=8).stderr
        assert said == (
            f"imgcat: {mount}: is mounted already, without {lacking}:"
            f" `imgcat unmount {mount}`, and mount it again\n"
        )
        assert program.run("mount-all", mount, *there).returncode == 0
        (found,) = [each for each in program.json("mounts") if each["path"] == str(mount)]
        assert (found["files"], found["real_modes"]) == (bool(there), False)
        program.run("unmount", mount)


def test_a_mount_point_inside_a_mount(program: Program, mount: Path) -> None:
    program.run("rename", "a", "deep/er/a")
    program.run("mount-all", mount)
    assert "is not empty" in program.run("mount-all", mount / "deep", code=8).stderr
    assert "is not a directory" in program.run("mount-all", mount / "deep/er/a", code=8).stderr
    assert "no such directory" in program.run("mount-all", mount / "new", code=8).stderr
    assert (mount / "deep" / "er" / "a").read_bytes() == GUEST
    program.run("unmount", mount / "deep", code=3)
    program.run("unmount", mount)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (WITHOUT_DEV_FUSE, "/dev/fuse is not there: load the module with `modprobe fuse`"),
        (UNUSABLE_DEV_FUSE, "could not be mounted"),
    ],
    ids=["absent", "something else"],
)
def test_without_dev_fuse(
    program: Program, mount: Path, prefix: tuple[str, ...], reason: str
) -> None:
    for options in ((), ("-f",)):
        said = run_confined(program, prefix, "mount-all", *options, mount, code=8).stderr
        assert reason in said
        assert "Traceback" not in said
    if prefix is WITHOUT_DEV_FUSE:
        assert reason in run_confined(program, prefix, "doctor", code=8).stdout
    assert mounts_at(mount) == 0


@pytest.mark.parametrize("where", [(), ("-f",)], ids=["background", "foreground"])
def test_a_log_that_cannot_be_written(
    program: Program, mount: Path, where: tuple[str, ...]
) -> None:
    blocked = mount.parent / "file"
    blocked.touch()
    log = blocked / "x.log"
    said = program.run("mount-all", *where, "--log-file", log, mount, code=8).stderr
    assert said == f"imgcat: {log}: Not a directory\n"
    assert mounts_at(mount) == 0


def test_a_directory_for_logs_that_cannot_be_made(program: Program, mount: Path) -> None:
    blocked = mount.parent / "file"
    blocked.touch()
    program.environment["XDG_STATE_HOME"] = str(blocked)
    said = program.run("mount-all", mount, code=8).stderr
    assert str(blocked) in said
    assert "--log-file" in said
    program.run("mount-all", "--log-file", mount.parent / "good.log", mount)
    program.run("unmount", mount)
    assert "mounted, 1 images" in (mount.parent / "good.log").read_text()


def test_a_run_time_directory_that_cannot_be_made(program: Program, mount: Path) -> None:
    blocked = mount.parent / "file"
    blocked.touch()
    program.environment["XDG_RUNTIME_DIR"] = str(blocked)
    said = program.run("mount-all", mount, code=8).stderr
    assert str(blocked) in said
    assert "Traceback" not in said
    assert mounts_at(mount) == 0


@pytest.mark.parametrize(
    "name", ["with space", "ümläut 日本", "new\nline", "tab\tback\\slash", "#,:"]
)
def test_a_mount_point_of_any_name(program: Program, tmp_path: Path, name: str) -> None:
    point = tmp_path / name
    point.mkdir()
    try:
        said = program.run("mount-all", point).stdout
        assert said.count("\n") == 1
        assert mounts_at(point) == 1
        assert (point / "a").read_bytes() == GUEST
        assert len(listed(program, point)) == 1
        assert "is an imgcat mount already" in program.run("mount", "1", point, code=8).stderr
        assert "is mounted already" in program.run("mount-all", point).stderr
        program.run("unmount", point)
        assert mounts_at(point) == 0
    finally:
        end_by_force(point)


def test_a_mount_point_whose_name_is_not_utf8(program: Program, tmp_path: Path) -> None:
    point = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(point)
    try:
        program.run("mount-all", point)
        with open(point + b"/a", "rb") as file:
            assert file.read() == GUEST
        program.run("unmount", point)
        assert mounts_at(point) == 0
    finally:
        end_by_force(Path(os.fsdecode(point)))


# -- unmounting ------------------------------------------------------------


def test_unmounting_what_is_no_mount(program: Program, mount: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", mount], check=True)
    for path in (mount, mount.parent, mount / "missing", "/", "/proc"):
        said = program.run("unmount", path, code=3).stderr
        assert "is not an imgcat mount; `imgcat mounts` lists them" in said
    assert mounts_at(mount) == 1


def test_a_busy_mount_is_said_to_be_so_and_can_be_left(program: Program, mount: Path) -> None:
    program.run("mount-all", mount)
    pid = daemon_pid(program, mount)
    with (mount / "a").open("rb", buffering=0) as file:
        said = program.run("unmount", mount, code=8).stderr
        assert f"{mount}: is in use: " in said
        assert "--lazy" in said
        assert mounts_at(mount) == 1
        assert file.read(10) == b"A" * 10
        unmounting = program.start("unmount", "--lazy", mount)
        wait_until(lambda: mounts_at(mount) == 0, "the mount is detached", 30)
        # Who has the file open goes on reading it.
        assert os.pread(file.fileno(), 10, len(GUEST) - 10) == b"A" * 10
        assert is_running(pid)
    assert unmounting.communicate(timeout=60)[1] == b""
    assert unmounting.returncode == 0
    wait_until(lambda: not is_running(pid), "the daemon has ended", 30)
    program.run("mount-all", mount)
    program.run("unmount", mount)


def test_unmounting_waits_for_who_uses_the_mount_for_a_moment(
    program: Program, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a desktop does, or `df`, or `imgcat mounts` of somebody else."""
    program.run("mount-all", mount)
    monkeypatch.setenv("XDG_RUNTIME_DIR", program.environment["XDG_RUNTIME_DIR"])
    with (mount / "a").open("rb", buffering=0) as file:
        waited = []

        def close_meanwhile(seconds: float) -> None:
            waited.append((seconds, file.closed, mounts_at(mount)))
            file.close()

        monkeypatch.setattr(mounts.time, "sleep", close_meanwhile)
        mounts.unmount(str(mount))
    # The first wait was for the file, not for the daemon to go.
    assert waited[0][1:] == (False, 1)
    assert mounts_at(mount) == 0


def test_a_lazy_unmount_does_not_wait_for_who_keeps_a_file_open(
    program: Program, mount: Path
) -> None:
    program.run("mount-all", mount)
    pid = daemon_pid(program, mount)
    # It would say that the daemon does not end, if it waited for that.
    with (mount / "a").open("rb", buffering=0) as file:
        assert program.run("unmount", "--lazy", mount).stderr == ""
        assert is_running(pid)
        assert file.read() == GUEST
    wait_until(lambda: not is_running(pid), "the daemon has ended", 30)


@pytest.mark.parametrize("tool", [("umount",), ("fusermount3", "-u")])
def test_others_may_unmount_too(program: Program, mount: Path, tool: tuple[str, ...]) -> None:
    program.run("mount-all", mount)
    pid = daemon_pid(program, mount)
    unmount_fuse(mount, *tool)
    wait_until(lambda: not is_running(pid), "the daemon has ended", 30)
    assert "Traceback" not in log_of(program)
    program.run("mount-all", mount)
    program.run("unmount", mount)


# -- signals ---------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_mount_with_open_files(
    program: Program, mount: Path, number: signal.Signals
) -> None:
    program.run("mount-all", mount)
    pid = daemon_pid(program, mount)
    fd = os.open(mount / "a", os.O_RDONLY)
    assert os.pread(fd, 1, 0) == b"A"
    os.kill(pid, number)
    wait_until(lambda: not is_running(pid), "the daemon has ended", 30)
    assert mounts_at(mount) == 0
    assert os.listdir(mount) == []
    # What the kernel has read ahead it may still give.
    assert errno_of_reading(fd, 0, 1) in {errno.ENOTCONN, errno.EIO, b"A"}
    with contextlib.suppress(OSError):
        os.close(fd)
    assert "Traceback" not in log_of(program)


def test_a_signal_at_any_moment_of_the_start_leaves_no_mount(
    program: Program, tmp_path: Path
) -> None:
    # Between being mounted and being ready, the daemon must already mind its signals.
    points = [tmp_path / f"mount{number:02d}" for number in range(8)]
    for point in points:
        point.mkdir()
        process = program.start("mount-all", "-f", point, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda point=point: mounts_at(point) == 1, "it is mounted", 20)  # type: ignore[misc]
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert mounts_at(point) == 0, "a dead mount is left"
        finally:
            process.kill()
            process.communicate()
            end_by_force(point)


def test_the_foreground_ends_by_ctrl_c(program: Program, mount: Path) -> None:
    process = program.start("mount-all", "-f", mount)
    assert process.stdout is not None
    assert process.stdout.readline() == f"1 image in {mount}\n".encode()
    assert (mount / "a").read_bytes() == GUEST
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode in {0, 130}
    assert b"Traceback" not in said
    assert mounts_at(mount) == 0


def test_the_log_of_the_foreground_is_fit_for_a_terminal(program: Program, mount: Path) -> None:
    path = mount.parent / "e\x1b[31mvil\n2026 forged.img"
    path.write_bytes(solid(b"E", 8)[:-5000])
    catalogue(program, path)
    process = program.start("mount-all", "-f", mount)
    assert process.stdout is not None
    process.stdout.readline()
    assert errno_of_reading(mount / path.stem, 7 * BLOCK) == errno.EIO
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    lines = [line for line in said.splitlines() if "vil" in line]
    assert len(lines) > 0
    assert "\x1b" not in said
    assert not any(line.startswith("2026 forged") for line in said.splitlines())


# -- dead mounts -----------------------------------------------------------


def test_a_dead_mount_is_cleared_whatever_still_holds_it(program: Program, mount: Path) -> None:
    program.run("mount-all", mount)
    fd = os.open(mount / "a", os.O_RDONLY)
    with _inside(mount):
        program.kill_daemon(mount)
        wait_until(lambda: is_dead(mount), "the mount is dead", 30)
        assert errno_of_reading(fd, 7 * BLOCK) == errno.ENOTCONN
        with contextlib.suppress(OSError):
            os.close(fd)
        assert [each["alive"] for each in listed(program, mount)] == [False]
        assert "dead" in program.run("mounts").stdout
        said = program.run("mount-all", mount)
        assert said.stderr == (
            f"imgcat: {mount}: cleared a dead mount that a killed daemon had left\n"
        )
        assert said.stdout == f"1 image in {mount}\n"
        assert mounts_at(mount) == 1
        assert (mount / "a").read_bytes() == GUEST
    program.run("unmount", mount)


@contextlib.contextmanager
def _inside(directory: Path) -> Iterator[None]:
    """Have a process whose current directory this is."""
    process = subprocess.Popen(["sleep", "60"], cwd=directory)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_dead_mount_can_be_unmounted(program: Program, mount: Path) -> None:
    program.run("mount-all", mount)
    program.kill_daemon(mount)
    program.run("unmount", mount)
    assert mounts_at(mount) == 0
    assert os.listdir(mount) == []


def test_dead_mounts_one_above_the_other_are_cleared(program: Program, mount: Path) -> None:
    program.run("mount-all", mount)
    program.kill_daemon(mount)
    # By hand, as the program would not mount here.
    subprocess.run(["mount", "--bind", mount.parent / "home" / "run", mount], check=False)
    end = mounts_at(mount)
    result = subprocess.run(
        [*COMMAND, "mount-all", mount], env=program.environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in result.stderr
    assert result.returncode == (0 if end == 1 else 8)


def test_a_dead_mount_of_somebody_else_is_left(program: Program, mount: Path) -> None:
    server = Path(__file__).parent.parent / "support" / "odd_inodes.py"
    process = subprocess.Popen([sys.executable, server, mount.parent / "a.img", mount])
    wait_until(lambda: mounts_at(mount) == 1, "the other file system is there", 30)
    process.kill()
    process.wait()
    said = program.run("mount-all", mount, code=8).stderr
    assert said == f"imgcat: {mount}: Transport endpoint is not connected\n"
    assert mounts_at(mount) == 1
    assert listed(program, mount) == []
    program.run("unmount", mount, code=3)


def test_a_daemon_that_is_stopped_does_not_hang_who_lists_or_unmounts(
    program: Program, mount: Path
) -> None:
    program.run("mount-all", mount)
    pid = daemon_pid(program, mount)
    os.kill(pid, signal.SIGSTOP)
    try:
        listed = program.run("mounts", "--json").stdout
        assert f'"pid": {pid}' in listed
        assert "is mounted already" in program.run("mount-all", mount).stderr
        said = program.run("mount", "1", mount, code=8).stderr
        assert "is an imgcat mount already" in said
    finally:
        os.kill(pid, signal.SIGCONT)
    program.run("unmount", mount)


def test_a_stopped_daemon_of_somebody_else_does_not_hang_who_lists(
    program: Program, mount: Path
) -> None:
    program.run("mount-all", mount)
    pid = daemon_pid(program, mount)
    # Its record is where another user's would be: out of sight.
    other = program.environment | {"XDG_RUNTIME_DIR": str(mount.parent)}
    os.kill(pid, signal.SIGSTOP)
    try:
        assert str(mount) in program.run("mounts", env=other).stdout
        assert "/a" in program.run("show", "a", env=other).stdout
    finally:
        os.kill(pid, signal.SIGCONT)
    program.run("unmount", mount)


# -- who else is there -----------------------------------------------------


def test_of_two_at_once_exactly_one_mounts(program: Program, mount: Path) -> None:
    for _round in range(2):
        racing = [program.start("mount-all", mount) for _ in range(3)]
        said = [process.communicate(timeout=60)[1].decode() for process in racing]
        # Who comes when it is mounted, or is being mounted, finds that there is nothing to do.
        did = [
            process.returncode == 0 and "is mounted already" not in line
            for process, line in zip(racing, said, strict=True)
        ]
        assert sum(did) == 1, said
        assert [process.returncode for process in racing] == [0, 0, 0], said
        assert mounts_at(mount) == 1
        assert (mount / "a").read_bytes() == GUEST
        assert all(str(mount) in line for line in said if line)
        program.run("unmount", mount)
        assert mounts_at(mount) == 0


def test_one_catalog_in_two_mounts(program: Program, tmp_path: Path) -> None:
    points = [program.mount_all(tmp_path / f"mount{number}") for number in range(2)]
    (tmp_path / "b.img").write_bytes(solid(b"B", 8))
    catalogue(program, tmp_path / "b.img")
    for point in points:
        wait_until(lambda point=point: (point / "b").exists(), "both follow", 30)  # type: ignore[misc]
        assert (point / "b").read_bytes() == b"B" * (8 * BLOCK)
    program.run("unmount", points[0])
    assert (points[1] / "a").read_bytes() == GUEST


def test_the_daemon_lets_go_of_what_its_parent_had_open(program: Program, mount: Path) -> None:
    reading, writing = os.pipe()
    # A lock or a pipe of the caller, also beyond the limit of descriptors that is set now.
    high = os.dup2(writing, 900)
    os.set_inheritable(high, True)
    os.set_inheritable(writing, True)
    command = ["prlimit", "--nofile=64:", *COMMAND, "mount-all", str(mount)]
    result = subprocess.run(
        command, env=program.environment, pass_fds=(writing, high), check=False, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.close(writing)
    os.close(high)
    assert result.returncode == 0, result.stdout
    os.set_blocking(reading, False)
    try:
        assert os.read(reading, 1) == b"", "somebody still holds the pipe"
    except BlockingIOError:
        pytest.fail("the daemon still holds the pipe of its parent")
    finally:
        os.close(reading)
    pid = daemon_pid(program, mount)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-"])
def test_a_caller_without_standard_streams(program: Program, mount: Path, closed: str) -> None:
    # As cron, systemd and careless daemons do.
    result = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *COMMAND, "mount-all", mount],
        env=program.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (mount / "a").read_bytes() == GUEST
    program.run("unmount", mount)


def test_the_caller_gets_its_prompt_back_through_pipes(program: Program, mount: Path) -> None:
    script = '"$@" 2>&1 | cat | tail -1; echo done'
    said = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "mount-all", mount], env=program.environment,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert said.stdout == f"1 image in {mount}\ndone\n"
    captured = subprocess.run(
        ["sh", "-c", 'x=$("$@" 2>&1); echo "[$x]"', "sh", *COMMAND, "unmount", mount],
        env=program.environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert captured.stdout == "[]\n"


@pytest.mark.parametrize("cycles", [4, pytest.param(25, marks=pytest.mark.soak)])
def test_many_mounts_and_unmounts(program: Program, tmp_path: Path, cycles: int) -> None:
    points = [tmp_path / f"cycle{number}" for number in range(2)]

    def cycle(point: Path) -> None:
        point.mkdir()
        for _ in range(cycles):
            program.run("mount-all", point)
            assert (point / "a").read_bytes() == GUEST
            program.run("unmount", point)
            assert mounts_at(point) == 0

    try:
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            list(executor.map(cycle, points))
    finally:
        for point in points:
            end_by_force(point)
    assert listed(program, *points) == []
    assert "Traceback" not in log_of(program)
    assert log_of(program).count(": unmounted") == 2 * cycles
    # One record a mount point, however often it was used.
    assert len(list((program.home / "run" / "imgcat").iterdir())) == 2


def test_names_are_taken_as_names_whatever_lies_around(
    program: Program, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = mount.parent
    monkeypatch.chdir(here)
    (here / "a").mkdir()
    (here / "1").touch()
    for token in ("a", "1", "./a.img"):
        program.run("mount", token, "mount")
        assert (mount / "a").read_bytes() == GUEST
        program.run("unmount", "mount")
