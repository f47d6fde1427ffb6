"""The program nbdkit: whether it is there, and the script that leads its Python to this package.

The Python that nbdkit has in it is that of the system, and knows nothing of the environment that
this program is installed in. It can use what is there where its version is the same: compiled
modules are made for one version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from .errors import ServeError

if TYPE_CHECKING:
    from .request import PluginRequest

_SITE_NAMES = ("site-packages", "dist-packages")
_WHERE_USERS_DO_NOT_LOOK = "/usr/sbin:/usr/local/sbin"
_PATIENCE_SECONDS = 30

CALLBACKS = (
    "API_VERSION", "after_fork", "can_extents", "can_multi_conn", "can_write", "cleanup", "close",
    "default_export", "extents", "get_size", "list_exports", "open", "pread", "thread_model",
)  # fmt: skip
"""What nbdkit looks for in `__main__`, of the module `plugin`."""


def find_nbdkit() -> str:
    """Return the path of nbdkit, whose Python plugin is there and fits.

    Raises:
        ServeError: something is missing; the message names the package.
    """
    program = shutil.which("nbdkit") or shutil.which("nbdkit", path=_WHERE_USERS_DO_NOT_LOOK)
    if program is None:
        raise ServeError(
            "nbdkit is not there: install the packages nbdkit and nbdkit-plugin-python (Debian, "
            "Ubuntu), or nbdkit and nbdkit-python-plugin (Fedora)"
        )
    try:
        said = subprocess.run(  # noqa: S603 - a fixed program
            [program, "python", "--dump-plugin"], capture_output=True, text=True,
            errors="replace", check=False, timeout=_PATIENCE_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServeError(f"{program}: cannot be run: {error}") from error
    if said.returncode != 0:
        raise ServeError(
            "nbdkit's Python plugin is not there: install the package nbdkit-plugin-python "
            f"(Debian, Ubuntu) or nbdkit-python-plugin (Fedora): {said.stderr.strip()}"
        )
    check_version(said.stdout)
    return program


def check_version(said: str) -> None:
    """Check that nbdkit's Python is of our version, by what its plugin tells of itself.

    Raises:
        ServeError: it is not; the message says what to do.
    """
    fields = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    theirs = ".".join(fields.get("python_version", "unknown").split(".")[:2])
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if theirs != ours:
        raise ServeError(
            f"nbdkit's Python is {theirs}, and imgcat is installed for {ours}, whose compiled "
            f"modules it cannot use: install imgcat with python{theirs} -m venv"
        )


def script_text(request: PluginRequest) -> str:
    """Return the script that nbdkit is given: ASCII, whatever is called how."""
    sites = [each for each in sys.path if os.path.basename(each) in _SITE_NAMES]
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    above = os.path.dirname(package)
    # An editable installation is found through its site; what is run where it lies, is not.
    others = [above] if os.path.basename(package) == "imgcat" and above not in sites else []
    return f"""\
import site
import sys

sys.path[:] = [each for each in sys.path if not each.endswith({_SITE_NAMES!a})]
for each in {sites!a}:
    site.addsitedir(each)
sys.path += {others!a}

from imgcat.nbd import plugin
from imgcat.nbd.request import PluginRequest

plugin.set_up(PluginRequest.loads({request.dumps()!a}))
from imgcat.nbd.plugin import {", ".join(CALLBACKS)}
"""
