"""What the tests of the formats share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.samples import Sample


@pytest.fixture(scope="session")
def samples_by_name(samples: list[Sample]) -> dict[str, Sample]:
    """Every real image, unpacked, by its name."""
    return {sample.name: sample for sample in samples}
