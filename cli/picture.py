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
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from PIL.Image import Image

    from ..formats.extent import Extent

_KINDS = (ExtentKind.DATA, ExtentKind.COMPRESSED, ExtentKind.UNREADABLE)
_WIDTH, _HEIGHT = 256, 256
_ROWS = 4
"""Lines of the terminal that an image takes."""

_MARGIN, _CAPTION = 12, 34
_BACKGROUND = (255, 255, 255)
_UNUSED = (226, 230, 235)
_COLOURS = ((31, 99, 180), (38, 143, 92), (205, 42, 42))
_TEXT = (40, 40, 40)

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
    used = np.zeros((len(_KINDS), count))
    for extent in extents:
        if extent.kind is ExtentKind.ZERO:
            continue
        row = used[_KINDS.index(extent.kind)]
        first = extent.start * count // size
        last = (extent.stop - 1) * count // size
        if first == last:
            row[first] += extent.length
            continue
        row[first] += -(-(first + 1) * size // count) - extent.start
        row[last] += extent.stop - last * size / count
        row[first + 1 : last] += size / count
    width = size / count if size else 1
    return Cells(name, size, np.minimum(used / width, 1.0))


def cells_in_png() -> int:
    """Return how many cells an image has in a PNG."""
    return _WIDTH * _HEIGHT


def cells_in_terminal() -> int:
    """Return how many cells an image has in the terminal."""
    return shutil.get_terminal_size().columns * _ROWS


def draw_png(images: Sequence[Cells]) -> Image:
    """Return a picture of images side by side, each a square that is read line by line."""
    from PIL import Image, ImageDraw

    step = _WIDTH + _MARGIN
    picture = Image.new(
        "RGB", (_MARGIN + step * len(images), _HEIGHT + _CAPTION + _MARGIN), _BACKGROUND
    )
    draw = ImageDraw.Draw(picture)
    for number, image in enumerate(images):
        left = _MARGIN + number * step
        colours = _colours(image.shares).reshape(_HEIGHT, _WIDTH, 3)
        picture.paste(Image.fromarray(colours), (left, _CAPTION))
        # The font that comes with the library has no more than these.
        name = printable(image.name).encode("ascii", "replace").decode()
        draw.text((left, 4), name[:40], fill=_TEXT)
        draw.text((left, 18), caption(image).encode("ascii", "replace").decode(), fill=_TEXT)
    return picture


def caption(image: Cells) -> str:
    """Return what is written over an image: its size, and how much of it is used."""
    used = float(image.shares.sum(axis=0).clip(0, 1).mean()) if image.size else 0.0
    return f"{human_size(image.size)}, {100 * used:.1f} % used"


def write_in_terminal(images: Sequence[Cells]) -> None:
    """Write images one below the other, each in a few lines that are as long as the terminal."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    shades = _SHADES if encoding == "utf8" else _PLAIN_SHADES
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for image in images:
        sys.stdout.write(f"{printable(image.name)}: {caption(image)}\n")
        columns = image.shares.shape[1] // _ROWS
        for row in range(_ROWS):
            cells = image.shares[:, row * columns : (row + 1) * columns]
            sys.stdout.write(f"{_line(cells, shades, is_coloured=is_coloured)}\n")


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
