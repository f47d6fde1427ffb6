"""Text fit for a terminal and a log, from names and contents that nobody vouches for."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Return `text` with control characters escaped, so that a name cannot drive the terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if unicodedata.category(char) not in {"Cc", "Cf"} else char.encode(
            "unicode_escape"
        ).decode()
        for char in text
    )  # fmt: skip
