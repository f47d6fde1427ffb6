"""show: all that is known of an image."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from .arguments import ImageArgument, JsonOption
from .images import listed_fields
from .routes import mounted_path, routes
from .straight import catalog_for

if TYPE_CHECKING:
    from ..catalog.files.asking import Backup
    from ..catalog.records import (
        ImageCost,
        ImageRecord,
        InsideRows,
        PartitionRow,
        StreamCost,
        WorkerFailureRow,
    )
    from .routes import Route

    _Sections = dict[str, dict[str, object]]

_MOST_SHOWN = 20
"""Bad ranges that `show` prints; `show --json` and SQL give all."""


def show(image: ImageArgument, as_json: JsonOption = False) -> None:
    """Show all that is known of an image, and how to check and mount it.

    \b
    Examples:
      imgcat show sda1
      imgcat show --json 3
    """
    from ..catalog.files.asking import backup_of
    from ..catalog.opening.freshness import Observed, observed_status
    from ..catalog.upkeep.damage import worker_failures

    with catalog_for([image]) as catalog:
        record = catalog.get(catalog.resolve(image))
        cost = catalog.cost(record.row.id)
        inside = catalog.inside(record.row.id)
        failures = worker_failures(catalog, record.row.id)
        backup = backup_of(catalog, record.row.id)
        if record.segments:
            status = Observed(catalog.list_images(), catalog.parts()).status(record.row.id)
        else:
            status = observed_status(record.row, record.volumes)
        mounted = mounted_path(catalog, record.row.id, record.row.name)
        ways = routes(catalog, record, inside, status, mounted)
    if as_json:
        from .render import write_json

        fields = _shown_fields(record, cost, status) | _inside_fields(inside)
        fields["worker_failures"] = [each._asdict() for each in failures]
        fields["indexed"] = backup and _backup_fields(backup)
        write_json(fields | {"mounted": mounted, "routes": [way._asdict() for way in ways]})
    else:
        _write_record(record, cost, status, inside, failures, backup)
        _write_routes(ways)


def _shown_fields(record: ImageRecord, cost: ImageCost, status: str) -> dict[str, Any]:
    return listed_fields(record.row, status) | {
        "total_blocks": record.total_blocks,
        "used_blocks": record.used_blocks,
        "scan_seconds": record.scan_seconds,
        "warnings": list(record.warnings),
        "header": dict(record.header),
        "layout": dict(record.layout),
        "fingerprint": record.fingerprint.hex(),
        "volumes": [
            {name: getattr(volume, name) for name in volume.__dataclass_fields__}
            for volume in record.volumes
        ],
        "index": {
            "id": record.index_id,
            "kind": record.index_kind,
            "rows": cost.index_rows,
            "bytes": cost.index_bytes,
        },
        "streams": [
            {name: getattr(stream, name) for name in stream.__dataclass_fields__}
            for stream in cost.streams
        ],
        "segments": [
            segment._asdict() | {"stripes": segment.stripes and segment.stripes._asdict()}
            for segment in record.segments
        ],
        "bad_ranges": [
            {"start": bad.start, "stop": bad.stop, "detail": bad.detail}
            for bad in record.bad_ranges
        ],
    }


def _inside_fields(inside: InsideRows) -> dict[str, Any]:
    return {
        "file_system": inside.file_system and inside.file_system._asdict(),
        "partition_table": inside.table and inside.table._asdict(),
        "partitions": [partition._asdict() for partition in inside.partitions],
        "logical_volumes": [volume._asdict() for volume in inside.logical_volumes],
    }


def _write_record(
    record: ImageRecord,
    cost: ImageCost,
    status: str,
    inside: InsideRows,
    failures: list[WorkerFailureRow],
    backup: Backup | None,
) -> None:
    from .render import write_fields

    sections = _facts(record, cost, status) | _inside(inside) | _streams(cost)
    if backup is not None:
        sections["Files in the catalog"] = {
            words: value for words, value in _backup_fields(backup).items() if value is not None
        }
    sections |= _complaints(record) | _failures(failures)
    for title, fields in sections.items():
        if not fields:
            continue
        sys.stdout.write(f"{title}\n{'-' * len(title)}\n")
        write_fields({str(key): value for key, value in fields.items()})
        sys.stdout.write("\n")


def _backup_fields(backup: Backup) -> dict[str, object]:
    return {
        "files": backup.files,
        "taken_at": backup.taken_at,
        "taken_from": backup.taken_from,
        "problems": backup.problems,
        "caveat": backup.caveat,
    }


def _facts(record: ImageRecord, cost: ImageCost, status: str) -> _Sections:
    from ..formats.text import printable
    from .render import human_size

    row = record.row
    detail = f" ({row.status_detail})" if row.status_detail and status == row.status else ""
    return {
        printable(row.name): {
            "Id": row.id,
            "Status": status + detail,
            "Format": f"{row.format} {row.format_version}",
            "Content": row.content,
            "Size": f"{human_size(row.size_bytes)} = {row.size_bytes} bytes",
            "Space in use": f"{human_size(row.used_bytes)} = {record.used_blocks} blocks",
            "Stored": f"{human_size(row.stored_bytes)} in {row.volume_count} file(s)",
            "Compression": row.compression,
        },
        "Header": {key.replace("_", " "): value for key, value in record.header.items()},
        "Files": {str(number): volume.path for number, volume in enumerate(record.volumes)},
        "Made of": {
            f"[{segment.start}, {segment.stop})": segment.child_name or "as it was saved"
            for segment in record.segments
        },
        "Index": {
            "Kind": record.index_kind,
            "Rows": cost.index_rows,
            "In the catalog": human_size(cost.index_bytes),
            "Scanned": f"{row.scanned_at} in {record.scan_seconds:.3f} s",
        },
        "Verification": {
            "Checksum": row.checksum,
            "Sealed": row.sealed_at or "no",
            "Verified": row.verified_at or "never",
            "Result": row.verify_result,
            "Detail": row.verify_detail,
        },
    }


def _inside(inside: InsideRows) -> _Sections:
    """Return what is known of the file system, or of the partitions, and of logical volumes."""
    from ..formats.text import printable
    from .render import human_size

    sections: _Sections = {}
    found = inside.file_system
    if found is not None:
        size = found.size_bytes
        sections["File system"] = {
            "Type": found.type,
            "UUID": found.uuid,
            "Label": found.label,
            "Size": size and f"{human_size(size)} = {size} bytes",
            "Block size": found.block_size,
            "Features": " ".join(found.features) or None,
            "Journal": _JOURNALS.get(found.journal, found.journal),
            "Marked dirty": "yes" if found.is_dirty else "no",
            "Last written": found.written_at,
        }
    if inside.table is not None:
        words: dict[str, object] = {"Table": inside.table.words}
        words |= {
            f"{each.number}{' *' if each.is_bootable else ''}": _partition_words(each)
            for each in inside.partitions
        }
        sections["Partitions"] = words
    sections["Logical volumes"] = {
        f"{each.group}/{each.name}": (
            f"{human_size(each.size_bytes)}, {each.fs_type} -> {printable(each.image)}"
        )
        for each in inside.logical_volumes
    }
    return sections


def _partition_words(partition: PartitionRow) -> str:
    from ..formats.text import printable
    from .render import human_size

    size = human_size(partition.stop - partition.start)
    words = [f"[{partition.start}, {partition.stop}) {size}"]
    words.append(partition.type_name or partition.type)
    if partition.label:
        words[-1] += f" {printable(partition.label)!r}"
    if not partition.is_container:
        words.append(partition.fs_type or "unknown")
    text = ", ".join(words)
    return f"{text} -> {printable(partition.image)}" if partition.image else text


_JOURNALS = {
    "none": None,
    "clean": "clean",
    "replay": "to be replayed: it was not unmounted",
    "unknown": "unknown",
}


def _streams(cost: ImageCost) -> _Sections:
    several = len(cost.streams) > 1
    return {
        f"Compression of volume {number}" if several else "Compression": _stream_fields(stream)
        for number, stream in enumerate(cost.streams, 1)
    }


def _complaints(record: ImageRecord) -> _Sections:
    return {
        "Damage": {
            "structure" if bad.start is None else f"[{bad.start}, {bad.stop})": bad.detail
            for bad in record.bad_ranges[:_MOST_SHOWN]
        },
        "Warnings": {str(n): warning for n, warning in enumerate(record.warnings, 1)},
    }


def _failures(failures: list[WorkerFailureRow]) -> _Sections:
    """Return what became of the processes that read the files inside, the newest first."""
    from ..catalog.database.failures import MOST_KEPT

    if not failures:
        return {}
    count, last = len(failures), failures[0]
    times = f"{count} time{'s' * (count != 1)}{' at the least' * (count >= MOST_KEPT)}"
    told = f"failed {times}, last {last.failed_at}: {last.ending}"
    return {"Files inside": {f"reader of {last.fs_type}": f"{told} ({last.question})"}}


def _stream_fields(stream: StreamCost) -> dict[str, object]:
    from .render import human_size

    count = stream.point_count
    share = 100 * stream.catalog_bytes / max(1, stream.stored_bytes)
    return {
        "Codec": f"{stream.codec} (indexed by {stream.library})",
        "Plain": f"{human_size(stream.plain_bytes)} = {stream.plain_bytes} bytes",
        "Seek points": f"{count}, one every {human_size(stream.plain_bytes // max(1, count))}",
        "In the catalog": f"{human_size(stream.catalog_bytes)} ({share:.2f} % of what is stored)",
        "A cold read": f"decodes {human_size(stream.span_bytes)} at the most",
    }


def _write_routes(ways: list[Route]) -> None:
    """Write the commands that lead to the files, those first that anybody can use."""
    from ..formats.text import printable

    if not ways:
        return
    title = "To its files"
    sys.stdout.write(f"{title}\n{'-' * len(title)}\n")
    purposes = [f"{way.purpose}, as root" if way.root else way.purpose for way in ways]
    width = max(map(len, purposes))
    for purpose, way in zip(purposes, ways, strict=True):
        needs = f"   # first: {way.missing}" if way.missing else ""
        command = f"sudo {way.command}" if way.root and os.geteuid() else way.command
        sys.stdout.write(f"{purpose:<{width}}  {printable(command)}{needs}\n")
