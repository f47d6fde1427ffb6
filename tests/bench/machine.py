"""Where the figures were taken, and with which versions of what."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from peers import PACKAGE

if TYPE_CHECKING:
    from peers import Peer

_VERSION_OF = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


def facts(peer: Peer | None) -> dict[str, str]:
    """Return what one should know of the machine and, where it was used, the peer."""
    found = {
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "Memory": _memory(),
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "imgcat": f"{importlib.metadata.version('imgcat-backups')}, {_libraries()}",
    }
    if peer is not None:
        found[PACKAGE] = f"{_of_peer(peer, PACKAGE)}, pyfuse3 {_of_peer(peer, 'pyfuse3')}"
    return found


def _libraries() -> str:
    names = ("pyfuse3", "trio", "numpy", "sqlalchemy")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _of_peer(peer: Peer, package: str) -> str:
    result = subprocess.run(
        [peer.python, "-c", _VERSION_OF, package], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / (1 << 20):.1f} GiB"
    return "unknown"
