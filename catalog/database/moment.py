"""The time, as the catalog writes it."""

from __future__ import annotations

import datetime as dt


def utc_now() -> str:
    """Return the time now, UTC, ISO 8601 with seconds."""
    return utc(dt.datetime.now(dt.UTC).timestamp())


def utc(seconds: float) -> str:
    """Return seconds since 1970 in the same way."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
