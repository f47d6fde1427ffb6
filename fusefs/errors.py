"""What can be wrong with a mount."""

from __future__ import annotations


class MountError(Exception):
    """A mount could not be made or ended; the message says what to do."""


class NotMountedError(MountError):
    """The directory is not an imgcat mount."""
