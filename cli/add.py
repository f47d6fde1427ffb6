"""add: images, and directories of them."""

from __future__ import annotations

import enum
import itertools
import os
import stat
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .adding_report import Report
from .arguments import JsonOption, check_folder, parse_positive_size
from .exit_codes import NOT_SUPPORTED, OF_ONE_IMAGE
from .progress import above_bars, byte_bar
from .settings import open_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..catalog.adding.batch import Item, Options, Result
    from ..catalog.names import NameSource
    from ..catalog.store import Catalog


class ImageFormat(enum.StrEnum):
    """Formats that can be told to `add`: of all others, the image tells."""

    RAW = "raw"


class VhdSize(enum.StrEnum):
    """What tells how large a VHD is: its footer, or as Virtual PC has it, its geometry."""

    FOOTER = "footer"
    GEOMETRY = "geometry"


def add(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Image files.")],
    name: Annotated[
        str | None,
        typer.Option(help="The image's name, or the folder of a directory's, for a single PATH."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Let the names of new images begin with FOLDER/."),
    ] = None,
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
    with_files: Annotated[
        bool,
        typer.Option("--index", help="Also write every file in them into the catalog."),
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
    as_json: JsonOption = False,
    relative: Annotated[
        bool,
        typer.Option(
            "--relative",
            help="Keep paths below the catalog's directory relative to it, from now on.",
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse images with wrong checksums, or marked dirty; under -r, try again "
            "and tell of what was refused before.",
        ),
    ] = False,
) -> None:
    """Scan images once and keep what was found in the catalog.

    An image may be compressed (gzip, bzip2, xz, lzma, zstd, lz4) and split; name any of its chunks.
    Of an image directory of Clonezilla, every partition is added, and each disk as a whole. What a
    virtual disk is a difference to is added with it. Names are those of the files; under -r, the
    directories on the way go before them.

    \b
    Examples:
      imgcat add backups/*.img
      imgcat add sda1.ext4-ptcl-img.zst.aa
      imgcat add /home/partimag/*
      imgcat add -r /mnt/backups
      imgcat add -r --prefix nas /mnt/nas
      imgcat add --name laptop-2026 sda1.img
      imgcat add --verify sda1.img
      imgcat add --index sda1.img
      imgcat add --format raw sda.dd.zst
      imgcat add --allow-backing /var/lib/templates vm.qcow2
    """
    from ..catalog.adding.batch import Item, Options

    if prefix is not None:
        check_folder(prefix)
    if name is not None and len(paths) != 1:
        raise typer.BadParameter("--name goes with a single PATH", param_hint="--name")
    options = Options(
        force=force, jobs=jobs, verify=verify, spacing=seek_spacing, strict=strict,
        by_geometry=vhd_size is VhdSize.GEOMETRY,
        allowed=tuple(map(os.path.abspath, allow_backing or ())),
    )  # fmt: skip
    is_raw = image_format is ImageFormat.RAW
    with open_catalog(write=True, create=True) as catalog:
        if relative:
            catalog.make_portable()
        report = Report(
            catalog, is_walk=recursive, tells_again=strict or force, verify=verify, as_json=as_json,
            index=with_files,
        )  # fmt: skip
        found = _expand(catalog, paths, report, recursive=recursive, prefix=prefix or "")
        if name is not None and len(found.files) + len(found.directories) > 1:
            raise typer.BadParameter("--name is for a single image", param_hint="--name")
        results = itertools.chain(
            _added(
                catalog,
                [Item(path, is_raw=is_raw, names=names) for path, names in found.files],
                name=name,
                options=options,
            ),
            *(
                _added_directory(catalog, path, names, name=name, options=options)
                for path, names in found.directories
            ),
        )
        for result in results:
            report.take(result)
        report.finish()
    raise typer.Exit(report.code)


class _Found(NamedTuple):
    """Files and image directories that are to be added, each with how it gets its name."""

    files: list[tuple[str, NameSource]]
    directories: list[tuple[str, NameSource]]


def _expand(
    catalog: Catalog, paths: list[str], report: Report, *, recursive: bool, prefix: str
) -> _Found:
    """Return what is to be added; the report is told of what is not."""
    from ..catalog.adding.clonezilla import find_directories
    from ..catalog.adding.walk import KnownFiles, find_images
    from ..catalog.names import NameSource
    from ..formats.clonezilla.directory import is_image_directory

    result = _Found([], [])
    known: KnownFiles | None = None
    usual = NameSource(prefix=prefix)
    for path in paths:
        if not os.path.isdir(path):
            result.files.append((path, usual))
        elif is_image_directory(path):
            result.directories.append((path, usual))
        elif recursive:
            names = NameSource(os.path.abspath(path), prefix)
            inside = list(find_directories(path))
            result.directories.extend((each, names) for each in inside)
            known = known or KnownFiles.of(catalog)
            apart = [*inside, *_mounts_below(path)]
            found = find_images(
                path, known=known, apart=apart, failed=report.fail, passed_over=report.pass_over
            )
            result.files.extend((each, names) for each in found if not report.was_refused(each))
        else:
            report.refuse(
                path,
                NOT_SUPPORTED,
                "is a directory, and none of Clonezilla: -r searches it for images",
            )
    return result


def _mounts_below(path: str) -> list[str]:
    """Return the mounts of imgcat below a directory, which show what is in a catalog already."""
    from ..fusefs.mounts import FS_TYPE, mount_points

    top = os.path.realpath(path)
    return [
        os.path.normpath(os.path.join(path, os.path.relpath(point.path, top)))
        for point in mount_points()
        if point.fs_type == FS_TYPE and point.path.startswith(top.rstrip("/") + "/")
    ]


def _added(
    catalog: Catalog,
    items: list[Item],
    *,
    name: str | None,
    options: Options,
) -> Iterator[Result]:
    """Add the files and yield the results, under a bar of bytes while somebody watches."""
    from ..catalog.adding.batch import add_files

    total = sum(_size_of(item.path) for item in items)
    with byte_bar(total, "scanning") as progress:
        results = add_files(catalog, items, name=name, options=options, progress=progress)
        for result in results:
            with above_bars():
                yield result


def _added_directory(
    catalog: Catalog, path: str, names: NameSource, *, name: str | None, options: Options
) -> Iterator[Result]:
    """Add an image directory and yield the results, under a bar of bytes."""
    from ..catalog.adding.batch import Result
    from ..catalog.adding.clonezilla import add_directory

    total = _bytes_in(path)
    with byte_bar(total, os.path.basename(os.path.abspath(path))) as progress:
        results = add_directory(
            catalog, path, names=names, name=name, options=options, progress=progress
        )
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
