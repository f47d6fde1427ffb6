"""The scratch directory of a run, and every process and mount that a run leaves behind otherwise.

The program adopts the daemons that its children start (it is their "subreaper"), so it knows them
by their process id for as long as it has not waited for them, and ends no others.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from measure import say

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.01


class Workshop:
    """A scratch directory, removed at the end of the block with all that was started in it.

    Args:
        parent: where it is made.

    Attributes:
        directory: the scratch directory, without links.
        environment: for every process that is measured. Each keeps its compiled modules, as an
            installed package does, but in the scratch directory.
    """

    def __init__(self, parent: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="imgcat-bench-", dir=parent)).resolve()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("IMGCAT_", "PYTHON"))
        }
        self.environment |= {
            "HOME": str(self.directory),
            "PYTHONPYCACHEPREFIX": str(self.directory / "pycache"),
            "XDG_RUNTIME_DIR": str(self.make("run")),
            "XDG_STATE_HOME": str(self.make("state")),
        }
        command = Path(sys.executable).with_name("imgcat")
        self._imgcat = [str(command)] if command.exists() else [sys.executable, "-m", "imgcat"]

    def __enter__(self) -> Self:
        """Adopt orphans from now on."""
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        return self

    def __exit__(self, *exc: object) -> None:
        """Unmount, end what was started, remove the directory."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.unmount_below(self.directory)
        end_processes(children())
        left = mount_points_below(self.directory)
        if left:
            say(f"still mounted, so nothing is removed: {' '.join(map(str, left))}")
            return
        shutil.rmtree(self.directory)

    def use_program(self, program: Path) -> None:
        """Run another `imgcat` than the one of this environment."""
        self._imgcat = [str(program)]

    def make(self, name: str) -> Path:
        """Return a new, empty directory."""
        path = self.directory / name
        path.mkdir(parents=True)
        return path

    def imgcat(self, catalog: Path, *arguments: object) -> list[str]:
        """Return the command line of `imgcat` over a catalog."""
        return [*self._imgcat, "--db", str(catalog), *map(str, arguments)]

    def version_command(self) -> list[str]:
        """Return the command line of `imgcat --version`."""
        return [*self._imgcat, "--version"]

    def run(self, *command: object) -> str:
        """Run a command, which must succeed, and return what it prints."""
        result = subprocess.run(
            [str(part) for part in command], env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if result.returncode != 0:
            message = f"{command[0]} ended with {result.returncode}: {result.stderr[-500:]}"
            raise RuntimeError(message)
        return result.stdout

    def run_silently(self, *command: object) -> None:
        """Run a command, which must succeed and whose output goes nowhere."""
        subprocess.run(
            [str(part) for part in command], env=self.environment, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def mount_all(self, catalog: Path, point: Path) -> int:
        """Mount every image of a catalog and return the daemon's process id."""
        self.run_silently(*self.imgcat(catalog, "mount-all", point))
        return self.daemon_of(catalog, point)

    def daemon_of(self, catalog: Path, point: Path) -> int:
        """Return the process id of the daemon of ours that serves a mount point."""
        said = json.loads(self.run(*self.imgcat(catalog, "mounts", "--json")))
        (pid,) = (each["pid"] for each in said if each["path"] == str(point))
        return int(pid)

    def unmount(self, point: Path, pid: int) -> None:
        """Unmount, and wait until the daemon `pid` has ended."""
        self.run("umount", point)
        end_processes({pid})

    def unmount_below(self, directory: Path) -> None:
        """Unmount whatever is mounted below a directory, the latest first."""
        for point in reversed(mount_points_below(directory)):
            plain = subprocess.run(["umount", point], capture_output=True, check=False)
            if plain.returncode != 0:
                subprocess.run(["umount", "-l", point], capture_output=True, check=False)


@contextlib.contextmanager
def new_child() -> Iterator[list[int]]:
    """Yield a list that holds, after the block, the one process that became our child in it."""
    found: list[int] = []
    before = children()
    yield found
    found.extend(sorted(children() - before))
    if len(found) != 1:
        message = f"one daemon was to be started, found {found}"
        raise RuntimeError(message)


def children() -> set[int]:
    """Return the ids of our children, the adopted among them, without those that have ended."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found.add(int(entry.name))
    return found


def end_processes(pids: set[int], patience: float = 10.0) -> None:
    """Wait for children to end by themselves; ask, and at last force, those that do not."""
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None and pids:
            say(f"  processes {sorted(pids)} do not end by themselves: {number.name}")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        deadline = time.monotonic() + patience
        while pids and time.monotonic() < deadline:
            pids = {pid for pid in pids if not _reaped(pid)}
            time.sleep(_POLL_SECONDS if pids else 0)


def mount_points_below(directory: Path) -> list[Path]:
    """Return what is mounted below a directory, in the order of mounting."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    points = [Path(os.fsdecode(line.split()[4])) for line in lines]
    return [point for point in points if directory in point.parents]


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
