"""Names: bytes, shown without control characters, and typed as they are shown."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.filesystems.names import shown, typed

SHOWN = {
    b"plain.txt": "plain.txt",
    "ümläut".encode(): "ümläut",
    b"a\nb": "a\\x0ab",
    b"\x1b[31m": "\\x1b[31m",
    b"\xff": "\\xff",
    b"back\\slash": "back\\\\slash",
    b"back\\x0a": "back\\\\x0a",
    "\u202e".encode(): "\\xe2\\x80\\xae",
    "a b": "a b",
}


@pytest.mark.parametrize("name", SHOWN)
def test_shown(name: bytes | str) -> None:
    raw = name if isinstance(name, bytes) else name.encode()
    assert shown(raw) == SHOWN[name]


@given(st.binary(max_size=40))
def test_what_is_shown_can_be_typed_and_drives_no_terminal(name: bytes) -> None:
    text = shown(name)
    assert typed(text) == name
    assert text.isprintable()


def test_a_backslash_that_escapes_nothing_is_one() -> None:
    assert typed("a\\b") == b"a\\b"
    assert typed(os.fsdecode(b"\xff")) == b"\xff"
