"""Stripes of a segment, as JSON in its row. Loads nothing heavy."""

from __future__ import annotations

import json

from ...formats.composed.segments import Stripes
from ..errors import CatalogError


def pack_stripes(stripes: Stripes | None) -> str | None:
    """Return stripes in their stored form."""
    return None if stripes is None else json.dumps(stripes._asdict())


def unpack_stripes(stored: str | None) -> Stripes | None:
    """Return stripes from their stored form.

    Raises:
        CatalogError: they are damaged.
    """
    if stored is None:
        return None
    try:
        fields = json.loads(stored)
        size, offsets = fields["size"], tuple(fields["offsets"])
    except (ValueError, TypeError, KeyError) as error:
        raise CatalogError(f"stripes are damaged: {error}: add the image again") from error
    are_numbers = all(isinstance(each, int) and each >= 0 for each in (size, *offsets))
    if not are_numbers or size == 0 or not offsets:
        raise CatalogError(f"stripes are damaged: {stored:.80}: add the image again")
    return Stripes(size, offsets)
