"""What a mount is asked to be. Imports nothing heavy: the command that starts a daemon uses it."""

from __future__ import annotations

import dataclasses
import os
import signal

from .errors import MountError
from .mounts import digest_of, real_path, state_directory

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that end a mount."""


LEAST_MEMORY = 128 << 20
"""Bytes that a daemon needs at the least."""


@dataclasses.dataclass(frozen=True, slots=True)
class MountRequest:
    """What is to be mounted, and how.

    Attributes:
        mount_point: where, absolute.
        catalog_path: the catalog's database, absolute, or None for the default one.
        images: what `Catalog.resolve_many` takes, or None for every image.
        directory: where relative paths among `images` begin.
        allow_other: ``on``, ``off`` or ``auto``.
        log_file: where the log goes, absolute; None for standard error.
        compare: whether what is read of sealed images is compared with their hashes.
        trust_catalog: whether to serve a catalog that somebody else could have written.
        is_temporary: whether the catalog, and the directory that it is in, go with the mount.
        memory: bytes that the daemon may have resident; None for what the system allows.
        files: whether the files inside of the images are shown too.
        real_modes: whether those have the owners and modes that the file systems say.
        index: whether the files in all images are written into the catalog meanwhile.
    """

    mount_point: str
    catalog_path: str | None
    images: tuple[str, ...] | None
    directory: str
    allow_other: str
    log_file: str | None
    compare: bool = True
    trust_catalog: bool = False
    memory: int | None = None
    is_temporary: bool = False
    files: bool = False
    real_modes: bool = False
    index: bool = False


def make_request(  # noqa: PLR0913 - each is one option
    directory: str,
    *,
    catalog_path: str | None,
    images: tuple[str, ...] | None,
    allow_other: str,
    log_file: str | None,
    foreground: bool,
    trust_catalog: bool = False,
) -> MountRequest:
    """Return the request with every path made absolute, for the daemon changes directory.

    A daemon in the background logs to a file of its own below the state directory.

    Raises:
        MountError: the directory for logs cannot be made.
    """
    mount_point = real_path(directory)
    if log_file is None and not foreground:
        try:
            directory_for_logs = state_directory()
        except OSError as error:
            raise MountError(
                f"{error.filename}: {error.strerror}: choose another place with --log-file"
            ) from error
        log_file = os.path.join(directory_for_logs, f"mount-{digest_of(mount_point)}.log")
    return MountRequest(
        mount_point=mount_point,
        catalog_path=catalog_path and os.path.abspath(catalog_path),
        images=images,
        directory=os.getcwd(),
        allow_other=allow_other,
        log_file=log_file and os.path.abspath(log_file),
        trust_catalog=trust_catalog,
    )
