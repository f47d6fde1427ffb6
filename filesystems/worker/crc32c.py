"""CRC-32C (Castagnoli), as Linux keeps it: not inverted at either end."""

from __future__ import annotations

import google_crc32c

_ALL = 0xFFFFFFFF


def crc32c(seed: int, data: bytes) -> int:
    """Return the remainder after `data`, from the one before it."""
    found: int = google_crc32c.extend(seed ^ _ALL, data)
    return found ^ _ALL
