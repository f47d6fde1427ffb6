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
        bool,
        typer.Option("--hash", help="The SHA-256 of each version, in one backup; it is kept."),
    ] = False,
    each_backup: Annotated[
        bool,
        typer.Option("--each", help="With --hash: in each backup that has it, for it may differ."),
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
    the version before had less. A file that was written anew with its size and time of before is
    one version in both backups: --hash --each tells them apart.

    \b
    Examples:
      imgcat history /home/anna/thesis.odt
      imgcat history /home/anna/thesis.odt --hash
      imgcat history /home/anna/thesis.odt --hash --each
      imgcat history /home/anna/thesis.odt --last-good
    """
    from ..catalog.files.history import history as versions_of
    from ..filesystems.names import typed
    from .found import Getting, backups_like, check_is_indexed

    if each_backup and not with_hash:
        raise typer.BadParameter("--each goes with --hash")
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
                telling.add_hashes(of_each=each_backup)
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
        self._hashes: dict[int, dict[str, list[str]]] = {}
        self._verdict: Verdict | None = None
        self.code = 0

    def add_hashes(self, *, of_each: bool) -> None:
        """Have the hash of each version, and keep it where the catalog can be written.

        Args:
            of_each: in each backup that has it; else in one, of which it is known if it is.
        """
        import stat

        from ..filesystems.names import shown

        for number, version in enumerate(self._past.versions):
            if not stat.S_ISREG(version.row.mode):
                continue
            try:
                found = self._hashes_of(version, of_each=of_each)
            except OF_ONE_IMAGE as error:
                self._fail(version.newest, error)
                continue
            self._hashes[number] = found
            if len(found) > 1:
                complain(
                    f"{shown(version.path)}: its size and time are the same in"
                    f" {len(version.backups)} backups, and what it holds is not"
                )

    def _hashes_of(self, version: Version, *, of_each: bool) -> dict[str, list[str]]:
        """Return the names of backups by the hash of what they have of a version."""
        from ..catalog.files.hashes import hash_of

        with self._catalog.database.asking() as connection:
            known = [(each, hash_of(connection, each, version.row)) for each in version.backups]
        if not of_each:
            known = [pair for pair in known if pair[1] is not None] or [
                (self._image_of(version), None)
            ]
            del known[:-1]
        found: dict[str, list[str]] = {}
        for backup, sha256 in known:
            if sha256 is None and backup.image_id is None:
                # A snapshot has no bytes.
                continue
            try:
                told = sha256 or self._read_hash(version, backup)
            except OF_ONE_IMAGE as error:
                self._fail(backup, error)
                continue
            found.setdefault(told.hex(), []).append(backup.name)
        return found

    def _read_hash(self, version: Version, backup: Backup) -> bytes:
        hasher = hashlib.sha256()
        _read(backup, version, hasher.update, None)
        _keep(self._catalog.path, version, backup, hasher.digest())
        return hasher.digest()

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
            self._fail(self._past.versions[0].newest, error)

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

    def _fail(self, backup: Backup, error: Exception) -> None:
        complain(f"{backup.name}: {message_of(error)}")
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
            for sha256, names in self._hashes.get(number, {}).items():
                sys.stdout.write(f"    sha256 {sha256}  # in {', '.join(names)}\n")

    def _command(self, version: Version) -> str:
        best = self._getting.best(version.backups)
        return self._getting.command(best, version.path, version.row)

    def _fields(self) -> dict[str, Any]:
        from .found import backup_fields, fields_of, place_of

        past = self._past
        versions = []
        for number, version in enumerate(past.versions):
            hashes = self._hashes.get(number, {})
            only = bytes.fromhex(next(iter(hashes))) if len(hashes) == 1 else None
            fields = fields_of(version.path, version.row, only)
            fields["hashes"] = [
                {"sha256": sha256, "backups": names} for sha256, names in hashes.items()
            ]
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


def _keep(path: str, version: Version, backup: Backup, sha256: bytes) -> None:
    from ..catalog.errors import CatalogError
    from ..catalog.files.hashes import keep_hash
    from ..catalog.store import Catalog

    try:
        with Catalog.open(path) as catalog:
            keep_hash(catalog, backup, version.row, sha256)
    except CatalogError as error:
        notify(f"the hash is not kept: {error}")
