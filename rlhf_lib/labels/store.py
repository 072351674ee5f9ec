"""The label store: one SQLite file for a person, one PostgreSQL database for a team.

Whatever `LabelSession.answer` has returned from is on disk: SQLite runs in WAL mode with synchronous=FULL,
PostgreSQL with its default synchronous_commit.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

import rlhf_lib
from rlhf_lib.errors import KitError
from rlhf_lib.labels import frames, leases
from rlhf_lib.labels.schema import (
    ASIDE_KINDS,
    EVENT_KINDS,
    SCHEMA_VERSION,
    Event,
    check_item,
    check_json,
    check_name,
    items,
    kit,
    metadata,
    slots,
)

SQLITE_WAIT_MS = 60_000  # how long a writer waits for its turn before it gives up
PG_SCHEMA_LOCK, PG_QUEUE_LOCK = 7_301_001, 7_301_002  # advisory locks: any two numbers of our own


def default_url() -> str:
    """RLHF_LABELS_URL, or the file data/labels/labels.sqlite of this checkout."""
    folder = Path(rlhf_lib.__file__).resolve().parents[1] / "data" / "labels"
    return os.environ.get("RLHF_LABELS_URL") or f"sqlite:///{folder / 'labels.sqlite'}"


class LabelStore:
    """Comparisons, leases and the append-only record of events, shared by any number of processes.

    Args:
        url: an SQLAlchemy URL (``sqlite:///…`` or ``postgresql+psycopg://…``) or the path of an SQLite file.
            None: RLHF_LABELS_URL, else data/labels/labels.sqlite.
        now: the wall clock, seconds since 1970. None: this machine's for SQLite, the server's for PostgreSQL.

    Raises:
        KitError: the database cannot be reached or opened, or was made by another version of the kit.
    """

    def __init__(self, url: str | None = None, now: Callable[[], float] | None = None):
        url = str(url or default_url())
        self._url = _parse_url(url if "://" in url else f"sqlite:///{url}")
        self._now = now
        with self._guard("open"):
            self._engine = _engine(self._url)
            _create_tables(self._engine)

    @property
    def url(self) -> str:
        """Where the labels are, without the password."""
        return self._url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Let go of the database; the store opens it again when next used."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction: all of it is on disk when the block ends, or none of it is."""
        with self._guard("write to"), self._engine.connect() as conn:
            conn = conn.execution_options(kit_write=True)
            with conn.begin():
                yield conn

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view, which blocks nobody."""
        with self._guard("read"), self._engine.connect() as conn, conn.begin():
            yield conn

    def now(self, conn: sa.Connection) -> float:
        """The clock that leases go by, seconds since 1970: one for all labelers."""
        if self._now is not None:
            return self._now()
        if conn.dialect.name == "postgresql":
            return float(conn.scalar(sa.text("select extract(epoch from clock_timestamp())")))
        return time.time()

    def add_items(
        self,
        queue: str,
        items: Sequence[dict[str, Any]],
        kind: str = "best_of_4",
        overlap_share: float = 0.0,
        overlap: int = 2,
        gold: Sequence[dict[str, Any]] = (),
        repeats: float = 0.0,
        repeat_gap: int = 10,
        seed: int = 0,
    ) -> list[str]:
        """Put comparisons at the end of a queue; all of them, or none.

        Args:
            queue: its name; made when first used.
            items: dicts with `query` and `samples` (4 texts for best_of_4, 2 for preference, 1 for accuracy,
                description and correction), and if wanted `id`, `round`, `policy`, `reference`, `source`, `meta`
                and `gold` (the known answer: an index into `samples`, or a verdict).
            kind: best_of_4, accuracy, description, correction or preference.
            overlap_share: the share of the items that goes to `overlap` labelers each; the others go to one.
            overlap: how many labelers an overlapped item goes to, and each of the `gold` items too.
            gold: further items with known answers, spread evenly among the others.
            repeats: the share of the items that comes back to the labeler who answered it, for self-agreement.
            repeat_gap: how many other answers lie between the two, while there are so many.
            seed: which items overlap and which repeat.

        Returns:
            The items' ids in queue order, gold items included.

        Raises:
            KitError: naming the item and field that is wrong; nothing is added then.
        """
        check_name(queue, "A queue's name")
        _check_plan(overlap_share, overlap, repeats, repeat_gap)
        rows = [check_item(item, kind, f"Item {n}") for n, item in enumerate(items, 1)]
        known = [check_item(item, kind, f"Gold item {n}") for n, item in enumerate(gold, 1)]
        for n, row in enumerate(known, 1):
            if "gold" not in row["payload"]:
                raise KitError(f"Gold item {n}, field 'gold' is missing: a gold item needs its known answer.")
        rng = random.Random(seed)
        copies = _chosen(rng, len(rows), overlap_share, overlap, 1)
        again = _chosen(rng, len(rows), repeats, True, False)
        plan = _spread(list(zip(rows, copies, again, strict=True)), [(row, overlap, False) for row in known])
        with self.write() as conn:
            return insert_items(conn, queue, plan, repeat_gap)

    def count_items(self, queue: str) -> int:
        """How many comparisons a queue holds (0 for one that was never filled)."""
        with self.read() as conn:
            return conn.scalar(sa.select(sa.func.count()).select_from(items).where(items.c.queue == queue))

    def append(self, event: Event) -> Event:
        """Record something that was said: a flag, note, correction, andon or andon_release.

        Returns the event with its `id` and `at`. Labels, undos and skips move items, so only a LabelSession
        writes those. Raises KitError for them, and for data that is no JSON.
        """
        if event.kind not in ASIDE_KINDS:
            raise KitError(f"An event of kind {event.kind!r} cannot be appended; use one of {', '.join(ASIDE_KINDS)}.")
        check_json(event.data, "The event's data")
        with self.write() as conn:
            number = leases.append(conn, event, self.now(conn))
            return frames.read_events(conn, ids=[number])[0]

    def events(
        self,
        kind: str | Sequence[str] | None = None,
        since: Any = None,
        until: Any = None,
        queue: str | None = None,
        labeler: str | None = None,
    ) -> list[Event]:
        """Events in the order in which they were written.

        Args:
            kind: one kind or several; None for all.
            since, until: from and up to before this moment (seconds since 1970, a datetime, or ISO text).
            queue, labeler: only theirs.
        """
        kinds = [kind] if isinstance(kind, str) else kind
        for name in kinds or ():
            if name not in EVENT_KINDS:
                raise KitError(f"Unknown kind of event {name!r}: use one of {', '.join(EVENT_KINDS)}.")
        with self.read() as conn:
            return frames.read_events(conn, kinds, since, until, queue, labeler)

    def labels_frame(
        self,
        queue: str | None = None,
        since: Any = None,
        until: Any = None,
        round: int | None = None,
    ):
        """The labels that stand (undone ones gone), one row each, oldest first: see `frames.LABEL_COLUMNS`.

        Args:
            queue: only this one's; None for all.
            since, until: from and up to before this moment (seconds since 1970, a datetime, or ISO text).
            round: only labels on items of this collection round.

        Returns:
            pandas.DataFrame with the columns of `frames.LABEL_COLUMNS`; empty, with those columns, if none stand.
        """
        with self.read() as conn:
            return frames.labels_frame(conn, queue, since, until, round)

    @contextmanager
    def _guard(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
            raise KitError(
                f"Could not {doing} the label store {self.url}: {reason}. Nothing was changed by this step; "
                "what was acknowledged before is safe."
            ) from error
        except SQLAlchemyError as error:
            raise KitError(f"Could not {doing} the label store {self.url}: {error}.") from error


def insert_items(
    conn: sa.Connection, queue: str, plan: Sequence[tuple[dict, int, bool]], repeat_gap: int = 10
) -> list[str]:
    """Write checked items and their slots behind the queue's last one; `plan` holds (item, copies, repeat?)."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("select pg_advisory_xact_lock(:n)"), {"n": PG_QUEUE_LOCK})
    last = conn.scalar(sa.select(sa.func.max(items.c.position)).where(items.c.queue == queue))
    first = 0 if last is None else last + 1
    rows = [
        {**row, "id": row["id"] or f"{queue}-{position:06d}", "queue": queue, "position": position}
        for position, (row, _, _) in enumerate(plan, first)
    ]
    ids = [row["id"] for row in rows]
    taken = _taken(conn, ids)
    if taken:
        raise KitError(f"The item id {taken!r} is given twice or is already in the store; ids must be unique.")
    places = [
        slot
        for row, (_, copies, again) in zip(rows, plan, strict=True)
        for slot in _slots_of(row, copies, repeat_gap if again else None)
    ]
    if rows:
        conn.execute(sa.insert(items), rows)
        conn.execute(sa.insert(slots), places)
    return ids


def _slots_of(row: dict, copies: int, gap: int | None) -> list[dict]:
    common = {name: row[name] for name in ("queue", "kind", "position")} | {"item_id": row["id"], "turn": 0}
    first = [
        {**common, "id": f"{row['id']}/{n}", "state": "open", "repeat_of": None, "gap": None} for n in range(copies)
    ]
    if gap is None:
        return first
    return [*first, {**common, "id": f"{row['id']}/r", "state": "waiting", "repeat_of": first[0]["id"], "gap": gap}]


def _taken(conn: sa.Connection, ids: list[str]) -> str | None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            return name
        seen.add(name)
    for start in range(0, len(ids), 500):
        there = conn.scalar(sa.select(items.c.id).where(items.c.id.in_(ids[start : start + 500])).limit(1))
        if there is not None:
            return there
    return None


def _chosen(rng: random.Random, n: int, share: float, yes: Any, no: Any) -> list[Any]:
    """`yes` at round(share * n) of n places, `no` elsewhere."""
    picked = set(rng.sample(range(n), round(share * n)))
    return [yes if i in picked else no for i in range(n)]


def _spread(rows: list, extra: list) -> list:
    """The extra rows evenly among the others (one in the middle of each of len(extra) stretches)."""
    placed = [((i + 0.5) / len(rows), 1, row) for i, row in enumerate(rows)]
    placed += [((i + 0.5) / len(extra), 0, row) for i, row in enumerate(extra)]
    return [row for _, _, row in sorted(placed, key=lambda entry: entry[:2])]


def _check_plan(overlap_share: float, overlap: int, repeats: float, repeat_gap: int) -> None:
    for name, share in (("overlap_share", overlap_share), ("repeats", repeats)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise KitError(f"{name} must be a share from 0 to 1, not {share!r}.")
    for name, number in (("overlap", overlap), ("repeat_gap", repeat_gap)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise KitError(f"{name} must be a whole number of at least 1, not {number!r}.")


def _parse_url(url: str) -> sa.URL:
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


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "postgresql":
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
    writing = conn.get_execution_options().get("kit_write")
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _create_tables(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        conn = conn.execution_options(kit_write=True)
        with conn.begin():
            if conn.dialect.name == "postgresql":
                conn.execute(sa.text("select pg_advisory_xact_lock(:n)"), {"n": PG_SCHEMA_LOCK})
            metadata.create_all(conn)
            version = conn.scalar(sa.select(kit.c.value).where(kit.c.key == "schema_version"))
            if version is None:
                conn.execute(sa.insert(kit).values(key="schema_version", value=str(SCHEMA_VERSION)))
    if version not in (None, str(SCHEMA_VERSION)):
        raise KitError(
            f"The label store {engine.url.render_as_string(hide_password=True)} has layout {version}, this kit "
            f"reads layout {SCHEMA_VERSION}; export it with the kit that made it, and import it here."
        )
