"""verify: every checksum that an image has."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import JsonOption, parse_duration
from .completion import complete_images
from .exit_codes import DAMAGED, OF_ONE_IMAGE, code_of, message_of
from .progress import ShelfBar, above_bars
from .render import human_size
from .settings import complain, notify, open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from ..catalog.store import Catalog
    from ..catalog.upkeep.verify import VerifyReport, VerifyRun

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
            help="End after so long, e.g. 2h; the next one goes on from there.",
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
    doubt. The exit code is 5 where something is wrong. Where the catalog cannot be written, results
    are only told.

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
    from ..catalog.upkeep.verify import VerifyRun
    from .sums import check_sums

    worst = 0
    began = time.monotonic()
    with _catalog() as catalog:
        if images:
            chosen = catalog.resolve_many(images)
        else:
            chosen = [row.id for row, _volumes in catalog.list_images()]
        composed = catalog.parts()
        chosen = _due(catalog, chosen, older_than)
        # Those that are made of others last: by then their parts are done.
        chosen.sort(key=composed.__contains__)
        run = VerifyRun(jobs=jobs)
        if budget is not None:
            run = dataclasses.replace(run, until=lambda: time.monotonic() - began >= budget)
        if sums:
            worst, results = check_sums(catalog, chosen, silent=as_json)
            run = dataclasses.replace(run, sums=results)
        verifying = Verifying(catalog, run, silent=as_json)
        with ShelfBar(_bytes_of(catalog, chosen, composed), "verifying") as bar:
            for image_id in chosen:
                worst = max(worst, verifying.one(image_id, bar))
    if verifying.left:
        images_are = "image is" if verifying.left == 1 else "images are"
        notify(f"{verifying.left} {images_are} left for the next time: the budget is spent")
    if as_json:
        from .render import write_json

        write_json(verifying.told)
    elif not chosen:
        notify("nothing is due")
    elif len(chosen) > 1 and not settings.quiet:
        sys.stdout.write(f"{len(chosen)} images: {verifying.summary()}\n")
    raise typer.Exit(worst)


@contextlib.contextmanager
def _catalog() -> Iterator[Catalog]:
    """Give the catalog that the options name; one that cannot be written, to read only."""
    from ..catalog.store import default_path

    path = settings.db or default_path()
    can_write = not os.path.exists(path) or (
        os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK)
    )
    if not can_write:
        notify(f"{path}: cannot be written: results are not recorded")
    with open_catalog(write=can_write) as catalog:
        yield catalog


def _bytes_of(
    catalog: Catalog, chosen: list[int], composed: Mapping[int, tuple[int | None, ...]]
) -> int:
    """Return the bytes that verifying images goes through, each file counted once."""
    needed = set(chosen).union(
        part for each in chosen for part in composed.get(each, ()) if part is not None
    )
    return sum(_weight(catalog, image_id) for image_id in needed)


def _weight(catalog: Catalog, image_id: int) -> int:
    """Return the bytes that verifying an image goes through, without those of its parts."""
    try:
        record = catalog.get(image_id)
    except OF_ONE_IMAGE:
        # Verifying it says what is wrong.
        return 0
    return sum(stream.plain_bytes for stream in record.streams) or record.row.stored_bytes


class Verifying:
    """Verifies one image after the other, and tells of each.

    Args:
        catalog: where they are.
        run: how.
        silent: print no results; `told` has them.

    Attributes:
        told: what came of each, as JSON has it.
        left: images that were not begun with, or not finished, for time was up.
    """

    def __init__(self, catalog: Catalog, run: VerifyRun, *, silent: bool = False) -> None:
        self.told: list[dict[str, Any]] = []
        self.left = 0
        self._catalog = catalog
        self._run = run
        self._silent = silent

    def one(self, image_id: int, bar: ShelfBar) -> int:
        """Verify an image, tell what was found, and return the exit code that it calls for."""
        from ..catalog.upkeep.stages import VerifyStoppedError
        from ..catalog.upkeep.verify import verify_image

        until = self._run.until
        if until is not None and until():
            self.left += 1
            return 0
        name = f"image {image_id}"
        try:
            record = self._catalog.get(image_id)
            name = record.row.name
            progress = bar.of(name, _weight(self._catalog, image_id))
            if settings.verbose and not self._silent:
                notify(f"{name}: verifying {human_size(record.row.stored_bytes)} of files")
            run = dataclasses.replace(self._run, progress=progress)
            report = verify_image(self._catalog, image_id, run)
        except VerifyStoppedError as stopped:
            self.left += 1
            notify(str(stopped))
            return 0
        except OF_ONE_IMAGE as error:
            complain(f"{name}: {message_of(error)}")
            self.told.append(not_verified(image_id, name, message_of(error)))
            return code_of(error)
        self.told.append(report_fields(report))
        with above_bars():
            return print_report(report, silent=self._silent)

    def summary(self) -> str:
        """Return how many are right, and how many are not."""
        results = [each["result"] for each in self.told]
        parts = [
            f"{results.count('ok')} right",
            f"{results.count('bad')} bad",
            f"{results.count('not verified')} not verified",
        ]
        if self.left:
            parts.append(f"{self.left} left")
        return ", ".join(parts)


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
    catalog: Catalog, image_id: int, *, silent: bool = False
) -> tuple[int, dict[str, Any] | None]:
    """Verify one image; return the exit code that it calls for, and what was found as JSON."""
    from ..catalog.upkeep.verify import VerifyRun

    verifying = Verifying(catalog, VerifyRun(), silent=silent)
    with ShelfBar(_weight(catalog, image_id), "verifying") as bar:
        code = verifying.one(image_id, bar)
    return code, next(iter(verifying.told), None)


def not_verified(image_id: int, name: str, reason: str) -> dict[str, Any]:
    """Return what there is to tell of an image that could not be verified, as JSON has it."""
    return {
        "id": image_id, "name": name, "result": "not verified", "detail": reason, "bad_ranges": [],
    }  # fmt: skip


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
