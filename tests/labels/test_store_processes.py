"""Many processes at once, and processes that are killed: no acknowledged label is lost, none is doubled."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from rlhf_lib.labels import LabelStore
from rlhf_lib.labels.frames import disagreements

WORKER = Path(__file__).with_name("labeling_worker.py")
LABELERS = 8


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def broken_leases(store: LabelStore) -> list[str]:
    """Slots that the record says were shown to, or answered by, one labeler while another's lease ran."""
    broken, lease = [], defaultdict(lambda: (None, 0.0))  # slot -> (holder, until)
    undone_slots = {event.id: event.slot_id for event in store.events(kind=["label", "skip"])}
    for event in store.events(kind=["shown", "label", "undo", "skip"]):
        slot = event.slot_id if event.kind != "undo" else undone_slots[event.undoes]
        holder, until = lease[slot]
        if holder not in (None, event.labeler) and event.at < until:
            broken.append(f"{event.kind} of {slot} by {event.labeler} at {event.at}: {holder} had it until {until}")
        if event.kind == "shown":
            lease[slot] = (event.labeler, event.data["lease_until"])
        elif event.kind == "label":
            lease[slot] = (event.labeler, float("inf"))  # answered: nobody else's, for good
        else:
            lease[slot] = (event.labeler if event.kind == "undo" else None, event.at)
    return broken


def acknowledged(lines: list[str]) -> dict[int, tuple[str, int]]:
    """What a worker was told is saved: event -> (item, best), the undone ones taken out."""
    stands: list[tuple[int, str, int]] = []
    for words in map(str.split, lines):
        if words[0] == "label":
            stands.append((int(words[1]), words[2], int(words[3])))
        elif words[0] == "undo":
            assert stands[-1][1] == words[1]
            stands.pop()
    return {event: (item, best) for event, item, best in stands}


def check_store(store: LabelStore, told: dict[str, dict[int, tuple[str, int]]], unsaid: int) -> tuple[int, int]:
    """Each acknowledged label stands, at most `unsaid` others do, and none stands twice: (lost, doubled) as counted."""
    frame = store.labels_frame("q")
    standing = {row.event_id: (row.labeler, row.comparison_id, row.best) for row in frame.itertuples()}
    expected = {event: (who, *label) for who, labels in told.items() for event, label in labels.items()}
    lost = {event: label for event, label in expected.items() if standing.get(event) != label}
    assert lost == {}
    assert len(standing) - len(expected) <= unsaid
    doubled = int((frame.groupby(["comparison_id", "labeler"]).size() - 1).sum())
    assert len(frame) > 0 and doubled == 0
    with store.read() as conn:
        assert disagreements(conn) == []
    assert broken_leases(store) == []
    return len(lost), doubled


@pytest.mark.parametrize("labels", [pytest.param(1000, marks=pytest.mark.soak), 100])
def test_eight_processes_lose_and_double_nothing(url, comparisons, labels, record_property):
    store = LabelStore(url)
    total = LABELERS * labels
    store.add_items("q", comparisons(total), overlap_share=0.3, overlap=3)  # more than enough places
    store.close()
    began = time.monotonic()
    workers = {f"labeler{n}": start("quota", url, f"labeler{n}", labels) for n in range(LABELERS)}
    said = {name: worker.communicate()[0].splitlines() for name, worker in workers.items()}
    seconds = time.monotonic() - began
    assert {name: worker.returncode for name, worker in workers.items()} == dict.fromkeys(workers, 0)
    told = {name: acknowledged(lines) for name, lines in said.items()}
    assert {name: len(labels_) for name, labels_ in told.items()} == dict.fromkeys(workers, labels)
    lost, doubled = check_store(store, told, unsaid=0)
    per_item = store.labels_frame("q").groupby("comparison_id").size()
    assert per_item.max() <= 3
    words = Counter(line.split()[0] for lines in said.values() for line in lines)
    assert words["undo"] > 0
    record_property("labels", total)
    record_property("undone", words["undo"])
    record_property("late answers refused", words["refused"])
    record_property("labels per second", round(total / seconds, 1))
    record_property("lost", lost)
    record_property("doubled", doubled)


def test_the_check_of_leases_sees_a_broken_one(tmp_path, comparisons, clock):
    """The check above, held against a record in which two labelers were shown the same place at once."""
    store = LabelStore(tmp_path / "labels.sqlite", now=clock)
    store.add_items("q", comparisons(1))
    from rlhf_lib.labels import LabelSession

    LabelSession(store, "ana", "q").current()
    with store.write() as conn:
        conn.exec_driver_sql("update slots set state = 'open', labeler = null")
    assert broken_leases(store) == []
    LabelSession(store, "bob", "q").current()
    assert len(broken_leases(store)) == 1


@pytest.mark.parametrize("kills", [pytest.param(200, marks=pytest.mark.soak), 20])
def test_sigkill_at_random_moments_loses_no_acknowledged_label(url, comparisons, kills, record_property):
    rng = random.Random(kills)
    store = LabelStore(url)
    store.add_items("q", comparisons(60 * kills))
    store.close()
    worker, said = start("lives", url, "ana"), []
    for _ in range(kills):
        worker.stdin.write("go\n")
        worker.stdin.flush()
        pid = int(_read_until(worker, said, "born").split()[1])
        time.sleep(_random_moment(rng, worker, said))
        os.kill(pid, signal.SIGKILL)
        ended = _read_until(worker, said, "ended")
        assert ended.split()[1] == str(-signal.SIGKILL), "it ended before it was killed"
    worker.stdin.close()
    assert worker.wait() == 0
    steps = [line for line in said if line.split()[0] in ("label", "undo")]
    told = _without_unsaid_undos(store, steps)
    lost, _ = check_store(store, {"ana": told}, unsaid=kills)
    assert len(told) > 2 * kills, "too few labels were made for the kills to mean much"
    record_property("kills", kills)
    record_property("acknowledged labels", sum(line.startswith("label") for line in steps))
    record_property("lost", lost)


def _random_moment(rng: random.Random, worker: subprocess.Popen, said: list[str]) -> float:
    """Let the labeler do 2 to 12 steps (one time in ten: none, it may still open the store), and then how long to
    wait: up to twice as long as a step takes just now, so that any part of a step can be hit on any machine."""
    if rng.random() < 0.1:
        return rng.uniform(0, 0.2)
    _read_until(worker, said, "open")
    began, steps = time.monotonic(), rng.randint(2, 12)
    for _ in range(steps):
        _read_until(worker, said, ("label", "undo"))
    return rng.uniform(0, 2) * (time.monotonic() - began) / steps


def _read_until(worker: subprocess.Popen, said: list[str], word: str | tuple[str, ...]) -> str:
    while True:
        said.append(worker.stdout.readline())
        assert said[-1], "the worker is gone"
        if said[-1].startswith(word):
            return said[-1]


def _without_unsaid_undos(store: LabelStore, steps: list[str]) -> dict[int, tuple[str, int]]:
    """What was acknowledged and stands. An undo that was saved but whose process died before saying so is taken out."""
    labels = {int(words[1]): (words[2], int(words[3])) for words in map(str.split, steps) if words[0] == "label"}
    saved = {event.id: (event.item_id, event.data["best"]) for event in store.events(kind="label")}
    assert {event: saved.get(event) for event in labels} == labels
    undone = [event.undoes for event in store.events(kind="undo")]
    said = sum(line.startswith("undo") for line in steps)
    assert said <= len(undone)
    return {event: label for event, label in labels.items() if event not in undone}
