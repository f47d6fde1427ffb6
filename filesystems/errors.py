"""What can be wrong with the files in an image, beside what can be wrong with the image."""

from __future__ import annotations

from ..formats.errors import CorruptImageError, UnsupportedFeatureError


class RefusedError(UnsupportedFeatureError):
    """A file system or a file is of a kind that is not read right, so it is not read at all."""

    def __str__(self) -> str:
        return f"{self.structure}: {self.detail}"


class DamagedError(CorruptImageError):
    """A structure of a file system contradicts itself or the rest of it."""

    def __str__(self) -> str:
        return f"{self.structure}: {self.detail}"


class WorkerError(CorruptImageError):
    """The process that parses a file system has crashed, or was ended at its limit."""

    def __str__(self) -> str:
        return f"{self.structure}: {self.detail}"
