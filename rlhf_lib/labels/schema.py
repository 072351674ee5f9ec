"""What the label store holds: four tables, one kind of event, and what a comparison may look like.

``events`` is the record: it is only ever appended to, and every figure of the kit is a fold over it.
``items`` are the comparisons, never changed once added. ``slots`` (one row a planned answer, with its lease)
and ``passes`` (who skipped what) are working tables: they say who may answer what now, and can be checked
against the fold of the events at any time (`rlhf_lib.labels.frames.disagreements`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from rlhf_lib.errors import KitError

SCHEMA_VERSION = 1
SAMPLES_PER_KIND = {"best_of_4": 4, "accuracy": 1, "description": 1, "correction": 1, "preference": 2}
VERDICTS = ("true", "false", "cant_tell")
ASIDE_KINDS = ("flag", "note", "correction", "andon", "andon_release")  # say something, move no item
EVENT_KINDS = ("shown", "label", "undo", "skip", *ASIDE_KINDS)
ITEM_FIELDS = {"id", "query", "samples", "round", "policy", "reference", "source", "gold", "meta"}

metadata = MetaData()

items = Table(
    "items",
    metadata,
    Column("id", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("round", Integer),
    Column("policy", Text),
    Column("payload", JSON, nullable=False),  # query, samples, reference, source, gold, meta
    UniqueConstraint("queue", "position"),
)

slots = Table(
    "slots",
    metadata,
    Column("id", Text, primary_key=True),  # "<item>/0", "/1" ... for overlap, "/r" for a repeat
    Column("item_id", Text, ForeignKey("items.id"), nullable=False),
    Column("queue", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", Text, nullable=False),  # waiting (a repeat before its original), open, leased, done
    Column("turn", Integer, nullable=False, default=0),  # goes up with every undo
    Column("labeler", Text),  # who holds the lease, or who answered
    Column("leased_until", Double),
    Column("lease_event", Integer),  # the event that leased it: the youngest lease is shown first
    Column("shown_order", JSON),  # sample index at each position, as this labeler sees it
    Column("repeat_of", Text),
    Column("reserved_for", Text),  # a repeat goes to whoever answered the original
    Column("gap", Integer),  # a repeat comes after so many other answers
    Column("due", Integer),  # ... that is, once the labeler has this many
    Index("slots_draw", "queue", "state", "position", "id"),  # in the order of a draw: nothing is sorted
    Index("slots_mine", "queue", "labeler", "state"),
    Index("slots_item", "item_id", "labeler"),
    Index("slots_repeat", "repeat_of"),
    Index("slots_reserved", "queue", "reserved_for", "state"),
)
# The database itself refuses a second first-hand answer to one item by one labeler.
Index(
    "slots_once_each",
    slots.c.item_id,
    slots.c.labeler,
    unique=True,
    sqlite_where=slots.c.repeat_of.is_(None),
    postgresql_where=slots.c.repeat_of.is_(None),
)

passes = Table(
    "passes",
    metadata,
    Column("item_id", Text, ForeignKey("items.id"), primary_key=True),
    Column("labeler", Text, primary_key=True),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("at", Double, nullable=False),  # seconds since 1970, UTC
    Column("queue", Text),
    Column("labeler", Text),
    Column("item_id", Text),
    Column("slot_id", Text),
    Column("undoes", Integer, unique=True),  # an event can be undone once
    Column("once", Text, unique=True),  # "<slot>:<turn>" of a label: a slot is answered once a turn
    Column("data", JSON, nullable=False),
    Index("events_kind", "kind", "queue", "at"),
    Index("events_person", "queue", "labeler", "id"),
    sqlite_autoincrement=True,
)

kit = Table("kit", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))


@dataclass(frozen=True)
class Event:
    """One line of the record; `id` and `at` (seconds since 1970, UTC) are given by the store."""

    kind: str
    queue: str | None = None
    labeler: str | None = None
    item_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    slot_id: str | None = None
    undoes: int | None = None
    at: float | None = None
    id: int | None = None


def check_text(value: Any, where: str) -> str:
    """The text itself; a KitError beginning with `where` if it is no text or not valid Unicode."""
    if not isinstance(value, str):
        raise KitError(f"{where} must be text, not {brief(value)}.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates: what undecodable bytes become
        raise KitError(f"{where} holds bytes that are not UTF-8 text; save the file as UTF-8.") from None
    return value


def check_name(value: Any, where: str) -> str:
    """A queue's or labeler's name: non-empty text without NUL, which PostgreSQL cannot hold in a column."""
    text = check_text(value, where)
    if not text.strip() or "\x00" in text:
        raise KitError(f"{where} must be a non-empty name without NUL characters, not {brief(value)}.")
    return text


def check_index(value: Any, n: int, where: str) -> int:
    """A whole number in 0..n-1 (bool and float refused)."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n:
        raise KitError(f"{where} must be a whole number from 0 to {n - 1}, not {brief(value)}.")
    return value


