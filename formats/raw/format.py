"""raw, as the others know it."""

from __future__ import annotations

from ..format import Format
from ..index.kind import IndexKind
from . import reader, verify

FORMAT = Format(
    name=reader.NAME,
    magic=b"",
    index_kinds=frozenset({IndexKind.FULL}),
    scan=reader.scan,
    fingerprint=reader.fingerprint,
    open_reader=reader.open_reader,
    verify=verify.verify,
)
