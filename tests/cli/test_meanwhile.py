"""Commands and readers of an image that another process removes or scans anew meanwhile."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from typing import TYPE_CHECKING

import pytest
from imgcat.catalog.errors import ImageChangedError, ImageNotFoundError
from imgcat.catalog.opening.open import open_by_name
from imgcat.catalog.store import Catalog
from imgcat.catalog.upkeep.repack import repack
from imgcat.catalog.upkeep.verify import VerifyRun, verify_image
from support.ntfsclone_writer import Recipe, write
from support.shortcuts import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from support.ntfsclone_writer import Written
    from support.program import Program

CLUSTER = 512
COUNT = 60_000
"""Clusters: their index is loaded in four pieces, and their extents fill a pipe many times."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    """An image of which every second cluster is used."""
    written = write(Recipe(order=range(0, COUNT, 2), cluster_count=COUNT, cluster_size=CLUSTER))
    path = tmp_path_factory.mktemp("large") / "large.img"
    path.write_bytes(written.image)
    return path, written


@pytest.fixture
def image(program: Program, large: tuple[Path, Written]) -> tuple[Path, Written]:
    catalogue(program, large[0])
    return large


CHANGES = [["rm", "large"], ["add", "--force"]]


def _change(program: Program, change: list[str], path: Path) -> None:
    program.run(*change, *([path] if change[0] == "add" else []))


def _index_count(program: Program) -> int:
    with sqlite3.connect(f"file:{program.catalog}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM indexes").fetchone()
    connection.close()
    return int(count)


@pytest.mark.parametrize("change", CHANGES, ids=["removed", "scanned-anew"])
@pytest.mark.parametrize(
    "command",
    [
        ["export", "large", "-"],
        ["read", "large", "--offset", "0", "--length", str(COUNT * CLUSTER)],
        ["map", "--json", "large"],
    ],
    ids=["export", "read", "map"],
)
def test_what_was_begun_is_ended_as_it_was(
    program: Program, image: tuple[Path, Written], command: list[str], change: list[str]
) -> None:
    path, written = image
    expected = written.guest
    if command[0] == "map":
        expected = program.run("map", "--json", "large").stdout.encode()
    running = program.start(*command, bufsize=0)
    assert running.stdout is not None
    # It stands still as soon as the pipe is full.
    first = running.stdout.read(1)
    _change(program, change, path)
    rest, errors = running.communicate(timeout=120)
    assert (running.returncode, errors) == (0, b"")
    if command[0] == "read":
        expected = expected[: COUNT * CLUSTER]
    assert hashlib.sha256(first + rest).digest() == hashlib.sha256(expected).digest()
    # Nobody reads by the old index any more: the next change takes it away.
    program.run("add", path)
    program.run("rm", "large")
    assert _index_count(program) == 0


@pytest.mark.parametrize("change", CHANGES, ids=["removed", "scanned-anew"])
@pytest.mark.parametrize("verb", ["verify", "repack"])
def test_what_cannot_be_recorded_any_more_says_so(
    program: Program, image: tuple[Path, Written], tmp_path: Path, verb: str, change: list[str]
) -> None:
    path, _written = image
    told: list[int] = []

    def progress(done: int) -> None:
        if not told:
            _change(program, change, path)
        told.append(done)

    with Catalog.open(str(program.catalog)) as catalog:
        image_id = catalog.resolve("large")
        if verb == "repack":
            # The image itself was read to its end: the new file is whole.
            repack(catalog, image_id, str(tmp_path / "out.zst"), progress=progress)
            assert (tmp_path / "out.zst").exists()
            return
        with pytest.raises((ImageNotFoundError, ImageChangedError), match=r"meanwhile|anew"):
            verify_image(catalog, image_id, VerifyRun(progress))


def test_an_image_of_the_library_stays_readable_until_it_is_closed(
    program: Program, image: tuple[Path, Written]
) -> None:
    path, written = image
    with Catalog.open(str(program.catalog), write=False) as catalog:
        first, second = (open_by_name(catalog, "large") for _ in range(2))
        program.run("rm", "large")
        program.run("add", path)
        first.close()
        first.close()
        assert _index_count(program) == 2
        assert second.read(0, len(written.guest)) == written.guest
        second.close()
    program.run("add", "--force", path)
    assert _index_count(program) == 1


def test_what_is_gone_all_the_same_is_told_without_a_traceback(
    program: Program, image: tuple[Path, Written]
) -> None:
    """As by another program, or where no lock file can be made."""
    for command in (["export", "large", "-"], ["map", "large"]):
        running = program.start(*command, bufsize=0)
        assert running.stdout is not None
        running.stdout.read(1)
        with sqlite3.connect(program.catalog) as connection:
            connection.execute("DELETE FROM cluster_ranges WHERE first_cluster > 20000")
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute("UPDATE indexes SET content_key = content_key + 1")
        connection.close()
        _rest, errors = running.communicate(timeout=120)
        assert running.returncode == 5
        said = errors.decode().splitlines()
        assert len(said) == 1
        assert re.match(
            r"imgcat: large: index \d is gone: the image was removed or scanned", said[0]
        )
        program.run("add", "--force", image[0])
