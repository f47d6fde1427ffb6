"""The time, as the catalog writes it."""

from __future__ import annotations

import datetime as dt


def utc_now() -> str:
    """Return the time now, UTC, ISO 8601 with seconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
