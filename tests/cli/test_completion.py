"""Completion in the real shells: a name is one word, whatever it is, and never a command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imgcat.catalog.store import Catalog
from imgcat.cli.shell_words import quoted_for, split_line
from support.interactive_shell import InteractiveShell
from support.shortcuts import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program
    from support.samples import Sample

NAMES = [
    "plain", "$(touch pwn)", "`touch pwn`", "a;touch pwn", "a&touch pwn", "two words", "x (2)",
    "it's", 'say "so"', "*", "[a-z]?", "$HOME", "back\\slash", "{a,b}", "#hash", "~", "a!b",
    "co:lon=is", "a<b>c|d", "two\nlines", "ümlaut", "dir/in it (3)", "trailing ", "directory",
]  # fmt: skip


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(
    request: pytest.FixtureRequest, program: Program, samples: list[Sample], tmp_path: Path
) -> InteractiveShell:
    catalogue(program, samples[0].path, samples[1].path)
    here = tmp_path / "here"
    here.mkdir()
    # A directory of an image's name is none of its completions.
    (here / "directory").mkdir()
    return InteractiveShell(request.param, program, here)


def _name(program: Program, *names: str) -> None:
    with Catalog.open(str(program.catalog)) as catalog:
        ids = [row.id for row, _volumes in catalog.list_images()]
        for image_id in ids:
            catalog.rename(image_id, f"-{image_id}")
        for image_id, name in zip(sorted(ids), names, strict=False):
            catalog.rename(image_id, name)
        if len(names) < len(ids):
            catalog.remove(sorted(ids)[len(names) :])


def test_every_name_is_one_word_and_no_command(
    shell: InteractiveShell, program: Program, tmp_path: Path
) -> None:
    with shell:
        for name in NAMES:
            if shell.name == "fish" and name.startswith("~"):
                continue  # fish would make it a home directory: it is not offered
            _name(program, name)
            assert shell.run("imgcat show \t") == ["show", name], name
            if name[0].isalpha():
                assert shell.run(f"imgcat show {name[0]}\t") == ["show", name], name
        assert sorted(os.listdir(tmp_path / "here")) == ["directory"]


def test_a_quote_that_is_open_stays_the_one(shell: InteractiveShell, program: Program) -> None:
    with shell:
        for name in ("x y (2)", "x $(touch pwn) y", 'x "y"', "x `y`", "x 'y' z"):
            _name(program, name)
            assert shell.run('imgcat show "x \t') == ["show", name], name
            if "'" not in name:
                assert shell.run("imgcat show 'x \t") == ["show", name], name


def test_what_several_have_in_common(shell: InteractiveShell, program: Program) -> None:
    with shell:
        _name(program, "my $(touch pwn) a", "my $(touch pwn) b")
        assert shell.run("imgcat show m\tb\t") == ["show", "my $(touch pwn) b"]
        assert shell.run("imgcat sho\tm\ta\t") == ["show", "my $(touch pwn) a"]


def test_paths_are_completed_where_images_are_not(
    shell: InteractiveShell, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "here" / "an image.img").touch()
    with shell:
        assert shell.run("imgcat add an\t") == ["add", "an image.img"]


@given(st.lists(st.text(st.characters(codec="ascii"), min_size=1), min_size=1, max_size=4))
def test_a_line_is_taken_apart_as_it_was_quoted(words: list[str]) -> None:
    words = [word.replace("\0", "0") for word in words]
    assert split_line(" ".join(quoted_for("", word) for word in words)) == (words, "")
    for context in ("'", '"', "$'"):
        found, open_now = split_line(quoted_for(context, words[0]), context)
        is_closed = words[0].endswith(context[-1])
        assert (found, open_now) == ([words[0]], "" if is_closed else context)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("imgcat show ", (["imgcat", "show", ""], "")),
        ("imgcat  show 'a b", (["imgcat", "show", "a b"], "'")),
        ('imgcat show "a \\$b', (["imgcat", "show", "a $b"], '"')),
        ("imgcat show $'a\\n\\x41", (["imgcat", "show", "a\nA"], "$'")),
        ("imgcat show $'a\\xzz", (["imgcat", "show", "azz"], "$'")),
        ("imgcat show a\\", (["imgcat", "show", "a"], "")),
    ],
)
def test_lines_that_end_anywhere(line: str, expected: tuple[list[str], str]) -> None:
    assert split_line(line) == expected


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", ".local/share/bash-completion/completions/imgcat"),
        ("zsh", ".zfunc/_imgcat"),
        ("fish", ".config/fish/completions/imgcat.fish"),
    ],
)
def test_it_is_installed_where_the_shell_looks(program: Program, shell: str, place: str) -> None:
    program.environment = {
        key: value for key, value in program.environment.items() if not key.startswith("XDG_")
    } | {"SHELL": f"/usr/bin/{shell}"}
    # Where the program itself is, for what is completed by asking it.
    places = (os.path.dirname(sys.executable), program.environment["PATH"])
    program.environment["PATH"] = os.pathsep.join(places)
    script = program.run("completion", shell).stdout
    said = program.run("completion", "--install")
    assert said.stdout == f"{program.home}/{place}\n"
    assert (program.home / place).read_text() == script
    assert "new shells complete imgcat" in said.stderr
    # As each shell finds it for itself, where it is set up to.
    asks = {
        "bash": "source /usr/share/bash-completion/bash_completion 2>/dev/null ||"
        f" source {place}; type _comp_load __load_completion >/dev/null 2>&1 &&"
        " { __load_completion imgcat || _comp_load imgcat; } 2>/dev/null; complete -p imgcat",
        "zsh": "fpath+=~/.zfunc; autoload -Uz compinit; compinit -u; echo $_comps[imgcat]",
        "fish": "complete -C 'imgcat mount-'",
    }[shell]
    found = subprocess.run(
        [shell, "-c", asks], env=program.environment, cwd=program.home, capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    assert {"bash": "-F _imgcat imgcat", "zsh": "_imgcat", "fish": "mount-all"}[shell] in found
