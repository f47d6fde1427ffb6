"""Adding many copies of one image: each costs as much as the one before it."""

from __future__ import annotations

import itertools
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from imgcat.catalog.adding import batch
from imgcat.catalog.adding.put import Outcome
from imgcat.catalog.names import free_name
from support.attack_images import patchy

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from imgcat.catalog.store import Catalog

COUNT = 36


class _Costs:
    """Statements, steps of SQLite's machine and calls of stat, all of them."""

    def __init__(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements = self.steps = self.stats = 0
        connect = catalog.database._connect
        stat = os.stat

        def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(lambda _statement: self._add(statements=1))
            connection.set_progress_handler(lambda: self._add(steps=1), 1)
            return connection

        def counting_stat(*arguments: Any, **options: Any) -> os.stat_result:
            self._add(stats=1)
            return stat(*arguments, **options)

        catalog.database.close()
        monkeypatch.setattr(catalog.database, "_connect", counting)
        monkeypatch.setattr(os, "stat", counting_stat)

    def _add(self, statements: int = 0, steps: int = 0, stats: int = 0) -> int:
        self.statements += statements
        self.steps += steps
        self.stats += stats
        return 0

    def now(self) -> tuple[int, int, int]:
        return self.statements, self.steps, self.stats


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    image = patchy(1, 64).image
    paths = [tmp_path / f"copy{number:03}.img" for number in range(COUNT)]
    for path in paths:
        path.write_bytes(image)
    return paths


def test_each_copy_costs_the_same(
    catalog: Catalog, copies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = _Costs(catalog, monkeypatch)
    marks = []
    for result in batch.add_files(catalog, list(map(str, copies))):
        assert result.ingested is not None
        assert result.ingested.outcome is Outcome.ADDED
        marks.append(costs.now())
    each = [
        (after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(marks)
    ]
    # The first loads what the others find loaded; at the last, nothing follows to be looked up.
    assert len(set(each[1:-1])) == 1, each
    # The threads that scan are ahead of the one that writes: only all of them can be counted.
    # One of each question is of the catalog itself.
    assert costs.stats <= 11 * COUNT


def test_a_copy_that_was_moved_is_still_known(catalog: Catalog, copies: list[Path]) -> None:
    assert all(r.ingested for r in batch.add_files(catalog, list(map(str, copies[:6]))))
    ids = {row.path: row.id for row, _volumes in catalog.list_images()}
    for path in copies[1:3]:
        shutil.move(path, path.with_suffix(".moved"))
    paths = [*copies[6:8], copies[1].with_suffix(".moved"), copies[8]]
    paths += [copies[2].with_suffix(".moved"), copies[9]]
    outcomes = [
        result.ingested.outcome.value
        for result in batch.add_files(catalog, list(map(str, paths)))
        if result.ingested
    ]
    # The first two that come are taken for the two that are gone: their bytes are the same.
    assert outcomes == ["moved", "moved", "added", "added", "added", "added"]
    now = {row.path: row.id for row, _volumes in catalog.list_images()}
    assert [now[str(copies[6])], now[str(copies[7])]] == [
        ids[str(copies[1])], ids[str(copies[2])],
    ]  # fmt: skip


def test_the_meter_keeps_a_total() -> None:
    told: list[int] = []
    meter = batch._Meter(told.append)
    first, second = meter.of("a"), meter.of("b")
    assert first is not None
    assert second is not None
    first(10)
    second(5)
    first(30)
    second(5)
    assert told == [10, 15, 35, 35]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 1000])
def test_a_free_name_is_the_next_and_found_in_few_questions(count: int) -> None:
    taken = {"x", *(f"x ({number})" for number in range(2, count + 1))} if count else set()
    asked: list[str] = []

    def is_taken(name: str) -> bool:
        asked.append(name)
        return name in taken

    assert free_name("x", is_taken) == ("x" if not count else f"x ({count + 1})")
    assert len(asked) <= 2 * count.bit_length() + 2
