"""Print docs/modules.md: every module, with the first line of what it says of itself."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("cli", "fusefs", "nbd", "catalog", "filesystems", "formats", "migrations")

_BEGINNING = """\
# Every module, a line each

What each says of itself, as `python tools/module_tree.py > docs/modules.md` collects it.
[design.md](design.md) says which of them may know which.
"""


def tree() -> str:
    """Return the whole document."""
    lines = [_BEGINNING]
    for folder in FOLDERS:
        for package in sorted(path.parent for path in (ROOT / folder).rglob("__init__.py")):
            lines.append(f"## {package.relative_to(ROOT)}/\n\n{_first_line(package)}\n")
            modules = sorted(path for path in package.glob("*.py") if path.name != "__init__.py")
            lines += [f"- `{path.name}`: {_first_line(path)}" for path in modules]
            lines += [""] * bool(modules)
    return "\n".join(lines)


def _first_line(path: Path) -> str:
    source = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(source.read_text()))
    if not text:
        raise SystemExit(f"{source}: says nothing of itself")
    # The first paragraph, which may take two lines.
    return text.split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    print(tree(), end="")
