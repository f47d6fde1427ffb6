"""export: the partition's bytes, to a file, a block device or a pipe."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import ImageArgument, JsonOption
from .exit_codes import BROKEN_PIPE, BUSY, DAMAGED, naming
from .progress import byte_bar
from .settings import complain, notify, settings
from .signals import ending_on_signals
from .straight import catalog_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.opening.open import OpenImage
    from ..catalog.records import ImageRow
    from ..catalog.store import Catalog
    from ..formats.passes.export import Filling, Rescue
    from ..formats.progress import Progress
    from ..formats.stored.used_windows import Lost

_STDOUT = 1
_LARGEST_BYTE = 0xFF

_MOST_SHOWN = 20
"""Unreadable ranges that are printed where nothing was written; all are counted."""


def _parse_byte(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= _LARGEST_BYTE:
        raise typer.BadParameter(f"{text!r} is no byte: 0 to 255, or 0x00 to 0xff")
    return value


def export(
    image: ImageArgument,
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="A file, block device or fifo; - is standard output."),
    ],
    no_sparse: Annotated[
        bool, typer.Option("--no-sparse", help="Write zeros where the file could have holes.")
    ] = False,
    fill: Annotated[
        int | None,
        typer.Option(metavar="BYTE", parser=_parse_byte, help="Fill unused areas with this."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file; write over a block device.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="First check every checksum, and refuse what is bad.")
    ] = False,
    rescue: Annotated[
        bool,
        typer.Option("--rescue", help="Go on past what cannot be read: fill it, and list it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the bytes of the partition, every one in its place.

    A file has holes where the file system had free space, and appears under its name only when it
    is whole and on the disk. A block device is written in place, with zeros in its unused areas.

    Where guest bytes cannot be read, they are named, nothing is written, and the exit code is 5.
    With --rescue all else is written; in their place are zeros, or what --fill says. So is what
    came out of a damaged compressed file and no checksum vouches for: it is listed as distrusted.

    \b
    Examples:
      imgcat export sda1 sda1.raw
      imgcat export sda1 - | zstd > sda1.raw.zst
      imgcat export --verify --force sda1 /dev/sdb1
      imgcat export --fill 0xff sda1 sda1.raw
      imgcat export --rescue sda.disk sda.raw
    """
    from ..formats.passes.export import Filling

    if out == "-" and os.isatty(_STDOUT):
        raise typer.BadParameter("is a terminal: name a file, or write into a pipe", param_hint="-")
    if out == "-" and as_json:
        raise typer.BadParameter("standard output is for the image", param_hint="--json")
    told = _Told()
    code = 0
    try:
        _export(
            image, out, Filling(not no_sparse, fill or 0), told,
            force=force, verify=verify, rescue=rescue,
        )  # fmt: skip
    except typer.Exit as end:
        code = end.exit_code
    if as_json:
        from .render import write_json

        write_json(told.fields(out, code))
    elif told.is_written and out != "-" and not settings.quiet and os.path.isfile(out):
        sys.stdout.write(f"exported  {_printable(told.name)}: {_printable(out)}\n")
    _list_lost(told)
    code = code or (DAMAGED if told.lost or told.doubtful else 0)
    if code:
        raise typer.Exit(code)


@dataclasses.dataclass(slots=True)
class _Told:
    """What there is to tell of an export.

    Attributes:
        image_id: the image.
        name: its name.
        is_written: whether OUT is there, and whole but for what is lost.
        lost: what could not be read.
        doubtful: what may be wrong.
    """

    image_id: int | None = None
    name: str = ""
    is_written: bool = False
    lost: list[Lost] = dataclasses.field(default_factory=list)
    doubtful: list[Lost] = dataclasses.field(default_factory=list)

    def fields(self, out: str, code: int) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "id": self.image_id,
            "name": self.name,
            "out": out,
            "written": self.is_written,
            "unreadable": [each._asdict() for each in self.lost],
            "distrusted": [each._asdict() for each in self.doubtful],
            "exit_code": code or (DAMAGED if self.lost or self.doubtful else 0),
        }


def _export(
    image: str,
    out: str,
    filling: Filling,
    told: _Told,
    *,
    force: bool,
    verify: bool,
    rescue: bool,
) -> None:
    from ..catalog.opening.open import open_image

    with catalog_for([image], write=verify) as catalog:
        image_id = catalog.resolve(image)
        row = catalog.get(image_id).row
        told.image_id, told.name = image_id, row.name
        if verify:
            _verify(catalog, row)
        elif row.verify_result == "bad":
            name = shlex.quote(row.name)
            notify(f"{row.name}: the last verification found damage: `imgcat show {name}`")
        if row.content != "full":
            notify(f"{row.name}: only its {row.content} was saved; all else will be zeros")
        opened = open_image(catalog, image_id, at_any_cost=True, with_distrusted=rescue)
        lost: list[Lost] = []
        told.doubtful = _distrusted(catalog, opened) if rescue else []
        try:
            if not rescue and (opened.is_composed or row.status != "ready"):
                _refuse_unreadable(opened)
            with (
                _as_exit_codes(),
                naming(row.name),
                ending_on_signals(),
                byte_bar(row.size_bytes, row.name) as progress,
            ):
                tell = lost.append if rescue else None
                _check_target(catalog, opened, _STDOUT if out == "-" else out)
                _write(opened, out, filling, progress, force=force, rescue=tell)
        finally:
            opened.close()
    told.is_written, told.lost = True, lost


