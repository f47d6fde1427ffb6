"""What came of recovering files: a line for each, or one JSON document, and the exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ..formats.text import printable
from .exit_codes import DAMAGED, NOT_SUPPORTED, message_of
from .output import drop_output
from .settings import complain

if TYPE_CHECKING:
    from ..catalog.recovery.records import Outcome, Unwritten
    from ..catalog.recovery.source import Source
    from ..catalog.recovery.target import Target

_MOST_RANGES = 8


class RecoveryReport:
    """What came of each file, in the order in which they are recovered.

    Args:
        source: where they lay.
        is_one: whether one file is meant: that it cannot be written is an error of the command.
        as_json: whether all of it is one document at the end.

    Attributes:
        code: the exit code.
    """

    def __init__(self, source: Source, *, is_one: bool, as_json: bool) -> None:
        self._source = source
        self._is_one = is_one
        self._as_json = as_json
        self._outcomes: list[dict[str, Any]] = []
        self._problems: list[str] = []
        self._is_read = True
        self.code = 0

    def add(self, found: Outcome | Unwritten) -> None:
        """Tell what came of a file.

        Raises:
            Exception: why the one file that is meant cannot be written.
        """
        from ..catalog.recovery.records import Unwritten, Verdict

        if isinstance(found, Unwritten):
            if self._is_one:
                raise found.error
            more = ": nothing more is recovered" if found.ends_all else ""
            self.fail(f"{message_of(found.error)}{more}")
            return
        if self._as_json:
            self._outcomes.append(_fields(found))
        else:
            self._write(_lines(found))
        if found.verdict is not Verdict.VERIFIED:
            self.code = max(self.code, DAMAGED if self._source.has_unused else NOT_SUPPORTED)

    def fail(self, why: str) -> None:
        """Tell what cannot be written, and why."""
        complain(why)
        self._problems.append(why)
        self.code = max(self.code, DAMAGED)

    def end(self, target: Target) -> None:
        """Have all that was written come to the disk and to who reads, and tell if it does not.

        Raises:
            OSError: the one file that is meant does not.
        """
        try:
            target.sync()
        except OSError as error:
            if self._is_one:
                raise
            self.fail(message_of(error))
        self._write("", flush=True)

    def write(self, snapshot: str, others: int) -> None:
        """Write the document.

        Args:
            snapshot: its name.
            others: names of what is neither a file nor a directory.
        """
        from .render import write_json

        try:
            write_json(
                {
                    "snapshot": snapshot,
                    "source": self._source.name,
                    "files": self._outcomes,
                    "problems": self._problems,
                    "others": others,
                    "exit_code": self.code,
                }
            )
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever does not read it has the files all the same.
            drop_output()

    def _write(self, lines: str, *, flush: bool = False) -> None:
        """Write lines for as long as somebody takes them: files matter more."""
        if not self._is_read:
            return
        try:
            sys.stdout.write(lines)
            if flush:
                sys.stdout.flush()
        except OSError as error:
            self._is_read = False
            drop_output()
            if not isinstance(error, BrokenPipeError):
                self.fail(f"standard output: {error.strerror}")


def _lines(outcome: Outcome) -> str:
    from ..catalog.recovery.records import Cause
    from ..filesystems.names import shown

    where = "" if outcome.output is None else f" -> {shown(os.fsencode(outcome.output))}"
    told = f": {printable(outcome.detail)}" if outcome.detail else ""
    lines = [f"{outcome.verdict.value:<12} /{shown(outcome.path)}{where}{told}\n"]
    bad = [each for each in outcome.ranges if each.cause is not Cause.UNKNOWN]
    for each in bad[:_MOST_RANGES]:
        owner = ""
        if each.cause is Cause.OTHERS:
            known = f"/{shown(each.owner)}" if each.owner else "a file without a name"
            owner = f", now of {known}"
        lines.append(f"    [{each.start}, {each.stop}) {each.cause.value}{owner}\n")
    if len(bad) > _MOST_RANGES:
        lines.append(f"    and {len(bad) - _MOST_RANGES} more ranges\n")
    return "".join(lines)


def _fields(outcome: Outcome) -> dict[str, Any]:
    """Return what came of a file, as JSON has it."""
    from ..catalog.recovery.target import range_fields
    from ..filesystems.names import shown

    return {
        "path": "/" + shown(outcome.path),
        "size": outcome.size,
        "verdict": outcome.verdict.value,
        "output": outcome.output,
        "detail": outcome.detail,
        "ranges": [range_fields(each) for each in outcome.ranges],
    }
