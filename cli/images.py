"""add, ls, rm, rename, rescan: the images of the catalog."""

from __future__ import annotations

import enum
import fnmatch
import itertools
import os
import stat
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import ImageArgument, ImagesArgument, JsonOption, parse_positive_size
from .completion import complete_images
from .exit_codes import DAMAGED, NOT_FOUND, NOT_SUPPORTED, OF_ONE_IMAGE, code_of, message_of
from .progress import above_bars, byte_bar
from .settings import complain, notify, open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.adding.batch import Options, Result
    from ..catalog.adding.outcome import Ingested
    from ..catalog.opening.freshness import Observed
    from ..catalog.records import ImageRow
    from ..catalog.store import Catalog

_LS_COLUMNS = (
    "NAME", "FORMAT", "FS", "SIZE", "USED", "STORED", "COMPRESSION", "STATUS", "SEALED",
    "VERIFIED", "PATH",
)  # fmt: skip


class ImageFormat(enum.StrEnum):
    """Formats that can be told to `add`: of all others, the image tells."""

    RAW = "raw"


class VhdSize(enum.StrEnum):
    """What tells how large a VHD is: its footer, or as Virtual PC has it, its geometry."""

    FOOTER = "footer"
    GEOMETRY = "geometry"


def add(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Image files.")],
    name: Annotated[str | None, typer.Option(help="The image's name, for a single PATH.")] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Search directories for images.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Images scanned at the same time.")
    ] = min(4, os.cpu_count() or 1),
    force: Annotated[bool, typer.Option(help="Scan even what has not changed.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Also check every checksum."),
    ] = False,
    seek_spacing: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=parse_positive_size,
            help="Plain bytes between seek points of compressed images, e.g. 4M: smaller reads "
            "faster, larger keeps the catalog small.",
        ),
    ] = None,
    image_format: Annotated[
        ImageFormat | None,
        typer.Option("--format", help="Take it for what it is, whatever it begins like."),
    ] = None,
    allow_backing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Let backing and data files lie in this directory too.",
        ),
    ] = None,
    vhd_size: Annotated[
        VhdSize, typer.Option(help="What tells the size of a VHD.")
    ] = VhdSize.FOOTER,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse images with wrong checksums, or marked dirty.")
    ] = False,
) -> None:
    """Scan images once and keep what was found in the catalog.

    An image may be compressed (gzip, bzip2, xz, lzma, zstd, lz4) and split; name any of its chunks.
    Of an image directory of Clonezilla, every partition is added, and each disk as a whole. What a
    virtual disk is a difference to is added with it.

    \b
    Examples:
      imgcat add backups/*.img
      imgcat add sda1.ext4-ptcl-img.zst.aa
      imgcat add /home/partimag/*
      imgcat add -r /mnt/backups
      imgcat add --name laptop-2026 sda1.img
      imgcat add --verify sda1.img
      imgcat add --format raw sda.dd.zst
      imgcat add --allow-backing /var/lib/templates vm.qcow2
    """
    from ..catalog.adding.batch import Options

    if name is not None and len(paths) != 1:
        raise typer.BadParameter("--name goes with a single PATH", param_hint="--name")
    options = Options(
        force=force, jobs=jobs, verify=verify, spacing=seek_spacing, strict=strict,
        by_geometry=vhd_size is VhdSize.GEOMETRY,
        allowed=tuple(map(os.path.abspath, allow_backing or ())),
    )  # fmt: skip
    is_raw = image_format is ImageFormat.RAW
    with open_catalog(write=True, create=True) as catalog:
        listed, directories, worst = _expand(paths, recursive=recursive)
        if name is not None and (len(listed) > 1 or directories):
            raise typer.BadParameter("--name is for a single image", param_hint="--name")
        results = itertools.chain(
            _added(catalog, [(path, is_raw) for path in listed], name=name, options=options),
            *(_added_directory(catalog, path, options=options) for path in directories),
        )
        for result in results:
            worst = max(worst, _report_added(result))
            if verify and result.ingested is not None:
                worst = max(worst, _verify_added(catalog, result.ingested))
    raise typer.Exit(worst)