def _list_lost(told: _Told) -> None:
    """List what could not be read, and what may be wrong, of what was written all the same."""
    for each in told.doubtful:
        complain(f"{told.name}: bytes [{each.start}, {each.stop}) may be wrong: {each.reason}")
    if told.lost:
        _report_lost(told.name, told.lost)


def _distrusted(catalog: Catalog, every_byte: OpenImage) -> list[Lost]:
    """Return what of an image is written, though no checksum of a damaged stream vouches for it.

    Not asked of an image that is as it should be: nothing of it is damaged.
    """
    from ..catalog.opening.open import open_image
    from ..formats.stored.used_windows import distrusted_ranges

    image_id = every_byte.spec.image_id
    if catalog.get(image_id).row.status == "ready":
        return []
    strict = open_image(
        catalog, image_id, content_key=every_byte.spec.content_key, at_any_cost=True
    )
    try:
        return list(distrusted_ranges(strict.reader, every_byte.reader))
    finally:
        strict.close()


@contextlib.contextmanager
def _as_exit_codes() -> Iterator[None]:
    """End with the exit code for what can be wrong with a target."""
    from ..formats.files.new_file import TargetError
    from ..formats.passes.export import TargetBusyError

    try:
        yield
    except BrokenPipeError as error:
        # Whoever makes use of a partition must be able to tell that it was not all of it.
        raise typer.Exit(BROKEN_PIPE) from error
    except TargetBusyError as error:
        complain(str(error))
        raise typer.Exit(BUSY) from error
    except TargetError as error:
        raise typer.BadParameter(_printable(str(error)), param_hint="OUT") from None


def _refuse_unreadable(opened: OpenImage) -> None:
    """End with what cannot be read, before anything is written."""
    from ..formats.stored.used_windows import unreadable_ranges

    lost = list(unreadable_ranges(opened.reader))
    if lost:
        _report_lost(opened.spec.name, lost, _MOST_SHOWN)
        complain(f"{opened.spec.name}: nothing was exported: --rescue exports all else")
        raise typer.Exit(DAMAGED)


def _report_lost(name: str, lost: list[Lost], most: int | None = None) -> None:
    """List what cannot be read, neighbours joined; the first `most` of it, all if None."""
    from .inspect import unreadable_text

    joined: list[Lost] = []
    for each in sorted(lost):
        if joined and joined[-1].stop == each.start:
            joined[-1] = joined[-1]._replace(stop=each.stop)
        else:
            joined.append(each)
    for each in joined[:most]:
        complain(f"{name}: {unreadable_text(*each)}")
    if most is not None and len(joined) > most:
        complain(f"{name}: and {len(joined) - most} more")
    total = sum(each.stop - each.start for each in joined)
    places = "1 place" if len(joined) == 1 else f"{len(joined)} places"
    complain(f"{name}: {total} bytes in {places} cannot be read")


def _verify(catalog: Catalog, row: ImageRow) -> None:
    from ..catalog.upkeep.verify import VerifyRun, verify_image

    with byte_bar(row.stored_bytes, f"verifying {row.name}") as progress:
        report = verify_image(catalog, row.id, VerifyRun(progress))
    if not report.ok:
        complain(
            f"{row.name}: {report.detail}: nothing was exported; "
            f"`imgcat show {shlex.quote(row.name)}` lists it"
        )
        raise typer.Exit(DAMAGED)


def _check_target(catalog: Catalog, opened: OpenImage, target: str | int) -> None:
    """Refuse to write over the image itself, or over any other in the catalog."""
    from ..catalog.upkeep.targets import check_no_image
    from ..formats.passes.export import check_apart

    check_apart(target, opened.file_states())
    check_no_image(catalog, target)


def _write(
    opened: OpenImage,
    out: str,
    filling: Filling,
    progress: Progress | None,
    *,
    force: bool,
    rescue: Rescue | None,
) -> None:
    from ..catalog.opening.watched import WatchedReader
    from ..formats.passes import export as writing
    from ..formats.stored.used_windows import Lost, UnreadableRangeError

    reader = WatchedReader(opened)
    if out == "-":
        sys.stdout.flush()
        writing.export_stream(reader, _STDOUT, filling, rescue=rescue, progress=progress)
        return
    try:
        writing.export(reader, out, filling, force=force, rescue=rescue, progress=progress)
    except (UnreadableRangeError, KeyboardInterrupt, SystemExit) as error:
        is_device = writing.target_kind(out) is writing.TargetKind.DEVICE
        if is_device:
            complain(f"{out}: is only partly written")
        if not isinstance(error, UnreadableRangeError):
            raise
        _report_lost(opened.spec.name, [Lost(error.start, error.stop, error.reason)])
        if not is_device:
            complain(f"{opened.spec.name}: nothing was exported: --rescue exports all else")
        raise typer.Exit(DAMAGED) from error


def _printable(text: str) -> str:
    from ..formats.text import printable

    return printable(text)
