"""A user-mode Linux: a kernel that has the drivers this machine's may lack, as a process.

It knows ISO 9660 and HFS+ from its own side: it fills volumes, and tells what a mount shows.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).resolve().parent
_SECONDS = 240


def in_uml(
    images: Sequence[Path], mount: str, call: str, out: Path, *, is_read_only: bool = True
) -> list[Any]:
    """Mount images there, and return what a function says of each mount.

    Args:
        images: each becomes a block device.
        mount: the type of the file system, and the options of the mount behind a colon.
        call: the function, as ``module:name``; it gets the path of the mount, and returns what
            `ast.literal_eval` knows again.
        out: a directory for what it returns.
        is_read_only: nothing may change the images.
    """
    out.mkdir(exist_ok=True)
    answer = out / "answer"
    answer.unlink(missing_ok=True)
    paths = os.pathsep.join(path for path in sys.path if path)
    disks = [
        f"ubd{number}{'r' if is_read_only else ''}={image}" for number, image in enumerate(images)
    ]
    words = [
        "linux.uml", "mem=256M", "rootfstype=hostfs", "root=/dev/root", "rootflags=/", "ro", *disks,
        f"uml_dir={out}", f"umid={out.name}-{os.getpid()}", "con=null", "con0=null,fd:1", "quiet",
        f"PYTHONPATH={paths}", f"init={sys.executable}", "--", str(_HERE / "uml_init.py"), mount,
        call, str(out), "ro" if is_read_only else "rw", str(len(images)),
    ]  # fmt: skip
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    printed = done.stdout.decode(errors="replace")
    assert answer.exists(), printed
    found: list[Any] = ast.literal_eval(answer.read_text(encoding="ascii"))
    return found