def check_json(value: Any, where: str) -> Any:
    """A JSON value without NaN or infinity (they are no JSON, and PostgreSQL refuses them)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            check_text(key, f"{where}: a key")
            check_json(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            check_json(inner, where)
    elif isinstance(value, str):
        check_text(value, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise KitError(f"{where} holds {value}, which JSON has no word for; leave it out or write null.")
    elif not isinstance(value, bool | int | float | None):
        raise KitError(f"{where} must be plain JSON values, not {brief(value)}.")
    return value


def check_gold(value: Any, kind: str, where: str) -> Any:
    """A known answer: the stored index of the best sample, or a verdict for an accuracy item."""
    if kind in ("best_of_4", "preference"):
        return check_index(value, SAMPLES_PER_KIND[kind], where)
    if kind == "accuracy" and value in VERDICTS:
        return value
    raise KitError(f"{where} must be a known answer to a {kind} item, not {brief(value)}.")


def check_item(row: Any, kind: str, where: str) -> dict[str, Any]:
    """A comparison as the store keeps it, or a KitError that begins with `where` and names the field."""
    if kind not in SAMPLES_PER_KIND:
        raise KitError(f"Unknown kind of item {kind!r}: use one of {', '.join(SAMPLES_PER_KIND)}.")
    if not isinstance(row, dict):
        raise KitError(f"{where} must be an object with the fields query and samples, not {brief(row)}.")
    unknown = sorted(str(key) for key in row.keys() - ITEM_FIELDS)
    if unknown:
        raise KitError(f"{where}, field {unknown[0]!r} is not known; put what else you want to keep under 'meta'.")
    n, samples = SAMPLES_PER_KIND[kind], row.get("samples")
    if not isinstance(samples, list | tuple) or len(samples) != n:
        raise KitError(f"{where}, field 'samples' must be a list of {n} texts for kind {kind}, not {brief(samples)}.")
    payload = {"query": check_text(row.get("query"), f"{where}, field 'query'")}
    payload["samples"] = [check_text(text, f"{where}, field 'samples[{i}]'") for i, text in enumerate(samples)]
    for name in ("reference", "source"):
        if row.get(name) is not None:
            payload[name] = check_text(row[name], f"{where}, field {name!r}")
    if row.get("gold") is not None:
        payload["gold"] = check_gold(row["gold"], kind, f"{where}, field 'gold'")
    payload["meta"] = check_json(row.get("meta") or {}, f"{where}, field 'meta'")
    if not isinstance(payload["meta"], dict):
        raise KitError(f"{where}, field 'meta' must be an object, not {brief(row['meta'])}.")
    return {
        "id": None if row.get("id") is None else check_name(row["id"], f"{where}, field 'id'"),
        "kind": kind,
        "round": _optional(row.get("round"), lambda v: check_index(v, 2**31, f"{where}, field 'round'")),
        "policy": _optional(row.get("policy"), lambda v: check_name(v, f"{where}, field 'policy'")),
        "payload": payload,
    }


def _optional(value, check):
    return None if value is None else check(value)


def brief(value: Any) -> str:
    """A value as an error names it: ASCII, and short."""
    text = ascii(value) if not isinstance(value, list | dict | tuple) else f"a {type(value).__name__} of {len(value)}"
    return text if len(text) <= 60 else text[:57] + "..."
