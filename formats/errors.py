"""What can be wrong with an image.

Owns the one error tree that every parser and reader raises from. Nothing in `formats` raises
anything else for bad bytes, whatever the bytes are.
"""

from __future__ import annotations


class FormatError(Exception):
    """An image could not be understood or read.

    Args:
        structure: the on-disk structure by its dotted name, e.g. ``partclone.header``.
        offset: where it lies in the stored stream, in bytes.
        detail: what is wrong, and what to do where there is something to do.
    """

    def __init__(self, structure: str, offset: int, detail: str) -> None:
        super().__init__(structure, offset, detail)
        self.structure = structure
        self.offset = offset
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.structure} @0x{self.offset:x}: {self.detail}"


class NotThisFormatError(FormatError):
    """The bytes do not begin like an image of this format."""


class UnsupportedFeatureError(FormatError):
    """The image is of this format, but uses something that imgcat does not read."""


class TruncatedImageError(FormatError):
    """The stored stream ends before the structure does."""


class MissingParentError(FormatError):
    """The image is a difference to another image that was not found."""


class UnreadablePartError(FormatError):
    """A part of an image that is made of others cannot be read; the others can."""

    def __str__(self) -> str:
        return f"{self.structure}: {self.detail}"


class CorruptImageError(FormatError):
    """A structure contradicts itself or the rest of the image."""


class ChecksumError(CorruptImageError):
    """A stored checksum differs from the one computed.

    Args:
        structure: what the checksum covers.
        offset: where the covered bytes begin in the stored stream.
        group: which checksum of its kind it is, counted from 0.
        expected: the stored value.
        actual: the value computed from the bytes.
    """

    def __init__(
        self, structure: str, offset: int, *, group: int, expected: int, actual: int
    ) -> None:
        super().__init__(
            structure,
            offset,
            f"checksum {group} is 0x{actual:x}, but 0x{expected:x} is stored: "
            "the bytes were changed after they were written",
        )
        self.group = group
        self.expected = expected
        self.actual = actual

    def __reduce__(self) -> tuple[object, ...]:
        return (
            _rebuild_checksum_error,
            (type(self), self.structure, self.offset, self.group, self.expected, self.actual),
        )


def _rebuild_checksum_error(
    kind: type[ChecksumError], structure: str, offset: int, group: int, expected: int, actual: int
) -> ChecksumError:
    return kind(structure, offset, group=group, expected=expected, actual=actual)
