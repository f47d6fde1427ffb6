"""VHD, as the others know it."""

from __future__ import annotations

from ..format import Format
from ..index.kind import IndexKind
from . import layout, reader, verify

FORMAT = Format(
    name=reader.NAME,
    magic=layout.MAGIC,
    index_kinds=frozenset({IndexKind.FULL, IndexKind.MAP}),
    scan=reader.scan,
    fingerprint=reader.fingerprint,
    open_reader=reader.open_reader,
    verify=verify.verify,
    open_difference=reader.open_reader,
    scan_by_geometry=reader.scan_by_geometry,
    ends_like=reader.ends_like,
)
