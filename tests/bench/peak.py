"""Run a command and print the most bytes that it had resident.

Started as ``peak.py COMMAND...``, in a small process of its own: a process inherits the peak of the
one that started it.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Do as the module says."""
    null = os.open(os.devnull, os.O_WRONLY)
    pid = os.posix_spawn(
        sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)]
    )
    _pid, status, usage = os.wait4(pid, 0)
    sys.stdout.write(f"{usage.ru_maxrss * 1024}\n")
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
