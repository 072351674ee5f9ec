"""Which items go to whom: overlap, gold items, repeats; and writing a plan to the tables."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import check_item, items, slots

PG_QUEUE_LOCK = 7_301_002  # an advisory lock: one process at a time numbers the items of a queue

Places = list[dict[str, Any]]  # an item's slots: dicts with `n` (the slot's name), `state`, ...


def make_plan(
    rows: Sequence[dict], gold: Sequence[dict], kind: str, shares: dict[str, float], numbers: dict[str, int], seed: int
) -> tuple[list[dict], list[Places]]:
    """Checked items in queue order, and the slots of each; `LabelStore.add_items` says what the arguments mean."""
    _check_numbers(shares, numbers)
    checked = [check_item(row, kind, f"Item {n}") for n, row in enumerate(rows, 1)]
    known = [check_item(row, kind, f"Gold item {n}") for n, row in enumerate(gold, 1)]
    for n, row in enumerate(known, 1):
        if "gold" not in row["payload"]:
            raise KitError(f"Gold item {n}, field 'gold' is missing: a gold item needs its known answer.")
    rng = random.Random(seed)
    shared = _chosen(rng, len(checked), shares["overlap_share"])
    again = _chosen(rng, len(checked), shares["repeats"])
    copies = [numbers["overlap"] if i in shared else 1 for i in range(len(checked))]
    gaps = [numbers["repeat_gap"] if i in again else None for i in range(len(checked))]
    planned = [(row, _open_slots(n, gap)) for row, n, gap in zip(checked, copies, gaps, strict=True)]
    mixed = _spread(planned, [(row, _open_slots(numbers["overlap"], None)) for row in known])
    return [row for row, _ in mixed], [places for _, places in mixed]


def insert_items(
    conn: sa.Connection, queue: str, rows: Sequence[dict], places: Sequence[Places], only_if_empty: bool = False
) -> list[str]:
    """Write checked items and their slots behind the queue's last one, and give the items' ids.

    With `only_if_empty` nothing is written, and no id given, if the queue has an item already.
    Raises KitError if an id is given twice or is in the store already.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("select pg_advisory_xact_lock(:n)"), {"n": PG_QUEUE_LOCK})
    last = conn.scalar(sa.select(sa.func.max(items.c.position)).where(items.c.queue == queue))
    if only_if_empty and last is not None:
        return []
    start = 0 if last is None else last + 1
    named = [
        {**row, "id": row["id"] or f"{queue}-{position:06d}", "queue": queue, "position": position}
        for position, row in enumerate(rows, start)
    ]
    ids = [row["id"] for row in named]
    clash = taken_ids(conn, ids) or {name for name, n in Counter(ids).items() if n > 1}
    if clash:
        raise KitError(f"The item id {min(clash)!r} is given twice or is already in the store; ids must be unique.")
    if named:
        filled = [_slot(row, place) for row, own in zip(named, places, strict=True) for place in own]
        conn.execute(sa.insert(items), named)
        conn.execute(sa.insert(slots), filled)
    return ids


def taken_ids(conn: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Those of the ids that the store has already."""
    taken: set[str] = set()
    for start in range(0, len(ids), 500):
        taken.update(conn.scalars(sa.select(items.c.id).where(items.c.id.in_(ids[start : start + 500]))))
    return taken


def _slot(row: dict, place: dict[str, Any]) -> dict[str, Any]:
    """A row of the slots table: every column is given, so that all rows go in with one statement."""
    of = place.get("repeat_of")
    return {
        **{name: row[name] for name in ("queue", "kind", "position")},
        **{name: place.get(name) for name in ("labeler", "shown_order", "gap")},
        "id": f"{row['id']}/{place['n']}",
        "item_id": row["id"],
        "state": place["state"],
        "turn": 0,
        "repeat_of": None if of is None else f"{row['id']}/{of}",
    }


def _open_slots(copies: int, gap: int | None) -> Places:
    first = [{"n": n, "state": "open"} for n in range(copies)]
    return first if gap is None else [*first, {"n": "r", "state": "waiting", "repeat_of": 0, "gap": gap}]


def _chosen(rng: random.Random, n: int, share: float) -> set[int]:
    return set(rng.sample(range(n), round(share * n)))


def _spread(rows: list, extra: list) -> list:
    """The extra rows evenly among the others: one in the middle of each of len(extra) stretches."""
    placed = [((i + 0.5) / len(rows), 1, row) for i, row in enumerate(rows)]
    placed += [((i + 0.5) / len(extra), 0, row) for i, row in enumerate(extra)]
    return [row for _, _, row in sorted(placed, key=lambda entry: entry[:2])]


def _check_numbers(shares: dict[str, float], numbers: dict[str, int]) -> None:
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise KitError(f"{name} must be a share from 0 to 1, not {share!r}.")
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise KitError(f"{name} must be a whole number of at least 1, not {number!r}.")
