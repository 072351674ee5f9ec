"""Reading the record: events, the labels that stand, and whether the working tables agree with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, exists, select

from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import Event, events, items, slots

SAMPLE_COLUMNS = ("sample0", "sample1", "sample2", "sample3")
LABEL_COLUMNS = {
    "event_id": "number of the label event; labels are in this order",
    "comparison_id": "the item",
    "queue": "its queue",
    "kind": "best_of_4, accuracy, description, correction or preference",
    "labeler": "who",
    "best": "best_of_4, preference: index of the pick among sample0..3 as stored",
    "best_shown": "the position at which the pick was shown (missing for labels imported without an order)",
    "order": "sample index shown at each position (None for labels imported without an order)",
    "verdict": "accuracy: true, false or cant_tell",
    "tags": "description: list of tags",
    "text": "description: free text; correction: the edited sample",
    "seconds": "from shown to answered (missing for imported labels without it)",
    "at": "when, UTC",
    "round": "collection round of the item",
    "policy": "checkpoint that wrote the samples",
    "ui_version": "what showed it",
    "query": "the context",
    "sample0": "the samples in stored order; those a kind lacks are None",
    "sample1": "",
    "sample2": "",
    "sample3": "",
    "reference": "the human text, where there is one",
    "source": "the source text, where it is not the query",
    "gold": "the known answer, where there is one",
    "gold_best": "the same for best_of_4 and preference: index among sample0..3",
    "is_repeat": "True for the second showing of an item to the same labeler",
    "meta": "whatever came with the item",
}


def moment(value: Any, name: str) -> float | None:
    """Seconds since 1970 from a number, a datetime (naive: UTC) or ISO text; KitError for anything else."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise KitError(f"{name} is no moment: {value!r}; write it like 2026-01-31T12:00.") from None
    if not isinstance(value, datetime):
        raise KitError(f"{name} must be seconds since 1970, a datetime or ISO text, not {value!r}.")
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def read_events(
    conn: Connection,
    kinds: Sequence[str] | None = None,
    since: Any = None,
    until: Any = None,
    queue: str | None = None,
    labeler: str | None = None,
    ids: Sequence[int] | None = None,
) -> list[Event]:
    """Events in the order of their numbers."""
    query = _window(select(events), since, until, queue).order_by(events.c.id)
    if kinds is not None:
        query = query.where(events.c.kind.in_(kinds))
    if labeler is not None:
        query = query.where(events.c.labeler == labeler)
    if ids is not None:
        query = query.where(events.c.id.in_(ids))
    names = ("kind", "queue", "labeler", "item_id", "data", "slot_id", "undoes", "at", "id")
    return [Event(**{name: getattr(row, name) for name in names}) for row in conn.execute(query)]


def labels_frame(conn: Connection, queue: str | None, since: Any, until: Any, round_: int | None):
    """The labels that stand as a pandas.DataFrame with LABEL_COLUMNS, in the order in which they were given."""
    import pandas as pd  # here, so that a labeling page starts without it

    undo = events.alias("undo")
    stands = ~exists().where(undo.c.undoes == events.c.id)
    columns = [items.c.kind.label("item_kind"), items.c.round, items.c.policy, items.c.payload, slots.c.repeat_of]
    query = select(events, *columns).join(items, items.c.id == events.c.item_id)
    query = query.join(slots, slots.c.id == events.c.slot_id).where(events.c.kind == "label", stands)
    query = _window(query, since, until, queue)
    if round_ is not None:
        query = query.where(items.c.round == round_)
    rows = [_label_row(row) for row in conn.execute(query.order_by(events.c.id))]
    frame = pd.DataFrame(rows, columns=list(LABEL_COLUMNS))
    for name in ("best", "best_shown", "round", "gold_best"):
        frame[name] = frame[name].astype("Int64")
    frame["gold"] = pd.Series([row["gold"] for row in rows], dtype=object)  # an index or a verdict, never a float
    frame["at"] = pd.to_datetime(frame["at"].astype(float), unit="s", utc=True).dt.round("us")
    return frame.astype({"seconds": float, "is_repeat": bool})


def disagreements(conn: Connection) -> list[str]:
    """Where the working tables differ from the fold of the events, a sentence each; empty when all is well."""
    answered: dict[str, str] = {}  # slot -> labeler
    labels: dict[int, Event] = {}
    for event in read_events(conn, ["label", "undo"]):
        if event.kind == "label":
            if event.slot_id in answered:
                return [f"Slot {event.slot_id} was answered twice."]
            answered[event.slot_id], labels[event.id] = event.labeler, event
        elif event.undoes in labels:
            answered.pop(labels[event.undoes].slot_id)
    done = {row.id: row.labeler for row in conn.execute(select(slots).where(slots.c.state == "done"))}
    wrong = sorted(done.items() ^ answered.items())
    return [f"Slot {slot} by {labeler}: the record and the working table differ." for slot, labeler in wrong]


def _window(query: Any, since: Any, until: Any, queue: str | None) -> Any:
    since, until = moment(since, "since"), moment(until, "until")
    if queue is not None:
        query = query.where(events.c.queue == queue)
    if since is not None:
        query = query.where(events.c.at >= since)
    return query if until is None else query.where(events.c.at < until)


def _label_row(row: Any) -> dict[str, Any]:
    payload, data = row.payload, row.data
    samples = [*payload["samples"], None, None, None][:4]
    gold = payload.get("gold")
    return {
        "event_id": row.id,
        "comparison_id": row.item_id,
        "kind": row.item_kind,
        **{name: getattr(row, name) for name in ("queue", "labeler", "at", "round", "policy")},
        **{name: data.get(name) for name in ("best", "best_shown", "order", "verdict", "tags", "text")},
        **{name: data.get(name) for name in ("seconds", "ui_version")},
        "query": payload["query"],
        **dict(zip(SAMPLE_COLUMNS, samples, strict=True)),
        **{name: payload.get(name) for name in ("reference", "source", "meta")},
        "gold": gold,
        "gold_best": gold if isinstance(gold, int) else None,
        "is_repeat": row.repeat_of is not None,
    }
