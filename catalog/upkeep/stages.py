"""Verifications that were ended in their middle: kept, and gone on with if nothing has changed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from ..database.moment import utc_now
from ..records import BadRange

if TYPE_CHECKING:
    from ..records import OpenSpec
    from ..store import Catalog

_LOAD = """
    SELECT index_id, files, reached, bad_count, found, done_blocks, hashes
    FROM verify_stages WHERE image_id = ?
"""
_SAVE = """
    INSERT OR REPLACE INTO verify_stages
        (image_id, index_id, files, reached, bad_count, found, done_blocks, hashes,
         stopped_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LARGEST = 1 << 30
"""Bytes of hashes that are unpacked: those of 16 TiB."""


class VerifyStoppedError(Exception):
    """A verification was ended in its middle, and what it has found so far is kept.

    Attributes:
        name: of the image.
        reached: the position that it has got to, as its format counts.
    """

    def __init__(self, name: str, reached: int) -> None:
        super().__init__(f"{name}: is verified in part; the next time goes on from there")
        self.name = name
        self.reached = reached


class KeptStage(NamedTuple):
    """What was found before a verification was ended.

    Attributes:
        reached: the position that it had got to, as its format counts.
        bad_count: bad places so far.
        found: the first of them.
        done: which blocks have been hashed, as `SealingSource.so_far` has it; None where none are.
        hashes: of all pages, as there.
    """

    reached: int
    bad_count: int
    found: tuple[BadRange, ...]
    done: bytes | None
    hashes: bytes | None


def load(catalog: Catalog, spec: OpenSpec) -> KeptStage | None:
    """Return the stage that is kept of an image, if index and files are what they were then."""
    with catalog.database.asking() as connection:
        row = connection.execute(_LOAD, (spec.image_id,)).fetchone()
    if row is None or row[0] != spec.index_id or row[1] != _files(spec):
        return None
    _index, _files_then, reached, bad_count, found, done, hashes = row
    if hashes is not None:
        try:
            hashes = zstandard.ZstdDecompressor().decompress(hashes, max_output_size=_LARGEST)
        except zstandard.ZstdError:
            # Then all of it is looked at again.
            return None
    ranges = tuple(BadRange(*each) for each in json.loads(found))
    return KeptStage(reached, bad_count, ranges, done, hashes)


def save(catalog: Catalog, spec: OpenSpec, stage: KeptStage) -> None:
    """Keep a stage, in the place of another of the same image.

    Raises:
        CatalogError: the catalog could not be written.
    """
    from ..database.transaction import driver_connection

    hashes = stage.hashes
    if hashes is not None:
        hashes = zstandard.ZstdCompressor(level=1).compress(hashes)
    found = json.dumps([(each.start, each.stop, each.detail) for each in stage.found])
    values = (spec.image_id, spec.index_id, _files(spec), stage.reached)
    more = (stage.bad_count, found, stage.done, hashes, utc_now())
    with catalog.database.writing() as connection:
        driver_connection(connection).execute(_SAVE, (*values, *more))


def _files(spec: OpenSpec) -> str:
    """Return what tells an image's files from others, as they are now."""
    facts = []
    for volume in spec.volumes:
        status = os.stat(volume.path)
        facts.append((volume.path, status.st_size, status.st_mtime_ns, status.st_ino))
    return json.dumps(facts)
