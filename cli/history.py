"""history: the versions of one file, over all backups."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption
from .completion import complete_images
from .exit_codes import NOT_FOUND, OF_ONE_IMAGE, code_of, message_of
from .settings import complain, notify, open_catalog, settings

if TYPE_CHECKING:
    from ..catalog.files.asking import Backup, Version
    from ..catalog.files.history import Past, Verdict
    from ..catalog.store import Catalog
    from .found import Getting

_PIECE = 1 << 20


def history(
    path: Annotated[str, typer.Argument(help="From the root of a file system on: /etc/fstab.")],
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE",
            help="Only the file systems of these; again for more.",
            autocompletion=complete_images,
        ),
    ] = None,
    with_hash: Annotated[
        bool, typer.Option("--hash", help="The SHA-256 of each version; it is kept.")
    ] = False,
    with_last_good: Annotated[
        bool,
        typer.Option(
            "--last-good",
            help="The last version before it changed its type, shrank to less than half, or turned"
            " to noise.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell the versions of a file, the newest first, with the backups that each is in.

    Noise is what is encrypted, or compressed: 7.9 bits a byte or more in the first 64 KiB, where
    the version before had less.

    \b
    Examples:
      imgcat history /home/anna/thesis.odt
      imgcat history /home/anna/thesis.odt --hash
      imgcat history /home/anna/thesis.odt --last-good
    """
    from ..catalog.files.history import history as versions_of
    from ..filesystems.names import typed
    from .found import Getting, backups_like, check_is_indexed

    raw = typed(path)
    with open_catalog() as catalog:
        check_is_indexed(catalog)
        lineages = None
        if image:
            meant = [each for token in image for each in backups_like(catalog, token)]
            lineages = frozenset(each.lineage_id for each in meant)
        with catalog.database.reading() as connection:
            found = versions_of(connection, raw, lineages)
        getting = Getting(catalog)
        code = 0
        told = []
        for past in found:
            telling = _Telling(catalog, past, getting)
            if with_hash:
                telling.add_hashes()
            if with_last_good:
                telling.judge()
            told.append(telling.tell(as_json=as_json, only_good=with_last_good))
            code = max(code, telling.code)
    if as_json:
        from .render import write_json

        write_json(told)
    if not found:
        notify(f"{path}: no backup that is indexed has, or had, it: `imgcat find` looks for names")
        code = NOT_FOUND
    if code:
        raise typer.Exit(code)


