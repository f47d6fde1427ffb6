"""Running `imgcat serve`, and the clients that read from it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.program import Program


class Server:
    """A server that runs, and the URIs that it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], uris: list[str]) -> None:
        self.process = process
        self.uris = uris

    @property
    def uri(self) -> str:
        """The one URI."""
        (found,) = self.uris
        return found

    def of(self, name: str) -> str:
        """Return the URI of an export, its name encoded, by that of the server."""
        head, mark, tail = self.uri.partition("?")
        host = head.index("/", head.index("://") + 3)
        return f"{head[:host]}/{name}{mark}{tail}"

    def stop(self, number: int = signal.SIGTERM, code: int = 0) -> str:
        """Stop it, assert its exit code, and return what it said on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        said = self.process.communicate(timeout=60)[1].decode()
        assert self.process.returncode == code, said
        return said


@contextlib.contextmanager
def serving(program: Program, *arguments: object, **options: Any) -> Iterator[Server]:
    """Serve for the time of the block."""
    process = program.start("serve", *arguments, **options)
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0], "it does not get ready"
        # All that it prints is written at once.
        lines = os.read(process.stdout.fileno(), 1 << 16).decode().splitlines()
        assert lines, process.communicate(timeout=60)[1].decode()
        yield Server(process, lines)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def client(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a client and assert its exit code."""
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == code, (command, result.returncode, result.stdout, result.stderr)
    return result


def exports(uri: str) -> dict[str, Any]:
    """Return what a server lists, by name."""
    said = json.loads(client("nbdinfo", "--json", "--list", uri).stdout)
    return {each["export-name"]: each for each in said["exports"]}


def zeros_and_data(uri: str) -> list[tuple[int, int, bool]]:
    """Return (start, length, whether it is data) of an export, neighbours of a kind as one."""
    said = json.loads(client("nbdinfo", "--json", "--map", uri).stdout)
    return joined((each["offset"], each["length"], each["type"] == 0) for each in said)


def joined(pieces: Any) -> list[tuple[int, int, bool]]:
    """Return adjacent pieces, neighbours of a kind as one."""
    found: list[tuple[int, int, bool]] = []
    for start, length, kind in pieces:
        if found and found[-1][2] == kind:
            found[-1] = (found[-1][0], found[-1][1] + length, kind)
        else:
            found.append((start, length, kind))
    return found
