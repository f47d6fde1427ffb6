"""Results as text: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from ..formats.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_UNITS = "BKMGTPE"
_STEP = 1024


def human_size(size: int) -> str:
    """Return a size with a unit of 1024 steps, at most four digits: ``9.0M``, ``931G``."""
    value = float(size)
    unit = 0
    while value >= 999.5 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - rounds to 1000
        value /= _STEP
        unit += 1
    digits = 1 if unit and value < 99.95 else 0  # noqa: PLR2004 - rounds to 100
    return f"{value:.{digits}f}{_UNITS[unit]}"


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count} {what}{'s' * (count != 1)}"


def write_json(value: Any) -> None:  # noqa: ANN401 - any JSON
    """Write one JSON value, and nothing else, to standard output.

    File names that are not UTF-8 come as lone surrogates, as Python's `os.fsdecode` gives them.
    """
    json.dump(_finite(value), sys.stdout, indent=2, default=_json_default, allow_nan=False)
    sys.stdout.write("\n")


def write_json_rows(rows: Iterable[Any]) -> int:
    """Write one JSON array to standard output, each element as it comes; return how many."""
    count = 0
    for count, row in enumerate(rows, 1):
        sys.stdout.write("[\n  " if count == 1 else ",\n  ")
        json.dump(_finite(row), sys.stdout, default=_json_default, ensure_ascii=False)
    sys.stdout.write("\n]\n" if count else "[]\n")
    return count


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV with a heading."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_json_default(v) if isinstance(v, bytes) else v for v in row])


def write_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: frozenset[str] = frozenset()
) -> None:
    """Write rows as an aligned table; columns named in `right` are aligned to the right."""
    # Column by column: there may be many rows.
    # Two columns may be called the same.
    cells = [(name, [cell(row[number]) for row in rows]) for number, name in enumerate(columns)]
    write_columns(cells, right=right)


def write_columns(
    columns: Sequence[tuple[str, Sequence[str]]],
    *,
    right: frozenset[str] = frozenset(),
    widths: Mapping[str, int] | None = None,
    paint: Callable[[str, str], str] = lambda _column, text: text,
) -> None:
    """Write columns of texts, side by side.

    Args:
        columns: heading and texts of each.
        right: headings of columns that are aligned to the right.
        widths: the cells that columns may have; longer texts are shortened in the middle.
        paint: returns a text of a column with what colours it, once it is aligned.
    """
    aligned = []
    for name, texts in columns:
        shown = [printable(name), *texts]
        if widths is not None and name in widths:
            shown = [shorten(text, widths[name]) for text in shown]
        width = max(map(width_of, shown))
        justify = str.rjust if name in right else str.ljust
        cells = [justify(text, width + len(text) - width_of(text)) for text in shown]
        aligned.append([cells[0], *(paint(name, each) for each in cells[1:])])
    lines = ("  ".join(cells).rstrip() for cells in zip(*aligned, strict=True))
    sys.stdout.writelines(f"{line}\n" for line in lines)


def shorten(text: str, width: int) -> str:
    """Return a text that takes no more cells than `width`: what is too long loses its middle."""
    if width_of(text) <= width:
        return text
    tail = max(0, (width - 1) // 2)
    head = max(0, width - 1 - tail)
    return f"{_cut(text, head)}…{_cut(text[::-1], tail)[::-1]}"


def _cut(text: str, width: int) -> str:
    """Return as much of the beginning of a text as fits."""
    taken = 0
    for number, char in enumerate(text):
        taken += width_of(char)
        if taken > width:
            return text[:number]
    return text


def terminal_width() -> int | None:
    """Return the cells of a line of the terminal that is written to, None where it is none."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def has_colour() -> bool:
    """Tell whether colours are wanted: on a terminal that has them, and nobody has said no."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def write_fields(fields: Mapping[str, object]) -> None:
    """Write ``name: value`` lines, values aligned."""
    width = max(map(len, fields), default=0) + 1
    for name, value in fields.items():
        sys.stdout.write(f"{name + ':':<{width}} {cell(value)}\n")


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the value with infinities as texts, for JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value


def cell(value: object) -> str:
    """Return a value as a cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return f"x'{value[:24].hex()}{'…' if len(value) > 24 else ''}'"  # noqa: PLR2004
    return printable(str(value))


def width_of(text: str) -> int:
    """Return the cells of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def _json_default(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(type(value).__name__)
