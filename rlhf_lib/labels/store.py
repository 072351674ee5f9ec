"""The label store: one SQLite file for a person, one PostgreSQL database for a team.

Whatever `LabelSession.answer` has returned from is on disk: SQLite runs in WAL mode with synchronous=FULL,
PostgreSQL with its default synchronous_commit. The SQLite file must be on this machine's own disk: its locks do not
hold over network file systems; a team uses PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from rlhf_lib.errors import KitError
from rlhf_lib.labels import frames, leases, schema
from rlhf_lib.labels.database import create_tables, default_url, is_shared, make_engine, parse_url
from rlhf_lib.labels.planning import insert_items, make_plan
from rlhf_lib.labels.schema import ASIDE_KINDS, EVENT_KINDS, Event, check_json, check_name


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
        self._url = parse_url(str(url or default_url()))
        self._now = now
        with self._guard("open"):
            self._engine = make_engine(self._url)
            create_tables(self._engine)

    @property
    def url(self) -> str:
        """Where the labels are, without the password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def shared(self) -> bool:
        """Whether this is a team's database, and not a file of this machine's."""
        return is_shared(self._url)

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
        """A look at what is committed; it blocks nobody."""
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
        only_if_empty: bool = False,
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
            only_if_empty: add nothing to a queue that has items: of a class that starts at the same moment, one fills
                it.

        Returns:
            The items' ids in queue order, gold items included; none if nothing was added.

        Raises:
            KitError: naming the item and field that is wrong; nothing is added then.
        """
        check_name(queue, "A queue's name")
        shares = {"overlap_share": overlap_share, "repeats": repeats}
        numbers = {"overlap": overlap, "repeat_gap": repeat_gap}
        rows, places = make_plan(items, gold, kind, shares, numbers, seed)
        with self.write() as conn:
            return insert_items(conn, queue, rows, places, only_if_empty)

    def count_items(self, queue: str) -> int:
        """How many comparisons a queue holds (0 for one that was never filled)."""
        with self.read() as conn:
            return conn.scalar(
                sa.select(sa.func.count()).select_from(schema.items).where(schema.items.c.queue == queue)
            )

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
