"""The package as others get it: a wheel in an empty environment, run from anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import imgcat
import pytest

ROOT = Path(__file__).parent.parent


def packaged_files() -> set[str]:
    """Return every file of the source tree that the wheel must hold."""
    folders = ("catalog", "cli", "filesystems", "formats", "fusefs", "migrations", "nbd")
    found = {
        f"imgcat/{path.relative_to(ROOT)}"
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }
    found |= {f"imgcat/migrations/{path.name}" for path in (ROOT / "migrations").glob("*.sql")}
    return found | {
        "imgcat/__init__.py", "imgcat/__main__.py", "imgcat/py.typed",
        "imgcat/migrations/script.py.mako",
    }  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what is tracked, so that the tree stays as it is."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", out, source],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == packaged_files()
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_runs_from_any_directory(
    wheel: Path, tmp_path: Path, samples: list[object]
) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run(
        [environment / "bin" / "pip", "install", "--quiet", "--no-compile", wheel],
        check=True,
        capture_output=True,
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*arguments: object) -> str:
        return subprocess.run(
            [environment / "bin" / "imgcat", "--db", "c.db", *map(str, arguments)],
            cwd=elsewhere, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert run("--version") == f"imgcat {imgcat.__version__}\n"
    run("add", *(sample.path for sample in samples))  # type: ignore[attr-defined]
    assert run("sql", "SELECT images FROM totals").split() == ["images", "9"]
    module = subprocess.run(
        [environment / "bin" / "python", "-m", "imgcat", "--version"],
        cwd=elsewhere, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert module.stdout == f"imgcat {imgcat.__version__}\n"
