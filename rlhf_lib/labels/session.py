"""One labeler at one queue: what is shown, what is answered, undo, resume. No widgets, no network, no torch."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

import rlhf_lib
from rlhf_lib.errors import KitError
from rlhf_lib.labels import leases
from rlhf_lib.labels.leases import Drawer
from rlhf_lib.labels.schema import (
    SAMPLES_PER_KIND,
    VERDICTS,
    Event,
    check_index,
    check_json,
    check_name,
    check_text,
    events,
)
from rlhf_lib.labels.store import LabelStore

PACE_WINDOW = 50  # pace is that of the labeler's last so many answers


@dataclass(frozen=True)
class Item:
    """A comparison as one labeler sees it; `texts[p]` is stored sample `order[p]`, shown at position p."""

    id: str
    kind: str
    context: str
    texts: list[str]
    order: list[int]
    gold: Any
    is_repeat: bool
    reference: str | None
    source: str | None
    round: int | None
    policy: str | None
    meta: dict[str, Any]
    slot_id: str


class LabelSession:
    """A labeler's way through a queue.

    `current()` leases an item and records that it was shown; an answer is on disk before the next item is drawn.
    A new session for the same labeler goes on where the last one stopped, with the item it holds first.

    Args:
        store: where labels go.
        labeler: who; the same name resumes.
        queue: which queue.
        kind: only items of this kind; None for all.
        seed: shuffles the positions, together with labeler and item, so that a run can be repeated.
        lease_seconds: how long an item is kept for this labeler; `current()` renews it at half time.
        clock: seconds for timing answers; any monotonic clock.
        ui_version: kept with every label.
    """

    def __init__(
        self,
        store: LabelStore,
        labeler: str,
        queue: str = "default",
        kind: str | None = None,
        seed: int = 0,
        lease_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        ui_version: str = f"rlhf_lib {rlhf_lib.__version__}",
    ):
        check_name(labeler, "A labeler's name")
        check_name(queue, "A queue's name")
        if kind is not None and kind not in SAMPLES_PER_KIND:
            raise KitError(f"Unknown kind of item {kind!r}: use one of {', '.join(SAMPLES_PER_KIND)}.")
        if not lease_seconds > 0:
            raise KitError(f"lease_seconds must be more than 0, not {lease_seconds!r}.")
        self.store, self.labeler, self.queue = store, labeler, queue
        self._who = Drawer(labeler, queue, kind, float(lease_seconds))
        self._seed, self._clock, self._ui_version = seed, clock, ui_version
        self._item: Item | None = None
        self._shown_at = self._leased_at = 0.0

    def current(self) -> Item | None:
        """The item to answer now, in the order to show it; None when this labeler has nothing left to answer."""
        if self._item is not None and self._clock() - self._leased_at > self._who.lease_seconds / 2:
            with self.store.write() as conn:
                if not leases.renew(conn, self._item.slot_id, self._who, self.store.now(conn)):
                    self._item = None  # it went to somebody else meanwhile
            self._leased_at = self._clock()
        if self._item is None:
            with self.store.write() as conn:
                self._item = self._draw(conn)
            self._shown_at = self._leased_at = self._clock()
        return self._item

    def answer(self, best_shown: int) -> int:
        """best_of_4: the sample shown at position 0..3 is the best. Returns the label's event number, once on disk."""
        item = self._held("best_of_4")
        best_shown = check_index(best_shown, 4, "The best sample's position")
        return self._commit(item, {"best": item.order[best_shown], "best_shown": best_shown})

    def answer_preference(self, side: int) -> int:
        """preference: the text shown on side 0 or 1 is the better one."""
        item = self._held("preference")
        side = check_index(side, 2, "The side")
        return self._commit(item, {"best": item.order[side], "best_shown": side})

    def answer_accuracy(self, verdict: str) -> int:
        """accuracy: is the text true to its source? "true", "false" or "cant_tell"; KitError for anything else."""
        item = self._held("accuracy")
        if verdict not in VERDICTS:
            raise KitError(f"The verdict must be one of {', '.join(VERDICTS)}, not {verdict!r}.")
        return self._commit(item, {"verdict": verdict})

    def describe(self, tags: Sequence[str], text: str = "") -> int:
        """What is wrong with it: the answer to a description item; on any other kind a note beside it.

        Raises KitError for a description without tags and text.
        """
        item = self._held()
        tags = [check_name(tag, "A tag") for tag in ([tags] if isinstance(tags, str) else tags)]
        data = {"tags": tags, "text": check_text(text, "The description")}
        if not tags and not text.strip():
            raise KitError("Describe the problem with at least one tag or some text, or skip the item.")
        return self._commit(item, data) if item.kind == "description" else self._aside("note", data)

    def correct(self, text: str) -> int:
        """The sample as it should read: the answer to a correction item; on any other kind a suggestion beside it.

        Raises KitError for a text that is empty or the old one.
        """
        item = self._held()
        if check_text(text, "The correction").strip() == "" or text in item.texts:
            raise KitError("The correction is empty or changes nothing; edit the text, or skip the item.")
        data = {"text": text}
        return self._commit(item, data) if item.kind == "correction" else self._aside("correction", data)

    def flag(self, note: str = "") -> int:
        """Say that something is wrong with the item shown; it stays to be answered or skipped."""
        self._held()
        return self._aside("flag", {"note": check_text(note, "The flag's note")})

    def andon(self, reason: str = "") -> int:
        """Pull the cord: the trainer is asked to stop. The item shown stays."""
        return self._aside("andon", {"reason": check_text(reason, "The reason")})

    def skip(self) -> None:
        """Leave the item shown to others; it does not come back to this labeler, unless undone."""
        item = self._held()
        self._item = None
        with self.store.write() as conn:
            slot = leases.take(conn, item.slot_id, self._who)
            leases.give_up(conn, slot, self._who)
            self._append(conn, "skip", item, {"order": item.order, "seconds": self._seconds()})

    def undo(self) -> bool:
        """Take back the last label or skip, by a new event, and show its item again; False if there is none."""
        with self.store.write() as conn:
            leases.queue_up(conn, self._who)
            now = self.store.now(conn)
            step = leases.last_step(conn, self._who)
            if step is None:
                return False
            event = Event("undo", self.queue, self.labeler, step.item_id, {}, step.slot_id, undoes=step.id)
            leases.reopen(conn, step, self._who, now, leases.append(conn, event, now))
        self._item = None
        return True

    def stats(self) -> dict[str, float | int | None]:
        """How it goes: `done`, `left` (for this labeler, now), `seconds_per_answer` (median), `pace_per_minute`,
        `seconds_left`; the last three over the last 50 answers, None before the first."""
        with self.store.read() as conn:
            done = leases.done_by(conn, self._who)
            left = leases.left_for(conn, self._who, self.store.now(conn))
            seconds = self._recent_seconds(conn)
        mean = statistics.fmean(seconds) if seconds else None
        return {
            "done": done,
            "left": left,
            "seconds_per_answer": statistics.median(seconds) if seconds else None,
            "pace_per_minute": 60 / mean if mean else None,
            "seconds_left": left * mean if mean else None,
        }

    def _draw(self, conn: Connection) -> Item | None:
        leases.queue_up(conn, self._who)
        now = self.store.now(conn)
        slot = leases.draw(conn, self._who, now)
        if slot is None:
            return None
        resumed = slot.labeler == self.labeler and slot.state == "leased"
        if resumed and not leases.renew(conn, slot.id, self._who, now):
            return self._draw(conn)  # its lease had run out, and somebody was given it in this very moment
        item = self._view(leases.item_row(conn, slot.item_id), slot, slot.shown_order if resumed else None)
        data = {"order": item.order, "resumed": resumed, "lease_until": now + self._who.lease_seconds}
        number = self._append(conn, "shown", item, data)
        if not resumed:
            leases.lease(conn, slot, self._who, item.order, now, number)
        return item

    def _view(self, row: Row, slot: Row, order: list[int] | None) -> Item:
        samples, payload = row.payload["samples"], row.payload
        order = order or self._shuffled(slot.id, len(samples))
        return Item(
            id=row.id,
            kind=row.kind,
            context=payload["query"],
            texts=[samples[i] for i in order],
            order=order,
            gold=payload.get("gold"),
            is_repeat=slot.repeat_of is not None,
            reference=payload.get("reference"),
            source=payload.get("source"),
            round=row.round,
            policy=row.policy,
            meta=payload["meta"],
            slot_id=slot.id,
        )

    def _shuffled(self, slot_id: str, n: int) -> list[int]:
        """Stored index at each of n positions: the same for the same seed, labeler and slot, else independent."""
        order = list(range(n))
        random.Random(f"{self._seed}/{self.labeler}/{slot_id}").shuffle(order)
        return order

    def _commit(self, item: Item, answer: dict[str, Any]) -> int:
        data = {**answer, "order": item.order, "seconds": self._seconds(), "ui_version": self._ui_version}
        self._item = None  # whatever happens now, current() finds out from the store what to show
        with self.store.write() as conn:
            slot = leases.take(conn, item.slot_id, self._who)
            number = self._append(conn, "label", item, data, once=f"{slot.id}:{slot.turn}")
            leases.finish(conn, slot, self._who)
        return number

    def _held(self, kind: str | None = None) -> Item:
        if self._item is None:
            raise KitError("No item is shown; call current() first.")
        if kind is not None and self._item.kind != kind:
            raise KitError(f"Item {self._item.id} is of kind {self._item.kind}; it cannot be answered as {kind}.")
        return self._item

    def _seconds(self) -> float:
        return max(0.0, self._clock() - self._shown_at)

    def _append(
        self, conn: Connection, kind: str, item: Item | None, data: dict[str, Any], once: str | None = None
    ) -> int:
        slot_id, item_id = (item.slot_id, item.id) if item else (None, None)
        event = Event(kind, self.queue, self.labeler, item_id, check_json(data, "The answer"), slot_id)
        return leases.append(conn, event, self.store.now(conn), once)

    def _aside(self, kind: str, data: dict[str, Any]) -> int:
        with self.store.write() as conn:
            return self._append(conn, kind, self._item, data)

    def _recent_seconds(self, conn: Connection) -> list[float]:
        mine = (events.c.queue == self.queue, events.c.labeler == self.labeler, events.c.kind == "label")
        query = select(events.c.data).where(*mine).order_by(events.c.id.desc()).limit(PACE_WINDOW)
        seconds = [row.data.get("seconds") for row in conn.execute(query)]
        return [value for value in seconds if value is not None]
