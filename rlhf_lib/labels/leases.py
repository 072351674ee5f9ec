"""Who may answer what: drawing, finishing, passing and reopening the slots of a queue.

Every function takes a connection inside a write transaction. On SQLite that transaction holds the one write lock;
on PostgreSQL the rows drawn are locked (`FOR UPDATE SKIP LOCKED`), so that labelers never wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, func, insert, or_, select, text, update

from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import Event, events, items, passes, slots


@dataclass(frozen=True)
class Drawer:
    """Who draws, from where, and for how long a lease holds (seconds)."""

    labeler: str
    queue: str
    kind: str | None
    lease_seconds: float


def append(conn: Connection, event: Event, now: float, once: str | None = None) -> int:
    """Write one event, and give its number."""
    row = dict(
        kind=event.kind,
        at=now if event.at is None else event.at,
        queue=event.queue,
        labeler=event.labeler,
        item_id=event.item_id,
        slot_id=event.slot_id,
        undoes=event.undoes,
        once=once,
        data=event.data,
    )
    return conn.execute(insert(events).values(row)).inserted_primary_key[0]


def queue_up(conn: Connection, who: Drawer) -> None:
    """Let one window of a labeler act at a time (SQLite lets one writer at a time act anyway)."""
    if conn.dialect.name == "postgresql":
        name = f"{who.queue}\n{who.labeler}"
        conn.execute(text("select pg_advisory_xact_lock(7301003, hashtext(:name))"), {"name": name})


def draw(conn: Connection, who: Drawer, now: float) -> Row | None:
    """The slot to show next: one's own lease, a repeat that is due, a fresh slot, any repeat left; None if none."""
    return (
        _own(conn, who) or _repeat(conn, who, done_by(conn, who)) or fresh(conn, who, now) or _repeat(conn, who, None)
    )


def lease(conn: Connection, slot: Row, who: Drawer, order: list[int], now: float, event: int) -> None:
    """Give the slot to this labeler until now + lease_seconds."""
    values = dict(state="leased", labeler=who.labeler, leased_until=now + who.lease_seconds, shown_order=order)
    conn.execute(update(slots).where(slots.c.id == slot.id).values(lease_event=event, **values))


def renew(conn: Connection, slot_id: str, who: Drawer, now: float) -> bool:
    """Push the end of a lease out; False if the slot is no longer this labeler's."""
    mine = and_(slots.c.id == slot_id, slots.c.state == "leased", slots.c.labeler == who.labeler)
    return conn.execute(update(slots).where(mine).values(leased_until=now + who.lease_seconds)).rowcount == 1


def take(conn: Connection, slot_id: str, who: Drawer) -> Row:
    """The slot, locked, if this labeler may still answer it; a late answer counts while nobody else was given it."""
    slot = conn.execute(select(slots).where(slots.c.id == slot_id).with_for_update()).one()
    if slot.state == "open" or (slot.state == "leased" and slot.labeler == who.labeler):
        return slot
    if slot.state == "done" and slot.labeler == who.labeler:
        raise KitError(f"Item {slot.item_id} was already answered in another window; go on with the next one.")
    raise KitError(
        f"The lease on item {slot.item_id} ran out and another labeler has it; go on with the next one, "
        "or ask for longer leases (lease_seconds)."
    )


def finish(conn: Connection, slot: Row, who: Drawer) -> None:
    """Mark the slot answered, and let its repeat (if one is planned) come to the same labeler later."""
    conn.execute(update(slots).where(slots.c.id == slot.id).values(state="done", labeler=who.labeler))
    gap = conn.scalar(select(slots.c.gap).where(slots.c.repeat_of == slot.id, slots.c.state == "waiting"))
    if gap is not None:
        ready = dict(state="open", reserved_for=who.labeler, due=done_by(conn, who) + gap)
        conn.execute(update(slots).where(slots.c.repeat_of == slot.id).values(ready))


def give_up(conn: Connection, slot: Row, who: Drawer) -> None:
    """Let somebody else have the slot, and never show its item to this labeler again."""
    conn.execute(update(slots).where(slots.c.id == slot.id).values(state="open", labeler=None, lease_event=None))
    if not conn.scalar(select(_passed(slot.item_id, who))):
        conn.execute(insert(passes).values(item_id=slot.item_id, labeler=who.labeler))


def last_step(conn: Connection, who: Drawer) -> Row | None:
    """The labeler's latest label or skip that stands."""
    undo = events.alias("undo")
    stands = ~exists().where(undo.c.undoes == events.c.id)
    mine = and_(events.c.queue == who.queue, events.c.labeler == who.labeler, events.c.kind.in_(("label", "skip")))
    return conn.execute(select(events).where(mine, stands).order_by(events.c.id.desc()).limit(1)).first()


