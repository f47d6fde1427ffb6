"""The files of checksums that lie beside the images of an image directory."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .exit_codes import DAMAGED, code_of, message_of
from .settings import complain, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..catalog.store import Catalog
    from ..formats.clonezilla.sums import SumResult


def check_sums(
    catalog: Catalog, image_ids: Sequence[int], *, silent: bool = False
) -> tuple[int, dict[str, SumResult]]:
    """Check the files in the image directories of images.

    Returns:
        The exit code that they call for, and what came of each file, by its path.
    """
    rows = (catalog.get(image_id).row for image_id in image_ids)
    paths = sorted({os.path.dirname(row.path) for row in rows if row.path is not None})
    worst = 0
    found: dict[str, SumResult] = {}
    for path in paths:
        worst = max(worst, _check_directory(path, found, silent=silent))
    return worst, found


def _check_directory(path: str, found: dict[str, SumResult], *, silent: bool) -> int:
    from ..formats.clonezilla.directory import is_image_directory, read_directory
    from ..formats.errors import FormatError

    if not is_image_directory(path):
        return 0
    try:
        names = read_directory(path).checksum_files
        if not names:
            complain(f"{path}: there are no checksum files in it")
        codes = (_check_file(path, name, found, silent=silent) for name in names)
        return max(codes, default=0)
    except (FormatError, OSError) as error:
        complain(f"{path}: {message_of(error)}")
        return code_of(error)


def _check_file(path: str, name: str, found: dict[str, SumResult], *, silent: bool) -> int:
    from ..formats.clonezilla import sums
    from ..formats.text import printable

    right = wrong = 0
    for result in sums.check_sums(path, name):
        place = os.path.join(path, result.name)
        before = found.get(place)
        if before is None or before.outcome is sums.SumOutcome.OK:
            # Of several checksums, one that is wrong is what counts.
            found[place] = result
        if result.outcome is sums.SumOutcome.OK:
            right += 1
            continue
        wrong += 1
        complain(f"{os.path.join(path, name)}: {result.name}: {result.outcome} {result.detail}")
    if not settings.quiet and not silent:
        sys.stdout.write(
            f"{'BAD' if wrong else 'ok':<9} {printable(os.path.join(path, name))}: "
            f"{right} right, {wrong} not\n"
        )
    return DAMAGED if wrong else 0