def _expand(paths: list[str], *, recursive: bool) -> tuple[list[str], list[str], int]:
    """Return files and image directories to add, and the exit code that other ones call for."""
    from ..catalog.adding.batch import find_images
    from ..catalog.adding.clonezilla import find_directories
    from ..formats.clonezilla.directory import is_image_directory

    listed: list[str] = []
    directories: list[str] = []
    code = 0

    def tell(error: OSError) -> None:
        nonlocal code
        complain(message_of(error))
        code = max(code, code_of(error))

    for path in paths:
        if not os.path.isdir(path):
            listed.append(path)
        elif is_image_directory(path):
            directories.append(path)
        elif recursive:
            inside = list(find_directories(path))
            directories += inside
            listed.extend(find_images(path, apart=inside, failed=tell))
        else:
            complain(f"{path}: is a directory, and none of Clonezilla: -r searches it for images")
            code = max(code, NOT_SUPPORTED)
    return listed, directories, code


def _added(
    catalog: Catalog,
    paths: list[tuple[str, bool]],
    *,
    name: str | None,
    options: Options,
) -> Iterator[Result]:
    """Add the files and yield the results, under a bar of bytes while somebody watches."""
    from ..catalog.adding.batch import Item, add_files

    items = [Item(path, is_raw=is_raw) for path, is_raw in paths]
    total = sum(_size_of(path) for path, _is_raw in paths)
    with byte_bar(total, "scanning") as progress:
        results = add_files(catalog, items, name=name, options=options, progress=progress)
        for result in results:
            with above_bars():
                yield result


def _added_directory(catalog: Catalog, path: str, *, options: Options) -> Iterator[Result]:
    """Add an image directory and yield the results, under a bar of bytes."""
    from ..catalog.adding.batch import Result
    from ..catalog.adding.clonezilla import add_directory

    total = _bytes_in(path)
    with byte_bar(total, os.path.basename(os.path.abspath(path))) as progress:
        results = add_directory(catalog, path, options=options, progress=progress)
        try:
            for result in results:
                with above_bars():
                    yield result
        except OF_ONE_IMAGE as error:
            yield Result(path, error=error)


def _bytes_in(directory: str) -> int:
    """Return the bytes of all files in a directory, as far as can be told."""
    try:
        names = os.listdir(directory)
    except OSError:
        # Reading it says so.
        return 0
    return sum(_size_of(os.path.join(directory, name)) for name in names)


def _size_of(path: str) -> int:
    """Return the bytes of a file, 0 for what is none, or is gone: the scan says so."""
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _verify_added(catalog: Catalog, ingested: Ingested) -> int:
    """Verify what was added, unless its scan has told all; return the exit code."""
    from ..catalog.upkeep.verify import record_right
    from .verify import print_report, verify_one

    row = ingested.record.row
    if ingested.record.is_composed:
        # It has no bytes of its own: they are those of other images.
        return 0
    if ingested.is_right:
        return print_report(record_right(catalog, ingested.record))
    return verify_one(catalog, row.id)[0]


def _report_added(result: Result) -> int:
    """Print the line for one path and return the exit code that it calls for."""
    from ..formats.text import printable
    from .render import human_size

    if result.ingested is None:
        assert result.error is not None
        complain(_error_line(result.path, result.error))
        return code_of(result.error)
    row = result.ingested.record.row
    if not settings.quiet:
        size, used = human_size(row.size_bytes), human_size(row.used_bytes)
        sys.stdout.write(
            f"{result.ingested.outcome.value:<9} {printable(row.name)}: "
            f"{row.format} {printable(fs_of(row))}, {size}, {used} used\n"
        )
        # Whoever reads this from a pipe shall see it when it is done, not at the end.
        sys.stdout.flush()
    for warning in result.ingested.record.warnings:
        notify(f"{result.path}: {warning}")
    return _report_damage(result.ingested)


def _report_damage(ingested: Ingested) -> int:
    row = ingested.record.row
    if row.status_detail is None:
        return 0
    complain(f"{row.path or row.name}: {row.status}: {row.status_detail}")
    return {"missing": NOT_FOUND, "needs-repack": NOT_SUPPORTED}.get(row.status, DAMAGED)


