"""Patterns against what Python's own fnmatch says, and that an index by trigrams loses nothing."""

from __future__ import annotations

import fnmatch
import random
import unicodedata
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.database import file_names
from imgcat.catalog.database.transaction import driver_connection
from imgcat.catalog.files.finding import _names
from imgcat.catalog.files.patterns import fold, parse_pattern, trigrams
from imgcat.catalog.store import Catalog

if TYPE_CHECKING:
    from pathlib import Path


def matches(pattern: str, path: str, **options: bool) -> bool:
    parsed = parse_pattern(pattern.encode("utf-8", "surrogateescape"), **options)
    name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
    return parsed.matches_name(file_names.kept_name(name)) and parsed.matches_path(
        path.encode("utf-8", "surrogateescape")
    )


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("fstab", ["/etc/fstab", "/FSTAB", "/a.fstab.b"], ["/fsta", "/fstab/x"]),
        ("*.odt", ["/a/b.odt", "/.odt", "/B.ODT"], ["/b.odt2", "/odt"]),
        ("file?.txt", ["/file1.txt"], ["/file12.txt", "/file.txt"]),
        ("[a-c]*", ["/boat", "/Cat"], ["/dog"]),
        ("[!a-c]*", ["/dog"], ["/boat"]),
        ("[]x]y", ["/]y", "/xy"], ["/y"]),
        ("a[b", ["/xa[bx"], ["/ab"]),
        ("etc/fst", ["/etc/fstab", "/x/etc/fst"], ["/etc/a/fstab", "/etc/xfst"]),
        ("/etc/fst", ["/etc/fstab"], ["/x/etc/fstab"]),
        ("/etc/*.d", ["/etc/x.d"], ["/etc/x/y.d", "/a/etc/x.d"]),
        ("home/*/doc", ["/home/anna/doc"], ["/home/a/b/doc", "/home/doc", "/xhome/a/doc"]),
        ("/home/**/*.odt", ["/home/a.odt", "/home/b/c/a.odt"], ["/a.odt", "/xhome/a.odt"]),
        ("/home/**", ["/home/a", "/home/a/b"], ["/home", "/x/home/a"]),
        ("caf\udce9", ["/caf\udce9", "/xcaf\udce9y"], ["/cafe", "/café"]),
        ("ÉTÉ", ["/été", "/Été"], ["/ete"]),
        ("k", ["/K"], ["/\u212a"]),
        ("100%_a", ["/100%_a"], ["/100xya"]),
        ('say "hi"', ['/say "hi"'], ["/say hi"]),
    ],
)
def test_what_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in yes if not matches(pattern, path)] == []
    assert [path for path in no if matches(pattern, path)] == []


def test_case_where_it_is_wanted() -> None:
    assert matches("Fstab", "/Fstab", has_case=True)
    assert not matches("Fstab", "/fstab", has_case=True)
    assert not matches("É", "/é", has_case=True)


def test_globs_are_those_of_fnmatch() -> None:
    rng = random.Random(5)
    letters = "ab.x"
    for _ in range(4000):
        glob = "".join(rng.choice(["a", "b", ".", "x", "*", "?", "[ab]", "[!a]"]) for _ in range(5))
        name = "".join(rng.choice(letters) for _ in range(rng.randrange(1, 7)))
        if "*" not in glob and "?" not in glob and "[" not in glob:
            continue
        if "**" in glob:
            continue
        assert matches(glob, f"/{name}") == fnmatch.fnmatchcase(name, glob), (glob, name)


def test_what_is_no_pattern() -> None:
    with pytest.raises(ValueError, match="no pattern"):
        parse_pattern(b"[z-a]x")


def test_nothing_is_lost_by_trigrams(tmp_path: Path) -> None:
    """Of every letter with case, in either: what the index gives holds all that matches."""
    letters = [
        char
        for char in map(chr, range(0x20, 0x2FFFF))
        if unicodedata.category(char)[0] in "LNPSM"
        and char != "/"
        and (char.lower() != char or char.upper() != char or char.isascii() or ord(char) % 97 == 0)
    ]
    names = [f"abc{char}yz{char}w" for char in letters]
    by_fold: dict[str, set[int]] = {}
    for number, name in enumerate(names, 1):
        by_fold.setdefault(fold(name), set()).add(number)
    with Catalog.open(str(tmp_path / "c.db"), create=True) as catalog:
        with catalog.database.writing() as connection:
            file_names.insert(
                driver_connection(connection),
                ((n, file_names.hash_of(name), name) for n, name in enumerate(names, 1)),
            )
        with catalog.database.reading() as connection:
            for char in (each for each in letters if each.isascii() or ord(each) % 19 == 0):
                for form in {char, char.swapcase(), char.lower(), char.upper()}:
                    if len(form) != 1 or form in "*?[\\":
                        continue
                    pattern = parse_pattern(f"abc{form}yz{form}w".encode())
                    assert trigrams(pattern.literals)
                    found = {
                        name_id
                        for name_id, name in _names(connection, pattern)
                        if pattern.matches_name(name)
                    }
                    assert found == by_fold.get(fold(f"abc{form}yz{form}w"), set()), (char, form)
