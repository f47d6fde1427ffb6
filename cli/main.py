"""The program `imgcat`: its commands, and how what goes wrong becomes an exit code.

Nothing heavy is imported here; each command imports what it needs when it runs.
"""

from __future__ import annotations

import codecs
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from .arranging import FLAGS, arranged
from .output import drop_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typer import Typer


def run() -> int:
    """Run the command line and return the exit code."""
    _use_utf8_names()
    sys.argv[1:] = arranged(sys.argv[1:], _COMMANDS)
    if sys.argv[1:] == ["--version"]:
        return _flushed(_print_version)
    # numpy is used for bits and bytes: the threads of its linear algebra would only cost memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _set_up_streams()
    return _flushed(_run_app)


def _flushed(run_it: Callable[[], int]) -> int:
    """Return the exit code of what is run, and of writing out what it has written."""
    code = 0
    try:
        code = run_it()
        # The work is done: an interrupt could only spoil the interpreter's own end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout.flush()
    except BrokenPipeError:
        from .exit_codes import BROKEN_PIPE

        drop_output()
        return BROKEN_PIPE
    except OSError as error:
        drop_output()
        sys.stderr.write(f"imgcat: standard output: {error.strerror}\n")
        return code or 5
    return code


def _use_utf8_names() -> None:
    """Begin again in Python's UTF-8 mode, where the locale takes file names for something else.

    The catalog has names as the bytes that they are, or as UTF-8: in a locale of ASCII or Latin-1,
    Python could not give them to the system. What is written stays in the locale's encoding.
    """
    is_utf8 = sys.getfilesystemencoding().lower() == "utf-8"
    if is_utf8 or not sys.executable or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


def _set_up_streams() -> None:
    """Have standard streams, also where the caller closed them, that can write any name."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    codecs.register_error("imgcat", _encode_anyhow)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="imgcat")  # type: ignore[union-attr]


def _run_app() -> int:
    from .exit_codes import BROKEN_PIPE, BUG, INTERRUPTED, code_of, message_of
    from .settings import COMPLETION_VARIABLE, complain

    try:
        if COMPLETION_VARIABLE in os.environ:
            from .completion import answer

            _write_bytes(answer(make_app(), os.environ[COMPLETION_VARIABLE], sys.argv[1:]))
        else:
            make_app(_command_of(sys.argv[1:]))(prog_name="imgcat")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            # Whoever read our output has stopped to, as `head` does.
            drop_output()
            return BROKEN_PIPE
        return end.code if isinstance(end.code, int) else BUG
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        code = code_of(error)
        if code == BUG:
            raise
        complain(message_of(error))
        if "--json" in sys.argv[1:]:
            # What reads the document reads why there is none of the usual kind, too.
            from .render import write_json

            write_json({"error": message_of(error), "exit_code": code})
        return code
    return 0


_COMMANDS = {
    "add": "add:add",
    "ls": "ls:ls",
    "show": "show:show",
    "info": "show:show",
    "rm": "images:rm",
    "rename": "rename:rename",
    "rescan": "images:rescan",
    "relocate": "relocate:relocate",
    "verify": "verify:verify",
    "export": "export:export",
    "repack": "repack:repack",
    "map": "map:map_extents",
    "read": "inspect:read",
    "files": "files:files",
    "cat": "files:cat",
    "cp": "copy:cp",
    "tar": "copy:tar",
    "index": "index:index",
    "find": "find:find",
    "history": "history:history",
    "diff": "diff:diff",
    "snapshot": "snapshot:snapshot",
    "recover": "recover:recover",
    "mount-all": "mount:mount_all",
    "mount": "mount:mount",
    "unmount": "mount:unmount",
    "umount": "mount:unmount",
    "mounts": "mount:mounts",
    "serve": "serve:serve",
    "shell": "shell.command:shell",
    "sql": "sql:sql",
    "db": "db:app",
    "doctor": "doctor:doctor",
    "completion": "completion:completion",
}
"""Where each command is: the module, and the function in it, or the group of commands."""

_CLASSES = {"serve": "ServeCommand"}
"""The classes of commands that read their command lines in a way of their own."""


def make_app(only: str | None = None) -> Typer:
    """Return the application with all of its commands, or with one of them.

    Args:
        only: the one command that is going to be run: typer takes as long over each of the others
            as the catalog takes to answer.
    """
    import typer

    from . import options

    app = typer.Typer(
        name="imgcat",
        help="One catalog for all of your disk-image backups, every image a file in one mount.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(options.options)
    for name in _COMMANDS if only is None else (only,):
        module_name, _, function = _COMMANDS[name].partition(":")
        module = importlib.import_module(f".{module_name}", __package__)
        command = getattr(module, function)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            is_alias = name == "umount"
            cls = getattr(module, _CLASSES.get(name, ""), None)
            app.command(name, cls=cls, hidden=is_alias)(command)
    return app


def _command_of(arguments: Sequence[str]) -> str | None:
    """Return the command that a command line runs; None where only the whole application can tell.

    That is: where something is wrong with it, or it asks for help before the command.
    """
    words = iter(arguments)
    for word in words:
        if word == "--db":
            next(words, None)
        elif word not in FLAGS and not word.startswith("--db="):
            return word if word in _COMMANDS else None
    return None


def _encode_anyhow(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write names that are not UTF-8 as the bytes they are, and escape what the terminal lacks."""
    assert isinstance(error, UnicodeEncodeError)
    one = UnicodeEncodeError(
        error.encoding, error.object, error.start, error.start + 1, error.reason
    )
    try:
        return codecs.lookup_error("surrogateescape")(one)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(one)


def _write_bytes(data: bytes) -> None:
    sys.stdout.buffer.write(data)


def _print_version() -> int:
    from .. import __version__

    sys.stdout.write(f"imgcat {__version__}\n")
    return 0
