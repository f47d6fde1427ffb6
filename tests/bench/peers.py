"""The peer: `imagebackup` from PyPI, in a virtual environment of its own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from measure import say
from workshop import new_child

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import Workshop

PACKAGE = "imagebackup"
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.001


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """The peer's programs.

    Attributes:
        python: the interpreter that can import it.
        vpartclone: the program that mounts an image.
    """

    python: Path
    vpartclone: Path


def find_peer(environment: Path) -> Peer:
    """Return the peer in a virtual environment that has it already."""
    programs = environment.absolute() / "bin"
    peer = Peer(programs / "python", programs / "vpartclone")
    for program in (peer.python, peer.vpartclone):
        if not program.exists():
            message = f"{program} is not there: {PACKAGE} is not installed in {environment}"
            raise FileNotFoundError(message)
    return peer


def install_peer(shop: Workshop) -> Peer:
    """Make a virtual environment in the scratch directory and install the peer there."""
    say(f"installing {PACKAGE}")
    environment = shop.directory / "peer"
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "-qq"]
    # With the user's own variables: pip's settings are among them.
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([*pip, "--disable-pip-version-check", PACKAGE], check=True)
    return find_peer(environment)


def mount_with_peer(
    shop: Workshop, peer: Peer, image: Path, point: Path, program: str = "vpartclone"
) -> int:
    """Let the peer mount an image, read its first byte and return the daemon's process id."""
    with new_child() as found:
        start_and_read(shop, peer, image, point, program)
    return found[0]


def start_and_read(
    shop: Workshop, peer: Peer, image: Path, point: Path, program: str = "vpartclone"
) -> None:
    """Let the peer mount an image, and return as soon as its first byte was read.

    The program forks and returns before the mount is there, so one has to look for the file.
    """
    shop.run_silently(peer.vpartclone.with_name(program), "-q", "-m", point, image)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            (path,) = point.iterdir()
            read_first_byte(path)
        except (FileNotFoundError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def mounted_file(image: Path, point: Path) -> Path:
    """Return the file that the mount of an image shows, with the peer as with us."""
    return point / image.name.removesuffix(".img")


def read_first_byte(path: Path) -> None:
    """Open a file, read one byte and close it."""
    with path.open("rb", buffering=0) as file:
        if len(file.read(1)) != 1:
            message = f"{path} is empty"
            raise ValueError(message)
