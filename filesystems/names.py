r"""Names of files as a person sees and types them: they are bytes, and any bytes.

What is not UTF-8, and every character that could drive a terminal, is written ``\xHH``, byte by
byte, and a backslash as two. What is shown can be typed.
"""

from __future__ import annotations

import os
import re
import unicodedata

_ESCAPED = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(\\))")
_UNFIT = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def shown(path: bytes) -> str:
    """Return a name or a path for a person; it has no control character."""
    text = path.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char == " " or (char.isprintable() and unicodedata.category(char) not in _UNFIT):
        return char
    raw = char.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def typed(text: str) -> bytes:
    """Return the name or path that a person has typed; a backslash that escapes nothing is one."""

    def unescape(found: re.Match[bytes]) -> bytes:
        return bytes.fromhex(found[1].decode()) if found[1] else b"\\"

    return _ESCAPED.sub(unescape, os.fsencode(text))
