"""An image directory as Clonezilla and Rescuezilla write it: what lies in it, and what is odd.

Only names, small text files and links are looked at; no image is opened. Whatever is wrong with one
partition becomes a problem, and never stops the others.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, TypeVar

from ..errors import FormatError, NotThisFormatError, UnsupportedFeatureError
from . import metadata
from .evidence import read_evidence, row_name
from .files import Files
from .names import find_candidates, is_image_name
from .records import ImageDirectory, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from .evidence import Evidence
    from .metadata import LogicalVolume, Swap
    from .names import Candidate

__all__ = ["ImageDirectory", "Partition", "is_image_directory", "read_directory"]

_STRUCTURE = "clonezilla.directory"
_PSEUDO = "00-pseudo-img-note.txt"
_BROKEN = "THIS_IMAGE_DIR_IS_BROKEN.txt"
_ENCRYPTED = {"ecryptfs.info": "eCryptfs", "gocryptfs.info": "gocryptfs"}
_LISTS = frozenset({"disk", "parts"})
_LOGS = ("clonezilla-img", "Info-saved-by-cmd.txt")
_WITNESSES = frozenset(
    {"clonezilla-img", "dev-fs.list", "blkid.list", "blkdev.list", "lvm_vg_dev.list"}
)
_TABLE = "-pt.sf"
_OF_DISKS = (
    "-mbr", "-hidden-data-after-mbr", "-gpt-1st", "-gpt-2nd", _TABLE, "-pt.parted",
    "-pt.parted.compact", "-chs.sf", "-gpt.gdisk", "-gpt.sgdisk",
)  # fmt: skip
_PARTITION_NUMBER = re.compile(r"p?[0-9]+|-part[0-9]+")
_T = TypeVar("_T")
_CHECKSUM_FILES = ("MD5SUMS", "SHA1SUMS", "SHA256SUMS", "SHA512SUMS", "B2SUMS")


def is_image_directory(path: str) -> bool:
    """Tell whether a directory looks like an image directory, by the names in it.

    Encrypted ones do too, so that `read_directory` can say what is to be done. What cannot be
    listed does not.
    """
    try:
        return _looks_alike(os.listdir(path))
    except OSError:
        return False


def read_directory(path: str) -> ImageDirectory:
    """Return what lies in an image directory.

    Raises:
        NotThisFormatError: it is none.
        UnsupportedFeatureError: it is encrypted, or holds no images on purpose.
        OSError: it cannot be listed.
    """
    path = os.path.abspath(path)
    try:
        files = Files(path)
    except NotADirectoryError:
        raise NotThisFormatError(_STRUCTURE, 0, f"{path} is no directory") from None
    _refuse(files)
    return _Reading(files).result()


def _looks_alike(names: Iterable[str]) -> bool:
    names = frozenset(names)
    if not names.isdisjoint(_ENCRYPTED) or _PSEUDO in names:
        return True
    has_table = any(name.endswith((_TABLE, "-mbr", "-chs.sf")) for name in names)
    has_image = any(map(is_image_name, names))
    if names.isdisjoint(_LISTS):
        return has_table and has_image
    return has_table or has_image or not names.isdisjoint(_WITNESSES)


def _refuse(files: Files) -> None:
    for name, system in _ENCRYPTED.items():
        if name in files:
            raise UnsupportedFeatureError(
                _STRUCTURE,
                0,
                f"{files.path} is encrypted with {system}, as {name} tells: "
                f"mount it with {system}, and add the directory that the mount shows",
            )
    if _PSEUDO in files:
        raise UnsupportedFeatureError(
            _STRUCTURE,
            0,
            f"{files.path} only stands for an image, as {_PSEUDO} tells: "
            "add the directory that the images are in",
        )
    if not _looks_alike(files.names):
        raise NotThisFormatError(
            _STRUCTURE,
            0,
            f"{files.path} is no image directory of Clonezilla: it has no parts or disk, "
            "with a partition table or an image beside it",
        )


class _Reading:
    """One pass over a directory, which gathers problems on its way."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._problems: list[str] = []

    def result(self) -> ImageDirectory:
        files = self._files
        parts = self._names("parts")
        swaps = tuple(self._swap(name) for name in _between(files, "swappt-", ".info"))
        groups = self._parsed("lvm_vg_dev.list", metadata.parse_volume_groups)
        volumes = self._parsed("lvm_logv.list", metadata.parse_logical_volumes)
        encrypted = self._parsed("luks-dev.list", metadata.parse_luks_devices)
        disks = self._names("disk") or tuple(
            sorted({*files.matching(_TABLE), *files.matching("-mbr")})
        )
        known = {*parts, *(v.name for v in volumes), *(d.mapped for d in encrypted if d.mapped)}
        candidates = find_candidates(files.names, known - _reserved(disks))
        empty = {s.device for s in swaps} | {g.device for g in groups}
        empty |= {d.device for d in encrypted}
        lost = tuple(name for name in parts if name not in candidates and name not in empty)
        self._problems += (f"parts lists {name}, of which there is no image" for name in lost)
        self._compare(volumes, candidates, known, empty)
        program, moment = self._log()
        evidence = {disk: read_evidence(files, disk) for disk in disks}
        return ImageDirectory(
            path=files.path,
            name=os.path.basename(files.path),
            disks=disks,
            evidence=evidence,
            partitions=self._partitions(disks, candidates, evidence),
            lost=lost,
            swaps=swaps,
            volume_groups=groups,
            logical_volumes=volumes,
            luks_devices=encrypted,
            checksum_files=tuple(name for name in _CHECKSUM_FILES if name in files),
            clonezilla_version=program,
            saved_at=moment,
            is_broken=_BROKEN in files,
            files=_disk_files(files, disks),
            problems=tuple(self._problems),
        )

    def _names(self, name: str) -> tuple[str, ...]:
        """Return the names in a list; those that lead elsewhere are problems."""
        names, refused = self._parsed(name, metadata.parse_names)
        for word in refused:
            self._problems.append(f"{name} lists {word!r}, which is no device name: ignored")
        return names

    def _swap(self, device: str) -> Swap:
        return self._parsed(f"swappt-{device}.info", lambda text: metadata.parse_swap(device, text))

    def _log(self) -> tuple[str | None, str | None]:
        program = moment = None
        for name in _LOGS:
            found = self._parsed(name, metadata.parse_log, head=True)
            program, moment = program or found[0], moment or found[1]
        return program, moment

    def _parsed(self, name: str, parse: Callable[[str], _T], *, head: bool = False) -> _T:
        """Return what a text file tells; one that is missing or cannot be read counts as empty."""
        if name not in self._files:
            return parse("")
        try:
            return parse(self._files.text(name, head=head))
        except (FormatError, OSError) as error:
            self._problems.append(f"{name} was not read: {error}")
            return parse("")

    def _compare(
        self,
        volumes: Iterable[LogicalVolume],
        candidates: Collection[str],
        known: Collection[str],
        without_image: Collection[str],
    ) -> None:
        """Note what the lists and the images do not agree in."""
        for volume in volumes:
            if volume.name not in candidates and volume.name not in without_image:
                self._problems.append(f"there is no image of the logical volume {volume.device}")
        if "parts" not in self._files:
            self._problems.append("there is no parts, the list of partitions")
            return
        for name in candidates:
            if name not in known:
                self._problems.append(f"there is an image of {name}, which parts does not list")

    def _partitions(
        self,
        disks: tuple[str, ...],
        candidates: Mapping[str, tuple[Candidate, ...]],
        evidence: Mapping[str, Evidence],
    ) -> tuple[Partition, ...]:
        types = self._parsed("dev-fs.list", metadata.parse_file_systems)
        places = self._places(evidence)
        found = []
        for name, images in candidates.items():
            image = images[0]
            disk, size = places.get(name, (_disk_of(name, disks), None))
            problem = self._problem(images)
            if problem is not None:
                self._problems.append(f"{name}: {problem}")
            path = os.path.join(self._files.path, image.first)
            found.append(
                Partition(
                    name, disk, image.fs_type or types.get(name), path, image.is_raw, size, problem
                )
            )
        return tuple(found)

    def _places(self, evidence: Mapping[str, Evidence]) -> dict[str, tuple[str, int]]:
        """Return disk and size of each partition that is in a table."""
        found: dict[str, tuple[str, int]] = {}
        for disk, known in evidence.items():
            self._problems.extend(known.table_problems)
            table = known.table
            if table is None:
                continue
            for row in table.rows:
                found.setdefault(row_name(row, table, disk), (disk, row.stop - row.start))
        return found

    def _problem(self, images: tuple[Candidate, ...]) -> str | None:
        """Return why the image of a partition must not be opened."""
        if len(images) > 1:
            names = " and ".join(image.first for image in images)
            return f"there are {len(images)} images of it, {names}: remove the wrong one"
        if images[0].missing is not None:
            return f"the first chunk, {images[0].missing}, is missing"
        for name in images[0].files:
            try:
                self._files.resolve(name)
            except OSError as error:
                return f"{name}: {error.strerror}"
            except FormatError as error:
                return f"{name}: {error.detail}"
        return None


def _reserved(disks: Iterable[str]) -> frozenset[str]:
    """Return the names of files that are no images, whatever a list says."""
    return _LISTS | _WITNESSES | frozenset(disk + end for disk in disks for end in _OF_DISKS)


def _between(files: Files, prefix: str, suffix: str) -> list[str]:
    return [
        name.removeprefix(prefix)
        for name in files.matching(suffix)
        if name.startswith(prefix) and name != prefix
    ]


def _disk_of(partition: str, disks: Iterable[str]) -> str | None:
    """Return the disk whose name the partition's begins with."""
    for disk in sorted(disks, key=len, reverse=True):
        rest = partition.removeprefix(disk)
        if partition.startswith(disk) and (not rest or _PARTITION_NUMBER.fullmatch(rest)):
            return disk
    return None


def _disk_files(files: Files, disks: Iterable[str]) -> tuple[str, ...]:
    names = {disk + end for disk in disks for end in _OF_DISKS}
    names |= {f"{partition}-ebr" for partition in files.matching("-ebr")}
    return tuple(sorted(names & files.names))
