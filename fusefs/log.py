"""The daemon's log: one line a message, whatever the images are called."""

from __future__ import annotations

import logging
import logging.handlers
from typing import TYPE_CHECKING

from ..formats.text import printable
from .errors import MountError

if TYPE_CHECKING:
    from logging import LogRecord

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_BYTES = 1 << 20


def set_up_log(log_file: str | None) -> None:
    """Send the log to a file, which is kept from growing without end, or to standard error.

    Raises:
        MountError: the file cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler()
    if log_file is not None:
        try:
            handler = logging.handlers.RotatingFileHandler(
                log_file, maxBytes=_BYTES, backupCount=1, encoding="utf-8",
                errors="backslashreplace",
            )  # fmt: skip
        except OSError as error:
            raise MountError(f"{log_file}: {error.strerror}") from error
    handler.setFormatter(_PrintableFormatter(_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


class _PrintableFormatter(logging.Formatter):
    """A formatter with which no name can forge a line or drive the terminal that shows it."""

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802 - the name in logging
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: logging._SysExcInfoType) -> str:  # noqa: N802
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {printable(line)}" for line in lines)
