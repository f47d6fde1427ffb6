"""Text fit for a terminal and a log, from names and contents that nobody vouches for."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Return `text` with control characters escaped, so that a name cannot drive the terminal.

    What of a name is not UTF-8 is escaped byte by byte, so that it can be written to anything.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(char: str) -> str:
    kind = unicodedata.category(char)
    if kind == "Cs" and "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) & 0xFF:02x}"
    return char.encode("unicode_escape").decode() if kind in {"Cc", "Cf", "Cs"} else char
