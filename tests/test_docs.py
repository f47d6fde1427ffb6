"""The documentation says what is so."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest
from imgcat.cli import exit_codes
from imgcat.cli.main import make_app
from support.months import write_months

if TYPE_CHECKING:
    from support.program import Program
    from support.samples import Sample

ROOT = Path(__file__).parent.parent
DESIGN = (ROOT / "docs" / "design.md").read_text()
SQL = (ROOT / "docs" / "sql.md").read_text()
USAGE = (ROOT / "docs" / "usage.md").read_text()


def test_every_query_of_the_documentation_answers(
    program: Program, samples: list[Sample], tmp_path: Path
) -> None:
    write_months(tmp_path / "months", tmp_path)
    program.run("add", *(sample.path for sample in samples))
    program.run("add", "--index", tmp_path / "may.img", tmp_path / "june.img")
    queries = re.findall(r"```sql\n(.*?)```", SQL, re.DOTALL)
    assert len(queries) >= 10
    empty = [query for query in queries if not program.sql(query)]
    # Nothing wants attention or is damaged, no reader failed, no image is there twice, none is
    # ntfsclone's, compressed or made of others, no journal is to be replayed, and there is no
    # image directory.
    assert [re.search(r"FROM (\w+)", query)[1] for query in empty] == [  # type: ignore[index]
        "attention", "images", "bad_ranges", "worker_failures", "images", "images", "images",
        "image_directories", "image_directories", "file_systems", "images",
    ]  # fmt: skip


def test_every_table_view_and_column_is_documented(program: Program, samples: list[Sample]) -> None:
    program.run("add", samples[0].path)
    rows = program.sql(
        "SELECT t.name AS t, c.name AS c FROM sqlite_schema AS t, pragma_table_info(t.name) AS c "
        "WHERE t.type IN ('table', 'view') AND t.name NOT LIKE 'sqlite_%'"
        # What an index of words makes for itself, SQLite's own pages describe.
        " AND t.name NOT GLOB 'file_name_trigrams_*'"
    )
    missing = {
        f"{row['t']}.{row['c']}"
        for row in rows
        if not re.search(rf"\b{row['t']}\b", SQL) or not re.search(rf"\b{row['c']}\b", SQL)
    }
    assert missing == {"alembic_version.version_num"}


def test_every_command_and_exit_code_is_documented() -> None:
    app = make_app()
    for command in app.registered_commands:
        assert re.search(rf"`{command.name}[ `]", USAGE), command.name
    codes = {
        value
        for name, value in vars(exit_codes).items()
        if name.isupper() and isinstance(value, int)
    }
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", USAGE, re.MULTILINE)} == codes


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_page_for_users_of_the_peer_names_everything_that_it_has() -> None:
    page = (ROOT / "docs" / "from-imagebackup.md").read_text()
    names = (ROOT / "tests" / "fixtures" / "imagebackup-0.2.2-names.txt").read_text().split()
    assert len(names) > 100
    assert [name for name in names if not re.search(rf"\b{name}\b", page)] == []


def test_what_the_page_for_users_of_the_peer_leads_to_is_there() -> None:
    page = (ROOT / "docs" / "from-imagebackup.md").read_text()
    found = set(re.findall(r"`(imgcat(?:\.\w+)+)", page))
    assert len(found) > 15
    for path in found:
        assert _exists(path), path


def _exists(path: str) -> bool:
    module, _, attribute = path.rpartition(".")
    try:
        importlib.import_module(path)
    except ImportError:
        return _exists_in(module, attribute)
    return True


def _exists_in(module: str, attribute: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ImportError:
        # One more step: a method of a class.
        outer, _, kind = module.rpartition(".")
        return hasattr(getattr(importlib.import_module(outer), kind), attribute)


def _wing_of(module: str) -> tuple[str, str] | None:
    """Return the folder and the wing that a module of formats or catalog is in."""
    _imgcat, *names = module.split(".")
    return (names[0], names[1]) if names[0] in {"formats", "catalog"} and names[1:] else None


def test_the_table_of_the_wings_is_what_they_import() -> None:
    graph = grimp.build_graph("imgcat")
    imported: dict[tuple[str, str], set[str]] = {}
    for module in graph.modules - {"imgcat"}:
        wing = _wing_of(module)
        if wing is not None:
            others = map(_wing_of, graph.find_modules_directly_imported_by(module) - {"imgcat"})
            imported.setdefault(wing, set()).update(
                other[1] for other in others if other and other != wing and other[0] == wing[0]
            )
    small = re.search(r"\nground: (.*?)\.\n\n", DESIGN, re.DOTALL)
    assert small is not None
    on_the_ground = {
        (folder, name)
        for names, folder in re.findall(r"((?:`\w+`(?:, | and )?)+)\s+of\s+`(\w+)`", small[1])
        for name in re.findall(r"`(\w+)`", names)
    }
    assert len(on_the_ground) == 9
    told = {
        (folder, wing): set(re.findall(r"`(\w+)`", cell))
        for folder, wing, cell in re.findall(
            r"^\| `(formats|catalog)/(\w+)` \|[^|]*\|([^|]*)\|$", DESIGN, re.MULTILINE
        )
    }
    assert set(told) == set(imported) - on_the_ground
    for wing, names in told.items():
        ground = {name for folder, name in on_the_ground if folder == wing[0]}
        assert names == imported[wing] - ground, wing
    # From the top floor to the ground: none imports a wing that stands above it.
    rows = list(told)
    for place, (folder, _name) in enumerate(rows):
        above = {name for other, name in rows[:place] if other == folder}
        assert not told[rows[place]] & above, rows[place]


def test_the_tree_of_modules_is_what_they_say_of_themselves() -> None:
    said = subprocess.run(
        [sys.executable, ROOT / "tools" / "module_tree.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == (ROOT / "docs" / "modules.md").read_text()


def test_every_test_that_security_names_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 15
    for path, name in named:
        assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
    promises = [line for line in text.splitlines() if line.startswith("| ")]
    for line in promises:
        assert line.startswith("| promise |") or "::test_" in line, line
