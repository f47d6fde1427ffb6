"""A shell's command line as words, and a word as a shell's command line has it. For bash."""

from __future__ import annotations

import string

_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v",
}  # fmt: skip
_SPACES = " \t\n"
_SPECIAL = frozenset(" \\\"'`$&|;()<>*?[]{}!#~=^:@,%")
_SPECIAL_IN_DOUBLE_QUOTES = '\\"$`'


def split_line(line: str, context: str = "") -> tuple[list[str], str]:
    r"""Return the words of a line that may end anywhere, and the quote that is open at its end.

    The last word is the one at the end, empty where that is a space.

    Args:
        line: the line.
        context: the quote that is open at its beginning: ``'``, ``"``, ``$'``, or none.
    """
    words = [""]
    position = 0
    while position < len(line):
        char, following = line[position], line[position + 1 : position + 2]
        position += 1
        taken = ""
        if context == "'":
            context, taken = ("", "") if char == "'" else (context, char)
        elif context == '"':
            context, taken, position = _in_double_quotes(char, following, position)
        elif context == "$'":
            context, taken, position = _in_ansi_quotes(char, line, position)
        elif char == "\\":
            taken = following.strip("\n")
            position += 1
        elif char in {"'", '"'}:
            context = char
        elif char == "$" and following == "'":
            context = "$'"
            position += 1
        elif char not in _SPACES:
            taken = char
        elif words[-1]:
            words.append("")
        words[-1] += taken
    return words, context


def _in_double_quotes(char: str, following: str, position: int) -> tuple[str, str, int]:
    if char == "\\" and following and following in _SPECIAL_IN_DOUBLE_QUOTES:
        return '"', following, position + 1
    return ("", "", position) if char == '"' else ('"', char, position)


def _in_ansi_quotes(char: str, line: str, position: int) -> tuple[str, str, int]:
    if char == "'":
        return "", "", position
    if char != "\\":
        return "$'", char, position
    escape = line[position : position + 1]
    if escape == "x":
        digits = line[position + 1 : position + 3]
        is_number = digits != "" and set(digits) <= set(string.hexdigits)
        return "$'", chr(int(digits, 16)) if is_number else digits, position + 3
    return "$'", _ESCAPES.get(escape, escape), position + 1


def quoted_for(context: str, word: str) -> str:
    """Return a word as it stands on a command line behind a quote that is open, or none.

    Args:
        context: the quote, as `split_line` gives it. The shell closes it, but for a word that
            ends with that quote: then it believes that this was done, and so it is.
        word: what the program shall get.
    """
    if context and word.endswith(context[-1]):
        return _quoted_for(context, word) + context[-1]
    return _quoted_for(context, word)


def _quoted_for(context: str, word: str) -> str:
    if context == "'":
        return word.replace("'", "'\\''")
    if context == "$'":
        return "".join(_ansi(char) for char in word)
    if context == '"':
        quoted = (f"\\{char}" if char in _SPECIAL_IN_DOUBLE_QUOTES else char for char in word)
        # Between double quotes, nothing keeps a ! from being looked up in the history.
        return "".join(quoted).replace("!", '"\\!"')
    return "".join(
        f"$'{_ansi(char)}'" if ord(char) < ord(" ") or char == "\x7f"
        else f"\\{char}" if char in _SPECIAL
        else char
        for char in word
    )  # fmt: skip


def _ansi(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return f"\\x{ord(char):02x}" if ord(char) < ord(" ") or char == "\x7f" else char
