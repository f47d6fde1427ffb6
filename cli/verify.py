"""verify: every checksum that an image has."""

from __future__ import annotations

import datetime as dt
import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import JsonOption, parse_duration
from .completion import complete_images
from .exit_codes import DAMAGED, OF_ONE_IMAGE, code_of, message_of
from .progress import byte_bar
from .settings import complain, notify, open_catalog, settings

if TYPE_CHECKING:
    from typing import Any

    from ..catalog.store import Catalog
    from ..catalog.upkeep.verify import VerifyReport

_MOST_SHOWN = 20
"""Bad ranges of an image that are printed; all are recorded."""


def verify(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...", help="Names, ids, paths or globs.", autocompletion=complete_images
        ),
    ] = None,
    all_images: Annotated[bool, typer.Option("--all", help="Every image in the catalog.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, help="Threads; as many as processors by default."),
    ] = None,
    older_than: Annotated[
        int | None,
        typer.Option(
            metavar="TIME",
            parser=parse_duration,
            help="Only what was not verified for so long, e.g. 30d; the oldest first.",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            metavar="TIME",
            parser=parse_duration,
            help="Begin with no image any more after so long, e.g. 2h.",
        ),
    ] = None,
    sums: Annotated[
        bool,
        typer.Option("--sums", help="Also the MD5SUMS and the like beside them in directories."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every checksum of images, or their structure where there are none.

    Each result is recorded: `ls --json`, `show` and SQL tell it, with the guest bytes that are in
    doubt. The exit code is 5 where something is wrong.

    \b
    Examples:
      imgcat verify sda1
      imgcat verify --all
      imgcat verify --all --older-than 30d --budget 2h
      imgcat verify --sums 'laptop-2026/*'
      imgcat sql 'SELECT * FROM bad_ranges'
    """
    if bool(images) == all_images:
        raise typer.BadParameter("name images, or give --all", param_hint="IMAGE...")
    from .sums import check_sums

    reports: list[VerifyReport] = []
    worst = 0
    with open_catalog(write=True) as catalog:
        if images:
            chosen = catalog.resolve_many(images)
        else:
            chosen = [row.id for row, _volumes in catalog.list_images()]
        if sums:
            worst = max(worst, check_sums(catalog, chosen))
        # Those that are made of others last: by then their parts are done.
        composed = catalog.parts()
        chosen = _due(catalog, chosen, older_than)
        chosen.sort(key=composed.__contains__)
        done: dict[int, VerifyReport] = {}
        began = time.monotonic()
        left = 0
        for image_id in chosen:
            if budget is not None and time.monotonic() - began >= budget:
                left += 1
                continue
            code, report = verify_one(catalog, image_id, jobs=jobs, silent=as_json, done=done)
            worst = max(worst, code)
            reports += [report] if report else []
    if left:
        images_are = "image is" if left == 1 else "images are"
        notify(f"{left} {images_are} left for the next time: the budget is spent")
    if as_json:
        from .render import write_json

        write_json([report_fields(report) for report in reports])
    elif not chosen:
        notify("nothing is due")
    elif len(chosen) > 1 and not settings.quiet:
        bad = sum(not report.ok for report in reports)
        unread = len(chosen) - len(reports) - left
        sys.stdout.write(
            f"{len(chosen)} images: {len(reports) - bad} right, {bad} bad, {unread} not verified\n"
        )
    raise typer.Exit(worst)


def _due(catalog: Catalog, chosen: list[int], older_than: int | None) -> list[int]:
    """Return the images that were not verified for so many seconds, the oldest first."""
    if older_than is None:
        return chosen
    since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=older_than)
    limit = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    verified = {row.id: row.verified_at or "" for row, _volumes in catalog.list_images()}
    due = [image_id for image_id in chosen if verified.get(image_id, "") <= limit]
    return sorted(due, key=lambda image_id: verified.get(image_id, ""))


def verify_one(
    catalog: Catalog,
    image_id: int,
    *,
    jobs: int | None = None,
    silent: bool = False,
    done: dict[int, VerifyReport] | None = None,
) -> tuple[int, VerifyReport | None]:
    """Verify an image, print its result, and return the exit code that it calls for."""
    from ..catalog.upkeep.verify import verify_image

    name = f"image {image_id}"
    try:
        record = catalog.get(image_id)
        name = record.row.name
        total = sum(stream.plain_bytes for stream in record.streams) or record.row.stored_bytes
        with byte_bar(total, name) as progress:
            report = verify_image(catalog, image_id, progress=progress, jobs=jobs, done=done)
    except OF_ONE_IMAGE as error:
        complain(f"{name}: {message_of(error)}")
        return code_of(error), None
    return print_report(report, silent=silent), report


def print_report(report: VerifyReport, *, silent: bool = False) -> int:
    """Print the result of a verification, and return the exit code that it calls for."""
    from ..formats.text import printable

    if not silent and not settings.quiet:
        result = "ok" if report.ok else "BAD"
        sys.stdout.write(f"{result:<9} {printable(report.name)}: {report.detail}\n")
        sys.stdout.flush()
    if not silent:
        for bad in report.bad_ranges[:_MOST_SHOWN]:
            where = "structure" if bad.start is None else f"guest bytes [{bad.start}, {bad.stop})"
            complain(f"{report.name}: {where}: {bad.detail}")
        if report.bad_count > _MOST_SHOWN:
            more = report.bad_count - _MOST_SHOWN
            complain(
                f"{report.name}: and {more} more: `imgcat show --json {shlex.quote(report.name)}`"
            )
    return 0 if report.ok else DAMAGED


def report_fields(report: VerifyReport) -> dict[str, Any]:
    """Return what a verification has found, as JSON has it."""
    return {
        "id": report.image_id,
        "name": report.name,
        "result": "ok" if report.ok else "bad",
        "detail": report.detail,
        "bad_ranges": [
            {"start": bad.start, "stop": bad.stop, "detail": bad.detail}
            for bad in report.bad_ranges
        ],
    }
