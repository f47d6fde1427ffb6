"""What came of adding an image, or of looking at it again."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..records import ImageRecord


class Outcome(enum.Enum):
    """What came of an `add` or a `rescan`."""

    ADDED = "added"
    UPDATED = "updated"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    MISSING = "missing"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Ingested:
    """The result for one image.

    Attributes:
        outcome: what came of it.
        record: the image as the catalog has it now.
        is_right: its checksums were looked at while it was scanned, and nothing is wrong.
    """

    outcome: Outcome
    record: ImageRecord
    is_right: bool = False
