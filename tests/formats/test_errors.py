"""Errors say where and what, and survive the way to another process."""

from __future__ import annotations

import copy
import pickle

import pytest
from imgcat.formats.errors import (
    ChecksumError,
    CorruptImageError,
    FormatError,
    MissingParentError,
    NotThisFormatError,
    TruncatedImageError,
    UnsupportedFeatureError,
)


@pytest.mark.parametrize(
    "kind",
    [
        FormatError,
        NotThisFormatError,
        UnsupportedFeatureError,
        TruncatedImageError,
        MissingParentError,
        CorruptImageError,
    ],
)
def test_error_names_structure_offset_and_detail(kind: type[FormatError]) -> None:
    error = kind("partclone.header", 84, "block size 0")
    assert str(error) == "partclone.header @0x54: block size 0"
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert (twin.structure, twin.offset, twin.detail) == (
            "partclone.header",
            84,
            "block size 0",
        )


def test_checksum_error_carries_the_values() -> None:
    error = ChecksumError("partclone.data", 1266, group=3, expected=0xAB, actual=0xCD)
    message = (
        "partclone.data @0x4f2: checksum 3 is 0xcd, but 0xab is stored: "
        "the bytes were changed after they were written"
    )
    assert isinstance(error, CorruptImageError)
    for twin in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is ChecksumError
        assert str(twin) == message
        assert (twin.group, twin.expected, twin.actual) == (3, 0xAB, 0xCD)
