"""Running `imgcat` as a user does: as a process, in a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from . import started

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = started.COMMAND


class Program:
    """`imgcat` with a home directory, and so a catalog, of its own.

    Args:
        home: the directory, made if need be.
        fresh: start Python for each command; else a server forks, which has imported the program.
    """

    def __init__(self, home: Path, *, fresh: bool = False) -> None:
        self.home = home
        self._fresh = fresh
        home.mkdir(parents=True, exist_ok=True)
        (home / "run").mkdir(exist_ok=True)
        self.catalog = home / "catalog.db"
        # As a user's shell has it: with this variable, output that is never flushed would pass.
        inherited = {key: os.environ[key] for key in os.environ.keys() - {"PYTHONUNBUFFERED"}}
        self.environment = {
            **inherited,
            "HOME": str(home),
            "IMGCAT_DB": str(self.catalog),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "PYTHONWARNINGS": "error",
        }
        self._mounts: list[Path] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._started:
            # What a failed test has left running.
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        for mount in self._mounts:
            pid = self.daemon_pid(mount)
            if is_mounted(mount):
                subprocess.run(["umount", "-l", mount], check=True)
            if pid is not None:
                wait_until(lambda pid=pid: not is_running(pid), "the daemon has ended", 30)

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start the program and return the process."""
        process = started.popen(
            [_text(argument) for argument in arguments],
            fresh=self._fresh,
            env=options.pop("env", self.environment),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            **options,
        )
        self._started.append(process)
        return process

    def run(
        self, *arguments: object, code: int = 0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run the program and assert its exit code."""
        result = started.run(
            [_text(argument) for argument in arguments],
            fresh=self._fresh,
            env=options.pop("env", self.environment),
            encoding="utf-8",
            errors="surrogateescape",
            timeout=options.pop("timeout", 120),
            **options,
        )
        assert result.returncode == code, (
            f"{arguments} ended with {result.returncode}, not {code}:\n"
            f"{result.stdout}\n{result.stderr}"
        )
        return result

    def run_python(self, source: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run Python source in the program's environment and assert its exit code."""
        result = subprocess.run(
            [sys.executable, "-c", source],
            env=self.environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        return result

    def json(self, *arguments: object) -> Any:
        """Run the program with ``--json`` and return what it prints."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def mount_all(self, mount: Path, *options: object) -> Path:
        """Mount every image and return the mount point, which is made."""
        mount.mkdir(exist_ok=True)
        self._mounts.append(mount)
        self.run("mount-all", mount, *options)
        return mount

    def mount(self, *images_and_directory: object) -> Path:
        """Mount some images and return the mount point, which is made."""
        mount = Path(str(images_and_directory[-1]))
        mount.mkdir(exist_ok=True)
        self._mounts.append(mount)
        self.run("mount", *images_and_directory)
        return mount

    def daemon_pid(self, mount: Path) -> int | None:
        """Return the process id of the daemon that serves `mount`."""
        for each in self.json("mounts"):
            if each["path"] == str(mount.resolve() if not is_dead(mount) else mount):
                pid: int | None = each["pid"]
                return pid
        return None

    def kill_daemon(self, mount: Path, number: int = signal.SIGKILL) -> None:
        """Send a signal to the daemon of `mount` and wait until the process is gone."""
        pid = self.daemon_pid(mount)
        assert pid is not None
        os.kill(pid, number)
        wait_until(lambda: not is_running(pid), "the daemon has ended", 30)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        rows: list[dict[str, Any]] = self.json("sql", query)
        return rows


def is_mounted(path: Path) -> bool:
    """Tell whether something is mounted at `path`, dead or alive."""
    # Bytes, for another test may have mounted at a name that is no UTF-8.
    return any(
        line.split()[4] == os.fsencode(path)
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines()
    )


def is_dead(path: Path) -> bool:
    """Tell whether `path` is a mount whose daemon is gone."""
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno == 107
    return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until `condition` holds, and fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def wait_until_stopped(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has stopped itself, which no other could do at the right moment."""
    status = Path(f"/proc/{process.pid}/status")
    wait_until(lambda: "\nState:\tT" in status.read_text(), "it has stopped", 30)


def is_running(pid: int) -> bool:
    """Tell whether a process runs, with any of its threads; one that waits for its parent does not.

    A killed one has its files open, and locks on them, until the last of its threads has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z" or len(threads) > 1


def _text(argument: object) -> str | bytes:
    return argument if isinstance(argument, bytes) else str(argument)
