"""Transactions that write, on SQLAlchemy. Only `connection` imports this, when it is needed."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import pool as sa_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def make_engine(connect: Callable[[], sqlite3.Connection]) -> sa.Engine:
    """Return an engine over the connections that `connect` makes."""
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        poolclass=sa_pool.QueuePool,
        pool_size=1,
        max_overflow=32,
    )
    sa.event.listen(engine, "begin", _begin)
    return engine


@contextlib.contextmanager
def immediate(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection in a transaction that holds the write lock from its beginning.

    Raises:
        sqlite3.Error: what the driver raised.
    """
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except sa_exc.DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise


def driver_connection(connection: sa.Connection) -> sqlite3.Connection:
    """Return the driver's connection below, in the same transaction."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
