"""Where the used bytes of images lie, as a picture: in a PNG file, or in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..formats.extent import ExtentKind
from ..formats.text import printable
from .render import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from PIL.Image import Image

    from ..formats.extent import Extent

_KINDS = (ExtentKind.DATA, ExtentKind.COMPRESSED, ExtentKind.UNREADABLE)
_WIDTH, _HEIGHT = 256, 256
_ROWS = 4
"""Lines of the terminal that an image takes."""

_PER_LINE = 8
"""Images that a PNG has side by side; more of them go below."""

_MARGIN, _CAPTION = 12, 34
_SWATCH, _LEGEND_LINE, _LEGEND_COLUMN = 10, 16, 128
_BACKGROUND = (255, 255, 255)
_UNUSED = (226, 230, 235)
_COLOURS = ((31, 99, 180), (38, 143, 92), (205, 42, 42))
_TEXT = (40, 40, 40)
_LEGEND = ("unused", "stored", "stored compressed", "cannot be read")

_SHADES, _PLAIN_SHADES = "·░▒▓█", ".-+*#"
_ANSI = {0: "\x1b[34m", 1: "\x1b[32m", 2: "\x1b[31m"}
_RESET = "\x1b[0m"


class Cells(NamedTuple):
    """An image, cut into cells of equal size.

    Attributes:
        name: the image's.
        size: its bytes.
        shares: for each cell, the share of its bytes that are stored plain, are stored compressed,
            and cannot be read; shape (3, cells), each from 0 to 1.
    """

    name: str
    size: int
    shares: npt.NDArray[np.float64]


def cells_of(name: str, size: int, extents: Iterable[Extent], count: int) -> Cells:
    """Return an image as `count` cells, whatever its size; takes memory for the cells alone.

    Args:
        name: the image's.
        size: its bytes.
        extents: those that cover it.
        count: how many cells.
    """
    shares = np.zeros((len(_KINDS), count))
    for extent in extents:
        if extent.kind is ExtentKind.ZERO:
            continue
        row = shares[_KINDS.index(extent.kind)]
        # Whole numbers: a byte is `count` of what a cell has `size` of.
        start, stop = extent.start * count, extent.stop * count
        first, last = start // size, (stop - 1) // size
        if first == last:
            row[first] += (stop - start) / size
            continue
        row[first] += ((first + 1) * size - start) / size
        row[first + 1 : last] = 1.0
        row[last] += (stop - last * size) / size
    return Cells(name, size, np.minimum(shares, 1.0))


def cells_in_png() -> int:
    """Return how many cells an image has in a PNG."""
    return _WIDTH * _HEIGHT


def cells_in_terminal() -> int:
    """Return how many cells an image has in the terminal."""
    return shutil.get_terminal_size().columns * _ROWS


class Sheet:
    """A picture of images side by side, each a square that is read line by line.

    Args:
        most: how many images there will be, at the most.
    """

    def __init__(self, most: int) -> None:
        from PIL import Image, ImageDraw

        self._count = 0
        self._picture = Image.new("RGB", _size_of(most), _BACKGROUND)
        self._draw = ImageDraw.Draw(self._picture)

    def add(self, image: Cells) -> None:
        """Draw one more image, of `cells_in_png` cells."""
        from PIL import Image

        line, column = divmod(self._count, _PER_LINE)
        left = _MARGIN + column * (_WIDTH + _MARGIN)
        top = line * (_CAPTION + _HEIGHT + _MARGIN)
        self._count += 1
        # The font that comes with the library has no more than these.
        name = printable(image.name).encode("ascii", "replace").decode()
        self._draw.text((left, top + 4), self._cut(name), fill=_TEXT)
        self._draw.text((left, top + 18), self._cut(caption(image)), fill=_TEXT)
        pixels = _colours(image.shares).reshape(_HEIGHT, _WIDTH, 3)
        self._picture.paste(Image.fromarray(pixels), (left, top + _CAPTION))

    def finished(self) -> Image | None:
        """Return the picture of what was drawn, and what its colours mean; None of nothing."""
        from PIL import ImageDraw

        if not self._count:
            return None
        picture = self._picture.crop((0, 0, *_size_of(self._count)))
        draw = ImageDraw.Draw(picture)
        top = picture.height - 2 * _LEGEND_LINE - _MARGIN // 2
        for number, (word, colour) in enumerate(zip(_LEGEND, (_UNUSED, *_COLOURS), strict=True)):
            line, column = divmod(number, 2)
            left, at = _MARGIN + column * _LEGEND_COLUMN, top + line * _LEGEND_LINE
            draw.rectangle((left, at, left + _SWATCH, at + _SWATCH), fill=colour)
            draw.text((left + _SWATCH + 6, at - 1), word, fill=_TEXT)
        return picture

    def _cut(self, text: str) -> str:
        """Return a text that is no wider than an image."""
        if self._draw.textlength(text) <= _WIDTH:
            return text
        text = text[:_WIDTH]
        while text and self._draw.textlength(f"{text}...") > _WIDTH:
            text = text[:-1]
        return f"{text}..."


def _size_of(count: int) -> tuple[int, int]:
    """Return width and height of a picture of so many images."""
    lines = -(-count // _PER_LINE)
    width = _MARGIN + min(count, _PER_LINE) * (_WIDTH + _MARGIN)
    height = lines * (_CAPTION + _HEIGHT + _MARGIN)
    return width, height + 2 * _LEGEND_LINE + _MARGIN // 2


def caption(image: Cells) -> str:
    """Return what is written over an image: its size, and how much of it is used."""
    used = float(image.shares.sum(axis=0).clip(0, 1).mean()) if image.size else 0.0
    return f"{human_size(image.size)}, {100 * used:.1f} % used"


def write_in_terminal(image: Cells) -> None:
    """Write an image of `cells_in_terminal` cells in a few lines as long as the terminal."""
    shades, is_coloured = _shades(), _is_coloured()
    columns = image.shares.shape[1] // _ROWS
    title = f"{printable(image.name)}: {caption(image)}"
    if len(title) > columns:
        # The size is at the end.
        title = f"...{title[3 - columns :]}" if columns > 3 else title[:columns]  # noqa: PLR2004
    sys.stdout.write(f"{title}\n")
    for row in range(_ROWS):
        cells = image.shares[:, row * columns : (row + 1) * columns]
        sys.stdout.write(f"{_line(cells, shades, is_coloured=is_coloured)}\n")


def write_legend() -> None:
    """Write what letters and colours in the terminal mean."""
    shades = _shades()
    parts = [f"{shades[0]} unused", f"{shades[1:]} stored, part of it to all", "! cannot be read"]
    if _is_coloured():
        words = zip(("stored", "compressed", "cannot be read"), _ANSI.values(), strict=True)
        parts += [f"{colour}{word}{_RESET}" for word, colour in words]
    sys.stdout.write(f"{', '.join(parts)}\n")


def _shades() -> str:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return _SHADES if encoding == "utf8" else _PLAIN_SHADES


def _is_coloured() -> bool:
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not is_plain


def _line(shares: npt.NDArray[np.float64], shades: str, *, is_coloured: bool) -> str:
    text, colour = "", None
    for cell in shares.T:
        total = min(1.0, float(cell.sum()))
        shade = 0 if not total else 1 + min(len(shades) - 2, int(total * (len(shades) - 1)))
        kind = 2 if cell[2] else int(cell[1] > cell[0]) if total else None
        letter = "!" if cell[2] else shades[shade]
        if is_coloured and kind != colour:
            text += _RESET if kind is None else _ANSI[kind]
            colour = kind
        text += letter
    return text + (_RESET if colour is not None else "")


def _colours(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return the colour of each cell: what cannot be read is seen, however little it is."""
    unused = 1 - shares.sum(axis=0).clip(0, 1)
    mixed = unused[:, None] * np.array(_UNUSED)
    for row, colour in zip(shares, _COLOURS, strict=True):
        mixed = mixed + row[:, None] * np.array(colour)
    mixed[shares[2] > 0] = _COLOURS[2]
    pixels: npt.NDArray[np.uint8] = mixed.clip(0, 255).astype(np.uint8)
    return pixels
