"""Opening the label database: SQLite in WAL mode, or PostgreSQL."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

import rlhf_lib
from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import SCHEMA_VERSION, kit, metadata

SQLITE_WAIT_MS = 60_000  # how long a writer waits for its turn before it gives up
PG_SCHEMA_LOCK = 7_301_001  # an advisory lock: any number of our own


def default_url() -> str:
    """RLHF_LABELS_URL, or the file data/labels/labels.sqlite of this checkout."""
    folder = Path(rlhf_lib.__file__).resolve().parents[1] / "data" / "labels"
    return os.environ.get("RLHF_LABELS_URL") or f"sqlite:///{folder / 'labels.sqlite'}"


def parse_url(url: str) -> sa.URL:
    """An SQLAlchemy URL or the path of an SQLite file, checked; KitError (never with the password) if neither."""
    url = url if "://" in url else f"sqlite:///{url}"
    try:
        parsed = sa.make_url(url)
    except (SQLAlchemyError, ValueError):
        raise KitError(
            "RLHF_LABELS_URL is no database URL; write sqlite:///path/to/labels.sqlite "
            "or postgresql+psycopg://user:password@host/database."
        ) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise KitError(f"The label store needs SQLite or PostgreSQL, not {parsed.get_backend_name()}.")
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def is_shared(url: sa.URL) -> bool:
    """Whether this is a team's database, and not a file of this machine's."""
    return url.get_backend_name() == "postgresql"


def make_engine(url: sa.URL) -> sa.Engine:
    """Connections on which every transaction says whether it writes (execution option kit_write)."""
    if is_shared(url):
        return sa.create_engine(url, pool_pre_ping=True)
    if not url.database or url.database == ":memory:":
        raise KitError("The label store needs a file, not memory: write sqlite:///path/to/labels.sqlite.")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"Cannot make the folder of {url.database}: {error.strerror}; choose another place.") from error
    engine = sa.create_engine(url, connect_args={"timeout": SQLITE_WAIT_MS / 1000, "check_same_thread": False})
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    connection.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_MS}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    deadline = time.monotonic() + SQLITE_WAIT_MS / 1000
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # this one does not wait for its turn
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(conn: sa.Connection) -> None:
    if not conn.get_execution_options().get("kit_write"):
        conn.exec_driver_sql("BEGIN")
        return
    raw, deadline = conn.connection.driver_connection, time.monotonic() + SQLITE_WAIT_MS / 1000
    # SQLite's own waiting looks up only ten times a second after a while: beside processes that write all the time a
    # latecomer starves. Looking often, and not in step with the others, gives each the same chance.
    raw.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < deadline:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(random.uniform(0.001, 0.008))
        conn.exec_driver_sql("BEGIN IMMEDIATE")  # once more, for SQLAlchemy to say what is wrong
    finally:
        raw.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_MS}")


def create_tables(engine: sa.Engine) -> None:
    """Make the tables where they are not there yet; KitError if another version of the kit made them."""
    version = _version(engine)
    if version is None:
        with engine.connect().execution_options(kit_write=True) as conn, conn.begin():
            if conn.dialect.name == "postgresql":
                conn.execute(sa.text("select pg_advisory_xact_lock(:n)"), {"n": PG_SCHEMA_LOCK})
            metadata.create_all(conn)
            if conn.scalar(sa.select(kit.c.value).where(kit.c.key == "schema_version")) is None:
                conn.execute(sa.insert(kit).values(key="schema_version", value=str(SCHEMA_VERSION)))
        version = _version(engine)
    if version != str(SCHEMA_VERSION):
        raise KitError(
            f"The label store {engine.url.render_as_string(hide_password=True)} has layout {version}, this kit "
            f"reads layout {SCHEMA_VERSION}; export it with the kit that made it, and import it here."
        )


def _version(engine: sa.Engine) -> str | None:
    """The layout of the tables that are there, None if there are none; asked without waiting for any writer."""
    with engine.connect() as conn, conn.begin():
        if not sa.inspect(conn).has_table(kit.name):
            return None
        return conn.scalar(sa.select(kit.c.value).where(kit.c.key == "schema_version"))
