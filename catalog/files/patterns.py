"""What users look for: a part of a name, a pattern of a name, or of a path.

Letters are compared without regard to case, unless that is wanted. Of letters beyond ASCII, case is
left out where it is one letter for one: so nothing that an index by trigrams finds is lost, and
what that finds too much is left out by looking at each name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..database.file_names import kept_name, searched

_WILD = re.compile(r"\*\*/?|\*|\?|\[!?\]?[^\]]*\]")

SHORTEST = 3
"""Characters that a trigram has."""


class Pattern(NamedTuple):
    """What is looked for.

    Attributes:
        name: matches the whole of a name.
        path: matches the whole of a path from ``/`` on; None where only names are looked at.
        literals: what every name that matches has in it, folded.
        has_case: whether case matters.
    """

    name: re.Pattern[str]
    path: re.Pattern[str] | None
    literals: tuple[str, ...]
    has_case: bool

    def matches_name(self, name: str | bytes) -> bool:
        """Tell whether a name, as the catalog has it, matches."""
        return self.name.fullmatch(self._text(name)) is not None

    def matches_path(self, path: bytes) -> bool:
        """Tell whether a path matches."""
        if self.path is None:
            return True
        return self.path.fullmatch(self._text(path)) is not None

    def _text(self, name: str | bytes) -> str:
        if isinstance(name, bytes):
            name = name.decode(errors="surrogateescape")
            try:
                name.encode()
            except UnicodeEncodeError:
                name = searched(name.encode(errors="surrogateescape"))
        return name if self.has_case else fold(name)


def parse_pattern(text: bytes, *, has_case: bool = False) -> Pattern:
    """Return what is looked for.

    Args:
        text: as the user gives it. Without ``*``, ``?`` and ``[``: a part of a name. With a ``/``
            in it, the directories above have to match too: from the root on where it begins with
            one, else from anywhere; ``*`` is within one name, ``**`` also over several.
        has_case: whether case matters.

    Raises:
        ValueError: it is no pattern.
    """
    plain = searched(kept_name(text))
    if not has_case:
        plain = fold(plain)
    above, slash, last = plain.rpartition("/")
    is_wild = _WILD.search(plain) is not None
    name = last if is_wild else f"*{last}*"
    if slash and not is_wild:
        name = f"{last}*"
    way = None
    if slash:
        anchor = "" if plain.startswith("/") else "(?:.*)" if not is_wild else "(?:.*/)?"
        way = anchor + _regex(above + slash + name)
    # Over a **, a name may be anything that stands before it.
    of_name = "**" if "**" in name else name
    try:
        path = None if way is None else re.compile(way, re.DOTALL)
        matching = re.compile(_regex(of_name), re.DOTALL)
    except re.error as error:
        raise ValueError(f"no pattern: {error}") from None
    return Pattern(matching, path, tuple(_literals(of_name)), has_case)


def _regex(glob: str) -> str:
    parts = []
    position = 0
    for match in _WILD.finditer(glob):
        parts.append(re.escape(glob[position : match.start()]))
        position = match.end()
        wild = match[0]
        if wild == "**/":
            parts.append("(?:.*/)?")
        elif wild == "**":
            parts.append(".*")
        elif wild == "*":
            parts.append("[^/]*")
        elif wild == "?":
            parts.append("[^/]")
        else:
            parts.append(_set(wild))
    parts.append(re.escape(glob[position:]))
    return "".join(parts)


def _set(wild: str) -> str:
    inside = wild[1:-1]
    negated = inside.startswith("!")
    if negated:
        inside = inside[1:]
    # A range stays one; all else stands for itself.
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside)
    return f"[^/{escaped}]" if negated else f"(?!/)[{escaped}]"


def _literals(glob: str) -> list[str]:
    """Return the runs of characters between wildcards."""
    found = []
    position = 0
    for match in _WILD.finditer(glob):
        found.append(glob[position : match.start()])
        position = match.end()
    found.append(glob[position:])
    return [each for each in found if each]


def trigrams(literals: tuple[str, ...]) -> list[str]:
    """Return trigrams that the index has of every name with all of these in it.

    Those with letters beyond ASCII that have case are left out: their case may be folded otherwise
    there.
    """
    found: dict[str, None] = {}
    for literal in literals:
        for start in range(len(literal) - SHORTEST + 1):
            piece = literal[start : start + SHORTEST]
            if all(map(_is_plain, piece)):
                found[piece] = None
    return list(found)


def _is_plain(character: str) -> bool:
    return character.isascii() or not (
        character.isalpha() and (character.upper() != character or character.lower() != character)
    )


def fold(text: str) -> str:
    """Return a text without regard to case, as long as it is."""
    if text.isascii():
        return text.lower()
    return "".join(map(_folded, text))


def _folded(character: str) -> str:
    lower = character.lower()
    # No letter beyond ASCII becomes one of ASCII: who looks for a k means no sign for kelvin.
    return lower if len(lower) == 1 and lower.isascii() == character.isascii() else character
