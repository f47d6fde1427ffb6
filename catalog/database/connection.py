"""The one door to a catalog's database file.

Every connection is made here, and gets its PRAGMAs here. Transactions are our own: the driver's
default would commit by itself before DDL, so that a failed migration left half a schema behind.
A `Database` may be used from several threads at once.

Reading is done on the driver's own connections. SQLAlchemy, which writes, is imported when the
first transaction that writes begins: that takes longer than most commands that only read.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING

from ..errors import (
    CatalogBusyError,
    CatalogError,
    CatalogMissingError,
    CatalogReplacedError,
    CatalogSchemaError,
)
from . import places, private
from .identity import Identity, Original, key_of, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

BUSY_SECONDS = 10.0
"""How long one waits for another process to finish its transaction."""

_IDLE_CONNECTIONS = 4
"""Connections that are kept open for the next who reads."""

_EMPTY_LOG_MS = 2000
"""How long one waits for those who read, before the log is left to others."""

_SQLITE_MAGIC = b"SQLite format 3\0"

_BUSY = (CatalogBusyError, "another process is writing to the catalog: try again")

_MEANINGS: dict[int | None, tuple[type[CatalogError], str]] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_NOTADB: (
        CatalogSchemaError,
        "not a SQLite database; it is left as it is: use another with --db",
    ),
    sqlite3.SQLITE_CORRUPT: (
        CatalogSchemaError,
        "the database is damaged and left as it is: see `imgcat db check`, or restore a backup",
    ),
    sqlite3.SQLITE_FULL: (CatalogError, "the disk is full; nothing of this was written"),
    sqlite3.SQLITE_READONLY: (CatalogError, "the catalog is read-only: use another with --db"),
    sqlite3.SQLITE_READONLY_ROLLBACK: (
        CatalogError,
        "its writer was killed: its owner must run `imgcat ls`, which undoes that",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        CatalogError,
        "cannot be opened: check its permissions and its directory's",
    ),
}
"""What the driver's result codes mean to a user, and what to do; the extended ones before the
primary ones.
"""


class Database:
    """A catalog's database file, open.

    Args:
        path: the file; it must exist unless `create`.
        write: False opens it so that nothing can be changed through this object.
        create: make an empty file where there is none, which only its owner may read.
        busy_seconds: how long to wait for a lock.

    Raises:
        CatalogSchemaError: the file is not a SQLite database. It is left as it is.
        CatalogError: it cannot be opened.
    """

    def __init__(
        self,
        path: str,
        *,
        write: bool,
        create: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.path = path
        self.write = write
        self._busy_seconds = busy_seconds
        self._mode = "rw" if write else "ro"
        if create and write:
            _create(path)
        _check_magic(path)
        self._idle: list[sqlite3.Connection] = []
        self._engine: sa.Engine | None = None
        self._lock = threading.Lock()
        self._original: Original | None = None
        self._check_journal()
        self._check_log()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a driver connection in a transaction that sees one state of the catalog.

        Raises:
            CatalogError: the database could not be read.
        """
        with self.asking() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextlib.contextmanager
    def asking(self) -> Iterator[sqlite3.Connection]:
        """Give a driver connection for one SELECT, which needs no transaction around it.

        Raises:
            CatalogError: the database could not be read.
        """
        with self._translated():
            with self._lock:
                # Which catalog it is a connection to: another may be taken meanwhile.
                original = self._original
                connection = self._idle.pop() if self._idle else None
            try:
                connection = connection or self._connect(original)
                yield connection
                self._check_original(original)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if isinstance(error, Exception):
                    # Whatever went wrong may have been read out of two catalogs.
                    self._check_original(original)
                raise
            with self._lock:
                # One that was taken before anything was identified is what is identified by.
                is_same = original is None or original is self._original
                if is_same and len(self._idle) < _IDLE_CONNECTIONS:
                    self._idle.append(connection)
                    return
            connection.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction that holds the write lock from its beginning.

        It is committed at the end of the block, or rolled back by an exception, DDL included.

        Raises:
            CatalogBusyError: another process kept the lock for longer than one waits.
            CatalogReplacedError: another catalog has taken the place of the one that was opened.
            CatalogError: the database could not be written.
        """
        from . import transaction

        with self._lock:
            self._engine = self._engine or transaction.make_engine(
                lambda: self._connect(self._original)
            )
        with self._translated(), transaction.immediate(self._engine) as connection:
            # What is written is laid beside pages that this connection has kept.
            self._check_original(self._original)
            if self._original is not None:
                connection.exec_driver_sql("UPDATE identity SET transactions = transactions + 1")
            yield connection

    @contextlib.contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """Give a connection as `writing` does, for a change of the schema itself.

        A table that is made anew is dropped and renamed, and what refers to its rows must not
        follow: that foreign keys hold is looked at once, at the end.

        Raises:
            CatalogError: as `writing`, or a row refers to one that is not there.
        """
        from . import transaction

        engine = transaction.make_engine(lambda: self._connect(self._original, foreign_keys=False))
        try:
            with self._translated(), transaction.immediate(engine) as connection:
                yield connection
                driver = transaction.driver_connection(connection)
                broken = driver.execute("PRAGMA foreign_key_check").fetchone()
                if broken is not None:
                    raise CatalogError(
                        f"{self.path}: not upgraded: row {broken[1]} of {broken[0]} refers to a "
                        f"row of {broken[2]} that is not there: see `imgcat db check`"
                    )
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def raw(self) -> Iterator[sqlite3.Connection]:
        """Give a driver connection of one's own, without a transaction.

        Raises:
            CatalogError: the database could not be used.
        """
        with self._translated():
            connection = self._connect(self._original)
            try:
                yield connection
            finally:
                connection.close()

    def use_wal(self) -> None:
        """Let readers and a writer work side by side; the file remembers it.

        Where the file system cannot share memory, SQLite stays with a rollback journal. Only for a
        database that is ours to change.

        Raises:
            CatalogError: the database could not be written.
        """
        with self.raw() as connection:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                # Another process is making the same catalog at this moment, and does this too.
                if primary_code(error) != sqlite3.SQLITE_BUSY:
                    raise

    def identify(self) -> Identity:
        """Return what tells this catalog from others; from then on, no other is connected to.

        Raises:
            CatalogReplacedError: it is another one already than when this was called first.
            CatalogError: the database could not be read.
        """
        return self.original().identity

    def original(self) -> Original:
        """Return what tells whether this catalog is still there; see `identify`.

        Raises:
            As `identify`.
        """
        with self.asking() as connection:
            self._original = self._original or self._original_of(connection)
            return self._original

    def take_what_is_there(self) -> None:
        """Let go of the catalog that was opened: the next connection is to whatever is there now.

        Connections that are in use end with their blocks. At no time is one used of which it is not
        known which catalog it is to.

        Raises:
            CatalogError: what is there could not be read; the one that was opened is kept.
        """
        self._check_log()
        with self._translated(), contextlib.closing(self._connect(None)) as connection:
            original = self._original_of(connection)
        with self._lock:
            self._original = original
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self.close()

    def close(self) -> None:
        """Close every connection that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
            engine, self._engine = self._engine, None
        for connection in idle:
            connection.close()
        if engine is not None:
            self._empty_log(engine)
            engine.dispose()

    def _empty_log(self, engine: sa.Engine) -> None:
        """Put what was written into the file itself, so that a copy of the file alone is whole.

        While somebody reads, that is left to whoever closes next.
        """
        with contextlib.suppress(sqlite3.Error), contextlib.closing(engine.raw_connection()) as raw:
            raw.execute(f"PRAGMA busy_timeout = {_EMPTY_LOG_MS}")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _original_of(self, connection: sqlite3.Connection) -> Original:
        return Original(self.path, self._identity_of(connection))

    def _check_journal(self) -> None:
        """Refuse a journal that somebody else has put there: it tells what to write and delete."""
        try:
            is_planted = private.has_planted_journal(self.path)
        except OSError as error:
            raise CatalogError(f"{self.path}: {error.strerror}") from error
        if is_planted:
            raise CatalogError(
                f"{self.path}-journal: belongs to somebody else, who would have this catalog "
                "changed by it: move it away, and use a directory that nobody else can write"
            )

    def _check_log(self) -> None:
        """Refuse a log beside the file that another catalog has written, before it is mixed in.

        Each transaction writes the key again, so that a log says whose it is. It is looked at
        through a connection that cannot write: any other would put it into the file when it closes.
        """
        wal = f"{self.path}-wal"
        if not os.path.exists(wal) or not os.path.getsize(wal):
            return
        with contextlib.suppress(sqlite3.Error, CatalogMissingError):
            # One that is being made has no key yet, and then both: who looks once may have seen
            # it without one, and the file with one.
            if not self._is_log_of_file() and not self._is_log_of_file():
                raise CatalogSchemaError(
                    f"{wal}: was written by another catalog than the one that lies beside it now: "
                    "if that was copied here, move this file away; both are left as they are"
                )

    def _is_log_of_file(self) -> bool:
        with contextlib.closing(self._connect_as("ro")) as connection:
            original = self._original_of(connection)
        return original.is_there()

    def _identity_of(self, connection: sqlite3.Connection) -> Identity:
        """Return what an open catalog is, and where the file lies that is there now."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise CatalogMissingError(f"{self.path}: {error.strerror}") from error
        return Identity(status.st_dev, status.st_ino, key_of(connection))

    def _connect(
        self, original: Original | None, *, foreign_keys: bool = True
    ) -> sqlite3.Connection:
        """Return a connection to a catalog, or to whatever is there if None."""
        connection = self._connect_as(self._mode)
        try:
            try:
                self._set_up(connection, original, foreign_keys=foreign_keys)
            except sqlite3.OperationalError as error:
                if self.write:
                    raise
                connection.close()
                connection = self._connect_otherwise(error)
                self._set_up(connection, original)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_otherwise(self, error: sqlite3.OperationalError) -> sqlite3.Connection:
        """Return a connection to read by where the usual one has failed; raise `error` if none."""
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK:
            # Whoever wrote was killed. Until that is undone, the file has half of a transaction,
            # and who may not write must not read it. Nobody writes for somebody else by asking.
            if not private.is_ours(self.path):
                raise error
            with contextlib.closing(self._connect_as("rw")) as writer:
                writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return self._connect_as(self._mode)
        mode = self._other_mode(error)
        if mode is None:
            raise error
        connection = self._connect_as(mode)
        if mode == "rw":
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return connection

    def _other_mode(self, error: sqlite3.Error) -> str | None:
        """Return how a WAL catalog can be read where no -shm file can be made beside it."""
        wal = f"{self.path}-wal"
        has_wal = os.path.exists(wal) and os.path.getsize(wal) > 0
        if primary_code(error) in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
            # Transactions that are still in a -wal file would not be seen.
            return None if has_wal else "ro&immutable=1"
        if primary_code(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            # A full disk. Alone, SQLite keeps in memory what else would be in that file.
            return "rw" if has_wal else "ro&immutable=1"
        return None

    def _connect_as(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            uri_of(self.path, mode),
            uri=True,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )

    def _set_up(
        self,
        connection: sqlite3.Connection,
        original: Original | None,
        *,
        foreign_keys: bool = True,
    ) -> None:
        places.add_functions(connection, self.path)
        if self.write:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        else:
            connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        # Looked at behind the connection: it is to this file, or to one that was there before.
        if original is not None and self._identity_of(connection) != original.identity:
            raise self._replaced()

    def _check_original(self, original: Original | None) -> None:
        """Refuse what was read, if it may be of a file that was overwritten meanwhile.

        Pages of that and pages that the connection has kept would be taken for one database.
        """
        if original is None or original.identity.key is None:
            return
        try:
            is_there = original.is_there()
        except OSError:
            # It was moved away, and is open all the same.
            return
        if not is_there:
            raise self._replaced()

    def _replaced(self) -> CatalogReplacedError:
        return CatalogReplacedError(
            f"{self.path}: another catalog has taken the place of the one that was opened"
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            # What was text or JSON in the database is that no more.
            kind, text = _MEANINGS[sqlite3.SQLITE_CORRUPT]
            raise kind(f"{self.path}: {text}") from error


def translate(error: sqlite3.Error, path: str) -> CatalogError:
    """Return the catalog's own error for one of the driver's, saying what to do."""
    extended, primary = getattr(error, "sqlite_errorcode", None), primary_code(error)
    unknown = CatalogError, str(error)
    kind, text = _MEANINGS.get(extended) or _MEANINGS.get(primary) or unknown
    return kind(f"{path}: {text}")


def primary_code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code."""
    extended = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _create(path: str) -> None:
    try:
        private.create_empty(path)
    except OSError as error:
        raise CatalogError(f"{path}: cannot be made: {error.strerror}") from error


def _check_magic(path: str) -> None:
    """Refuse a file that is not empty and not SQLite's, before SQLite touches it."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CatalogSchemaError(f"{path}: is not a file, and so no catalog")
        with open(path, "rb") as file:
            magic = file.read(len(_SQLITE_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}") from error
    if magic not in {b"", _SQLITE_MAGIC}:
        raise CatalogSchemaError(
            f"{path}: not a SQLite database (it begins with {magic[:8].hex(' ')}); "
            "it is left as it is"
        )