def _error_line(path: str, error: Exception) -> str:
    text = message_of(error)
    return text if text.startswith((f"{path}:", f"{os.path.abspath(path)}:")) else f"{path}: {text}"


def ls(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GLOB...]", help="Names.", autocompletion=complete_images),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the catalogued images.

    \b
    Examples:
      imgcat ls
      imgcat ls 'laptop*'
      imgcat ls --json
    """
    from ..catalog.opening.freshness import Observed

    with open_catalog() as catalog:
        everything = catalog.list_images()
        observed = Observed(everything, catalog.parts())
    listed = [
        row
        for row, _volumes in everything
        if not patterns or any(fnmatch.fnmatchcase(row.name, glob) for glob in patterns)
    ]
    if as_json:
        from .render import write_json

        write_json([listed_fields(row, observed.status(row.id)) for row in listed])
    else:
        _write_listing(listed, observed)
    if patterns and not listed:
        complain(f"no image's name matches {' '.join(patterns)}")
        raise typer.Exit(NOT_FOUND)


def _write_listing(listed: list[ImageRow], observed: Observed) -> None:
    from .render import human_size, write_table

    rows = [
        (
            row.name, row.format, fs_of(row), human_size(row.size_bytes),
            human_size(row.used_bytes), human_size(row.stored_bytes), row.compression,
            observed.status(row.id), "yes" if row.sealed_at else "no", row.verify_result, row.path,
        )
        for row in listed
    ]  # fmt: skip
    write_table(_LS_COLUMNS, rows, right=frozenset({"SIZE", "USED", "STORED"}))


def fs_of(row: ImageRow) -> str:
    """Return the file system, and where only some of it was saved on purpose, which part."""
    return row.fs_type if row.content == "full" else f"{row.fs_type} ({row.content})"


def listed_fields(row: ImageRow, status: str) -> dict[str, Any]:
    """Return the columns of an image, with its status as it is now."""
    fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
    return fields | {"status": status}


def rm(images: ImagesArgument) -> None:
    """Forget images. Their files are not touched.

    \b
    Examples:
      imgcat rm sda1
      imgcat rm 'old-*'
    """
    with open_catalog(write=True) as catalog:
        ids = catalog.resolve_many(images)
        # Not all of the record: one that is damaged can be removed too.
        names = [catalog.name_of(image_id) for image_id in ids]
        catalog.remove(ids)
    for name in names:
        # One without a name was removed by somebody else just now.
        if name is not None:
            _say("removed", name)


def rename(
    image: ImageArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name; / makes directories.")],
) -> None:
    """Change an image's name, also in running mounts.

    \b
    Example:
      imgcat rename sda1 laptop/root
    """
    with open_catalog(write=True) as catalog:
        catalog.rename(catalog.resolve(image), name)
    _say("renamed", name)


def rescan(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE...]", help="All, if none is named.", autocompletion=complete_images
        ),
    ] = None,
) -> None:
    """Look at the files of images again, and mend what is stale.

    \b
    Examples:
      imgcat rescan
      imgcat rescan sda1
    """
    from ..catalog.adding.rescan import rescan as rescan_image

    worst = 0
    with open_catalog(write=True) as catalog:
        ids = (
            catalog.resolve_many(images)
            if images
            else [row.id for row, _volumes in catalog.list_images()]
        )
        for image_id in ids:
            name = catalog.name_of(image_id) or f"image {image_id}"
            if not images and catalog.name_of(image_id) is None:
                # A snapshot or a partition that is not there any more, as was found just before.
                continue
            try:
                ingested = rescan_image(catalog, image_id)
            except OF_ONE_IMAGE as error:
                complain(_error_line(name, error))
                worst = max(worst, code_of(error))
                continue
            _say(ingested.outcome.value, ingested.record.row.name)
            worst = max(worst, _report_damage(ingested))
    raise typer.Exit(worst)


def _say(what: str, name: str) -> None:
    from ..formats.text import printable

    if not settings.quiet:
        sys.stdout.write(f"{what:<9} {printable(name)}\n")
