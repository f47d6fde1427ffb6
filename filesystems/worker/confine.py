"""Taking from this process whatever it does not need, before it parses what nobody vouches for.

What is left: the socket to its parent, memory up to a limit, time up to a limit. Each of the means
is enough by itself against most; where a kernel lacks one, the others stand.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files each version of Landlock knows."""

_WITH_NETWORK, _WITH_SCOPES = 4, 6

# struct seccomp_data: the number of the call, then the architecture.
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE = 0, 4
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM = 1

# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn
# mremap madvise sendto recvfrom exit futex clock_gettime exit_group getrandom gettid getpid poll
# ppoll sched_yield
_CALLS = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 44, 45, 60, 202, 228, 231, 318, 186,
         39, 7, 271, 24),
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 206, 207, 93, 98, 113,
         94, 278, 178, 172, 73, 124),
    ),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def confine(memory: int, seconds: int, keep: int) -> list[str]:
    """Give up what is not needed. Nothing can be opened, started or connected to from then on.

    Args:
        memory: bytes of address space.
        seconds: of CPU time.
        keep: the only file descriptor that stays open, beside the standard ones.

    Returns:
        What the kernel lacks.

    Raises:
        OSError: it has a means, and it cannot be taken.
    """
    os.closerange(3, keep)
    os.closerange(keep + 1, 1 << 16)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    library = ctypes.CDLL(None, use_errno=True)
    _check(library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    lacking = []
    if not _landlock(library):
        lacking.append("landlock")
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    if not _seccomp(library):
        lacking.append("seccomp")
    return lacking


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _landlock(library: ctypes.CDLL) -> bool:
    """Let no file be opened, and no port be bound or connected to."""
    version = library.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return False
    rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack(
        "<QQQ", rights, 3 if version >= _WITH_NETWORK else 0, 3 if version >= _WITH_SCOPES else 0
    )
    size = 24 if version >= _WITH_SCOPES else 16 if version >= _WITH_NETWORK else 8
    rules = library.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0)
    _check(rules)
    try:
        _check(library.syscall(_LANDLOCK_RESTRICT, rules, 0))
    finally:
        os.close(rules)
    return True


def _seccomp(library: ctypes.CDLL) -> bool:
    """Let only calls be made that work on memory and on what is open."""
    known = _CALLS.get(platform.machine())
    if known is None:
        return False
    architecture, calls = known

    def step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
        return struct.pack("<HBBI", code, if_so, if_not, value)

    steps = [
        step(_LOAD, _ARCHITECTURE),
        step(_JUMP_EQUAL, architecture, 1, 0),
        step(_RETURN, _KILL),
        step(_LOAD, _NUMBER),
    ]
    for number, call in enumerate(calls):
        steps.append(step(_JUMP_EQUAL, call, len(calls) - number, 0))
    steps += [step(_RETURN, _FAIL | _EPERM), step(_RETURN, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(steps))
    program = _Program(len(steps), ctypes.addressof(code))
    return int(library.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)) == 0
