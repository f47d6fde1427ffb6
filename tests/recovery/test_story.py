"""The whole story: a snapshot, files that are deleted, blocks that are used again, and all back."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.deleting import KINDS, Kind, Story
from support.volumes import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from support.program import Program

_KEPT = 10
"""At the least one file of so many is as it was: those that are not deleted, but for a few."""

pytestmark = [pytest.mark.fuse, pytest.mark.loop]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_comes_back_is_what_it_was_or_said_not_to_be(
    program: Program, tmp_path: Path, kind: Kind
) -> None:
    tell_story(program, tmp_path, kind, 2000 if kind.name == "ext4-1k" else 600, 1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 8))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_many_stories(program: Program, tmp_path: Path, kind: Kind, seed: int) -> None:
    tell_story(program, tmp_path, kind, 2000, seed)


def tell_story(program: Program, place: Path, kind: Kind, count: int, seed: int) -> None:
    story = Story(kind, place, count, seed)
    story.fill()
    if kind.name == "ext4-1k":
        assert " 2/ 2" in quiet("debugfs", "-R", "ex /odd/deep", story.raw)
    kept = program.run("snapshot", story.raw, "--hash", "--name", "s")
    assert "clean" in kept.stdout, kept.stdout
    everything = place / "everything"
    told = program.run("recover", "-r", "s", "--from", story.raw, "-o", everything)
    assert {line.split()[0] for line in told.stdout.splitlines()} == {"verified"}
    for path, data in story.files.items():
        assert (everything / path).read_bytes() == data, path
    shutil.rmtree(everything)
    story.ruin()
    before = subprocess.run(["sha256sum", story.raw], capture_output=True, check=True).stdout
    outcomes = _json(program, "recover", "-r", "s", "--from", story.raw, "-o", place / "out")
    after = subprocess.run(["sha256sum", story.raw], capture_output=True, check=True).stdout
    assert before == after, "the source was written"
    verdicts = story.check(outcomes["files"])
    print(kind.name, verdicts)
    assert verdicts["verified"] > count // _KEPT
    assert set(verdicts) & {"partial", "reallocated"}, verdicts


def _json(program: Program, *arguments: object) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(
        program.run(*arguments, "--json", code=5).stdout
    )
    return found