class _Telling:
    """Tells the history of a path in one file system.

    Attributes:
        code: the exit code that it calls for.
    """

    def __init__(self, catalog: Catalog, past: Past, getting: Getting) -> None:
        self._catalog = catalog
        self._past = past
        self._getting = getting
        self._hashes: dict[int, str] = {}
        self._verdict: Verdict | None = None
        self.code = 0

    def add_hashes(self) -> None:
        """Have the hash of each version, and keep it where the catalog can be written."""
        import stat

        for number, version in enumerate(self._past.versions):
            row = version.row
            if row.sha256 is not None:
                self._hashes[number] = row.sha256.hex()
                continue
            if not stat.S_ISREG(row.mode):
                continue
            try:
                found = _hash_of(self._image_of(version), version)
            except OF_ONE_IMAGE as error:
                self._fail(version, error)
                continue
            self._hashes[number] = found.hex()
            _keep(self._catalog.path, version, found)

    def judge(self) -> None:
        """Find the last good version."""
        from ..catalog.files.history import NOISE_BYTES, last_good

        known: dict[tuple[int, int, int | None], bytes] = {}

        def beginning(version: Version) -> bytes:
            if version.row.what not in known:
                image = self._image_of(version)
                known[version.row.what] = read_version(image, version, NOISE_BYTES)
            return known[version.row.what]

        try:
            self._verdict = last_good(self._past, beginning)
        except OF_ONE_IMAGE as error:
            self._fail(self._past.versions[0], error)

    def _image_of(self, version: Version) -> Backup:
        """Return the image that a version is read from.

        Raises:
            ImageNotFoundError: it is in none.
        """
        from ..catalog.errors import ImageNotFoundError

        images = [each for each in version.backups if each.image_id is not None]
        if not images:
            raise ImageNotFoundError(
                "what it holds is in no image, only where it lay in a snapshot"
            )
        return self._getting.best(images)

    def _fail(self, version: Version, error: Exception) -> None:
        complain(f"{version.newest.name}: {message_of(error)}")
        self.code = max(self.code, code_of(error))

    def tell(self, *, as_json: bool, only_good: bool) -> dict[str, Any]:
        """Write it, unless it is to be one document; return it as JSON has it."""
        if not as_json:
            self._write(only_good=only_good)
        return self._fields()

    def _write(self, *, only_good: bool) -> None:
        from ..filesystems.names import shown
        from .found import in_words, line_of

        past = self._past
        if self._verdict is not None:
            good, bad, why = self._verdict
            command = self._command(good)
            sys.stdout.write(f"{line_of(good.row)}  {command}  # {in_words(good.backups)}\n")
            if bad is not None and not settings.quiet:
                sys.stdout.write(f"    behind it, in {bad.backups[0].name}: {why}\n")
        if only_good:
            return
        newest = past.versions[0]
        state = ", deleted since" if past.is_deleted else ""
        sys.stdout.write(f"{shown(newest.path)}{state}\n")
        for number, version in enumerate(past.versions):
            command = self._command(version)
            words = in_words(version.backups)
            sys.stdout.write(f"{line_of(version.row)}  {command}  # {words}\n")
            if number in self._hashes:
                sys.stdout.write(f"    sha256 {self._hashes[number]}\n")

    def _command(self, version: Version) -> str:
        best = self._getting.best(version.backups)
        return self._getting.command(best, version.path, version.row)

    def _fields(self) -> dict[str, Any]:
        from .found import backup_fields, fields_of, place_of

        past = self._past
        versions = []
        for number, version in enumerate(past.versions):
            fields = fields_of(version.path, version.row)
            fields["sha256"] = self._hashes.get(number, fields["sha256"])
            fields["backups"] = [backup_fields(each) for each in version.backups]
            best = self._getting.best(version.backups)
            fields["image"] = best.name
            fields["place"] = place_of(best, version.path)
            fields["command"] = self._command(version)
            versions.append(fields)
        found: dict[str, Any] = {
            "lineage": past.lineage_id, "deleted": past.is_deleted, "versions": versions,
        }  # fmt: skip
        if self._verdict is not None:
            good, bad, why = self._verdict
            found["last_good"] = versions[past.versions.index(good)]
            found["behind_it"] = None if bad is None else bad.backups[0].name
            found["why"] = why
        return found


def read_version(image: Backup, version: Version, most: int) -> bytes:
    """Return the first bytes of a version, out of an image that has it.

    Raises:
        As `inside.volume_of`, and `Volume.resolve`.
    """
    pieces: list[bytes] = []
    _read(image, version, pieces.append, most)
    return b"".join(pieces)


def _hash_of(image: Backup, version: Version) -> bytes:
    hasher = hashlib.sha256()
    _read(image, version, hasher.update, None)
    return hasher.digest()


def _read(image: Backup, version: Version, take: Any, most: int | None) -> None:  # noqa: ANN401
    from .inside import volume_of

    with volume_of(str(image.image_id), as_is=image.caveat is not None) as volume:
        entry = volume.resolve(version.path, follow=False)
        content = volume.content(entry.inode)
        size = content.size if most is None else min(most, content.size)
        buffer = memoryview(bytearray(min(_PIECE, size)))
        for start in range(0, size, _PIECE):
            view = buffer[: min(_PIECE, size - start)]
            content.read_into(view, start)
            take(bytes(view))


def _keep(path: str, version: Version, found: bytes) -> None:
    from ..catalog.errors import CatalogError
    from ..catalog.files.hashes import keep_hash
    from ..catalog.store import Catalog

    try:
        with Catalog.open(path) as catalog:
            keep_hash(catalog, version.row, found)
    except CatalogError as error:
        notify(f"the hash is not kept: {error}")
