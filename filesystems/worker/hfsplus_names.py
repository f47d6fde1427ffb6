"""Names of HFS+: stored decomposed, shown composed, as Linux shows them.

Source: Apple's technical note TN1150 ("Unicode Subtleties"), and fs/hfsplus/unicode.c of Linux.
"""

from __future__ import annotations

import unicodedata

_NEVER_DECOMPOSED = (range(0x2000, 0x3000), range(0xF900, 0xFB00))
_LEADING, _VOWEL, _TRAILING, _SYLLABLE = 0x1100, 0x1161, 0x11A7, 0xAC00
_LEADINGS, _VOWELS, _TRAILINGS = 19, 21, 28
_SWAPPED = str.maketrans({"/": ":", "\0": "\u2400"})


_TONOS, _ACUTE = "\u030d", "\u0301"
_GREEK = range(0x370, 0x400)
_OTHER_ORDER = {
    "\u1fb3": "\u1f80\u1f81\u1fb2\u1fb4\u1fb7", "\u1fbc": "\u1f88\u1f89",
    "\u1fc3": "\u1f90\u1f91\u1fc2\u1fc4\u1fc7", "\u1fcc": "\u1f98\u1f99",
    "\u1ff3": "\u1fa0\u1fa1\u1ff2\u1ff4\u1ff7", "\u1ffc": "\u1fa8\u1fa9",
}  # fmt: skip
"""Greek letters that have the iota below them before the other mark, as Unicode 2.1 had it."""

_MARKS = {
    "\u0f72\u0f71": "\u0f73", "\u0f74\u0f71": "\u0f75", "\u0fb2\u0f80": "\u0f76",
    "\u0f76\u0f71": "\u0f77", "\u0fb3\u0f80": "\u0f78", "\u0f78\u0f71": "\u0f79",
    "\u0f80\u0f71": "\u0f81",
}  # fmt: skip
"""Tibetan vowels of which each part is a mark."""


def _pairs() -> dict[tuple[str, str], str]:
    """Return what two characters make together, by Unicode 3.2, with which macOS takes them apart.

    Those of Unicode 2.1, with which Linux and older systems do, are known too where they mean the
    same. Linux puts others of the same meaning in the place of some marks that stand alone.
    """
    found = {}
    for number in range(0xC0, 0x10000):
        if any(number in each for each in _NEVER_DECOMPOSED):
            continue
        parts = unicodedata.ucd_3_2_0.decomposition(chr(number)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):  # noqa: PLR2004
            first, second = (chr(int(part, 16)) for part in parts)
            if not unicodedata.combining(first):
                found[first, second] = chr(number)
                if second == _ACUTE and number in _GREEK:
                    # So it is taken apart by Linux, and by macOS before 10.3.
                    found[first, _TONOS] = chr(number)
    for first, whole in _OTHER_ORDER.items():
        for char in whole:
            found[first, unicodedata.normalize("NFD", char)[1]] = char
    for parts_of, char in _MARKS.items():
        found[parts_of[0], parts_of[1]] = char
    return found


_PAIRS = _pairs()


def decoded(stored: bytes) -> str:
    """Return a name as it is stored, in UTF-16 of big endian."""
    return stored.decode("utf-16-be", "surrogatepass")


def shown(text: str) -> bytes:
    """Return a name as it is shown: composed; a colon where it has a slash."""
    if text.isascii():
        return text.translate(_SWAPPED).encode()
    found: list[str] = []
    for char in text:
        both = _together(found[-1], char) if found else None
        if both is None:
            found.append(char)
        else:
            found[-1] = both
    return as_stored("".join(found))


def as_stored(text: str) -> bytes:
    """Return a name that is not composed."""
    return text.translate(_SWAPPED).encode("utf-8", "surrogatepass")


def _together(first: str, second: str) -> str | None:
    known = _PAIRS.get((first, second))
    if known is not None:
        return known
    leading, vowel = ord(first) - _LEADING, ord(second) - _VOWEL
    if 0 <= leading < _LEADINGS and 0 <= vowel < _VOWELS:
        return chr(_SYLLABLE + (leading * _VOWELS + vowel) * _TRAILINGS)
    syllable, trailing = ord(first) - _SYLLABLE, ord(second) - _TRAILING
    is_open = 0 <= syllable < _LEADINGS * _VOWELS * _TRAILINGS and not syllable % _TRAILINGS
    return chr(ord(first) + trailing) if is_open and 0 < trailing < _TRAILINGS else None