def reopen(conn: Connection, step: Row, who: Drawer, now: float, event: int) -> None:
    """Take back a label or a skip: its slot is leased to the same labeler again, ahead of all else."""
    slot = conn.execute(select(slots).where(slots.c.id == step.slot_id).with_for_update()).one()
    gone = slot.state == "done" or (slot.state == "leased" and slot.leased_until >= now)
    if step.kind == "skip" and gone and slot.labeler != who.labeler:
        raise KitError(f"Item {slot.item_id} was skipped and another labeler has it now; the skip cannot be undone.")
    conn.execute(delete(passes).where(passes.c.item_id == slot.item_id, passes.c.labeler == who.labeler))
    conn.execute(update(slots).where(slots.c.id == slot.id).values(turn=slot.turn + (step.kind == "label")))
    lease(conn, slot, who, step.data["order"], now, event)
    if step.kind == "label":
        waiting = dict(state="waiting", reserved_for=None, due=None)
        conn.execute(update(slots).where(slots.c.repeat_of == slot.id, slots.c.state == "open").values(waiting))


def done_by(conn: Connection, who: Drawer) -> int:
    """How many slots of the queue this labeler has answered."""
    mine = and_(slots.c.queue == who.queue, slots.c.labeler == who.labeler, slots.c.state == "done")
    return conn.scalar(select(func.count()).select_from(slots).where(mine))


def left_for(conn: Connection, who: Drawer, now: float) -> int:
    """How many answers this labeler could still give, places held by others left out.

    An item that is planned for thirty labelers has thirty slots, of which each labeler can answer one.
    """
    fresh_ones = and_(_free(now), slots.c.repeat_of.is_(None), ~_mine(who), ~_passed(slots.c.item_id, who))
    repeats = and_(slots.c.reserved_for == who.labeler, slots.c.state.in_(("open", "leased")))
    held = and_(slots.c.state == "leased", slots.c.labeler == who.labeler)
    wanted = and_(_in_queue(who), slots.c.state.in_(("open", "leased")), or_(fresh_ones, repeats, held))
    return conn.scalar(select(func.count(slots.c.item_id.distinct())).where(wanted))


def item_row(conn: Connection, item_id: str) -> Row:
    """The comparison itself."""
    return conn.execute(select(items).where(items.c.id == item_id)).one()


def fresh(conn: Connection, who: Drawer, now: float) -> Row | None:
    """The first slot that is free and whose item this labeler has neither answered nor skipped."""
    allowed = and_(_in_queue(who), slots.c.repeat_of.is_(None), ~_mine(who), ~_passed(slots.c.item_id, who))
    expired = and_(slots.c.state == "leased", slots.c.leased_until < now)
    for free in (expired, slots.c.state == "open"):
        query = select(slots).where(allowed, free).order_by(slots.c.position, slots.c.id).limit(1)
        slot = conn.execute(query.with_for_update(skip_locked=True)).first()
        if slot is not None:
            return slot
    return None


def _own(conn: Connection, who: Drawer) -> Row | None:
    mine = and_(_in_queue(who), slots.c.labeler == who.labeler, slots.c.state == "leased")
    return conn.execute(select(slots).where(mine).order_by(slots.c.lease_event.desc()).limit(1)).first()


def _repeat(conn: Connection, who: Drawer, done: int | None) -> Row | None:
    """An open repeat of one's own; with `done`, only one that is due by then."""
    wanted = and_(_in_queue(who), slots.c.reserved_for == who.labeler, slots.c.state == "open")
    if done is not None:
        wanted = and_(wanted, slots.c.due <= done)
    wanted = and_(wanted, ~_passed(slots.c.item_id, who))
    query = select(slots).where(wanted).order_by(slots.c.due, slots.c.id).limit(1)
    return conn.execute(query.with_for_update(skip_locked=True)).first()


def _in_queue(who: Drawer) -> Any:
    here = slots.c.queue == who.queue
    return here if who.kind is None else and_(here, slots.c.kind == who.kind)


def _free(now: float) -> Any:
    return or_(slots.c.state == "open", and_(slots.c.state == "leased", slots.c.leased_until < now))


def _mine(who: Drawer) -> Any:
    other = slots.alias("other")
    return exists().where(other.c.item_id == slots.c.item_id, other.c.labeler == who.labeler)


def _passed(item_id: Any, who: Drawer) -> Any:
    return exists().where(passes.c.item_id == item_id, passes.c.labeler == who.labeler)
