"""A user who is not root, with a ``/dev/fuse`` that every user can open.

It is one that has a name, for fusermount3 wants to know that. Everything runs in a table of mounts
of its own, and goes with it. The user may read what root may, for the interpreter and the libraries
that the tests run with may lie where only root can; in all else it is a user like any: it cannot
mount, and what it makes is its own.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from support.program import COMMAND
from support.strangers import NOBODY

if TYPE_CHECKING:
    from pathlib import Path

READS_ALL = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip
"""Runs what follows as that user."""

OWN_FUSE = """
mount -t tmpfs -o mode=0755 none "$1" && mknod -m 666 "$1/fuse" c 10 229 &&
mount --bind "$1/fuse" /dev/fuse && shift && exec "$@"
"""
"""For ``sh -c`` in a table of mounts of its own: the first argument is an empty directory."""


def run_as_somebody(
    home: Path, script: str, *arguments: object, may_fuse: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a shell script as a user without root, and return what came of it.

    Args:
        home: the user's home, made if need be; the script begins in it.
        script: for ``sh -e``; ``imgcat`` is the program.
        arguments: of the script.
        may_fuse: False leaves ``/dev/fuse`` as it is on this machine.
    """
    home.mkdir(exist_ok=True)
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    spare = home.with_name(f"{home.name}-dev")
    spare.mkdir(exist_ok=True)
    function = f'imgcat() {{ {" ".join(COMMAND)} "$@"; }}\n'
    own = ("unshare", "--mount", "sh", "-c", OWN_FUSE, "sh", str(spare)) if may_fuse else ()
    return subprocess.run(
        [*own, *READS_ALL, "sh", "-ec", function + script, "sh", *map(str, arguments)],
        cwd=home, capture_output=True, text=True, check=False, timeout=300,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
             "XDG_RUNTIME_DIR": str(home), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )  # fmt: skip
