"""What can be wrong with serving images."""

from __future__ import annotations


class ServeError(Exception):
    """Images cannot be served; the message says what to do."""


class ArgumentsError(Exception):
    """nbdkit is not to be given these arguments; the message says why."""
