"""Results as text: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import math
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from ..formats.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


def write_json(value: Any) -> None:  # noqa: ANN401 - any JSON
    """Write one JSON value, and nothing else, to standard output.

    File names that are not UTF-8 come as lone surrogates, as Python's `os.fsdecode` gives them.
    """
    json.dump(_finite(value), sys.stdout, indent=2, default=_json_default, allow_nan=False)
    sys.stdout.write("\n")


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
    aligned = []
    for number, name in enumerate(columns):
        texts = [printable(name), *(_cell(row[number]) for row in rows)]
        width = max(map(_width, texts))
        justify = str.rjust if name in right else str.ljust
        aligned.append([justify(text, width + len(text) - _width(text)) for text in texts])
    lines = ("  ".join(cells).rstrip() for cells in zip(*aligned, strict=True))
    sys.stdout.writelines(f"{line}\n" for line in lines)


def write_fields(fields: Mapping[str, object]) -> None:
    """Write ``name: value`` lines, values aligned."""
    width = max(map(len, fields), default=0) + 1
    for name, value in fields.items():
        sys.stdout.write(f"{name + ':':<{width}} {_cell(value)}\n")


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the value with infinities as texts, for JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return f"x'{value[:24].hex()}{'…' if len(value) > 24 else ''}'"  # noqa: PLR2004
    return printable(str(value))


def _width(text: str) -> int:
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
