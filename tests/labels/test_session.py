"""A labeler's session: what is shown, what is answered, undo, resume, the clock."""

import time
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from rlhf_lib.errors import KitError
from rlhf_lib.labels import LabelSession, LabelStore, import_labels


@pytest.fixture
def url(tmp_path) -> str:
    """SQLite is enough here: the two databases are held against each other in test_store.py."""
    return f"sqlite:///{tmp_path / 'labels.sqlite'}"


def one_of(store: LabelStore, kind: str, n: int) -> LabelSession:
    store.add_items(kind, [{"query": "Source.", "samples": list("abcd"[:n])}] * 2, kind=kind)
    return LabelSession(store, "ana", kind)


def test_texts_are_the_samples_in_the_order_given(store, comparisons):
    store.add_items("style", comparisons(20, meta={"k": 1}, round=2, policy="step-3", reference="R", source="S"))
    session = LabelSession(store, "ana", "style")
    for i in range(20):
        item = session.current()
        samples = [f"Sample {i}{letter}." for letter in "abcd"]
        assert item.texts == [samples[stored] for stored in item.order] and sorted(item.order) == [0, 1, 2, 3]
        assert (item.context, item.kind, item.meta, item.round) == (f"Query {i}.", "best_of_4", {"k": 1}, 2)
        assert (item.policy, item.reference, item.source) == ("step-3", "R", "S")
        session.answer(i % 4)
        row = store.labels_frame().iloc[-1]
        assert row["order"] == item.order and row["best_shown"] == i % 4 and row["best"] == item.order[i % 4]
        assert row[f"sample{row['best']}"] == item.texts[i % 4]


def test_positions_are_uniform_and_the_same_for_the_same_seed(store):
    orders, places = [], Counter()
    for name, seed in (("ana", 0), ("bob", 0), ("ana", 1)):
        session = LabelSession(store, name, "style", seed=seed)
        orders.append([session._shuffled(f"i{n}/0", 4) for n in range(400)])
        places.update((p, stored) for order in orders[-1] for p, stored in enumerate(order))
    assert orders[0] != orders[1] != orders[2] != orders[0]
    again = LabelSession(store, "ana", "style", seed=0)
    assert orders[0] == [again._shuffled(f"i{n}/0", 4) for n in range(400)]
    for position in range(4):
        assert chisquare([places[position, stored] for stored in range(4)]).pvalue > 1e-3


def test_a_new_session_goes_on_with_the_item_held_in_the_same_order(store, comparisons):
    store.add_items("style", comparisons(5))
    first = LabelSession(store, "ana", "style")
    first.current(), first.answer(0)
    held = first.current()
    assert LabelSession(store, "bob", "style").current().id != held.id
    again = LabelSession(store, "ana", "style", seed=99)
    assert again.current() == held
    again.answer(2)
    assert again.current().id not in {held.id} and again.stats()["done"] == 2
    shown = [event for event in store.events(kind="shown", labeler="ana") if event.item_id == held.id]
    assert [event.data["resumed"] for event in shown] == [False, True]


def test_undo_goes_back_step_by_step_and_shows_each_item_as_it_was(store, comparisons):
    store.add_items("style", comparisons(6))
    session = LabelSession(store, "ana", "style")
    assert session.undo() is False
    shown = []
    for step in ("answer", "answer", "skip", "answer"):
        shown.append(session.current())
        session.answer(1) if step == "answer" else session.skip()
    held = session.current()
    for item in reversed(shown):
        assert session.undo() is True
        assert session.current() == item
    assert session.undo() is False and len(store.labels_frame()) == 0
    for item in [*shown, held]:
        assert session.current() == item  # none lost, none out of turn
        session.answer(3)
    frame = store.labels_frame()
    assert (frame["best_shown"] == 3).all() and frame["comparison_id"].tolist() == [i.id for i in [*shown, held]]
    assert len(store.events(kind="label")) == 5 + 3, "what was undone stays in the record"


def test_an_undone_original_takes_its_repeat_back(store, comparisons):
    store.add_items("style", comparisons(3), repeats=1.0, repeat_gap=1)
    session = LabelSession(store, "ana", "style")
    first = session.current()
    session.answer(0)
    session.undo()
    assert session.current() == first
    session.skip()
    ids = []
    while (item := session.current()) is not None:
        ids.append(item.id)
        session.answer(0)
    assert first.id not in ids and Counter(ids) == {i: 2 for i in set(ids)} and len(ids) == 4


def test_the_repeat_of_an_undone_answer_goes_to_whoever_answers_instead(store, comparisons, clock):
    (only,) = store.add_items("style", comparisons(1), repeats=1.0)
    ana, bob = LabelSession(store, "ana", "style", lease_seconds=60), LabelSession(store, "bob", "style")
    ana.current(), ana.answer(0)
    ana.undo()
    clock.time += 61
    for _ in range(2):
        assert bob.current().id == only
        bob.answer(1)
    assert ana.current() is None and bob.current() is None
    assert store.labels_frame()["is_repeat"].tolist() == [False, True]


def test_a_skipped_item_goes_to_somebody_else_and_cannot_be_taken_back_from_them(store, comparisons):
    store.add_items("style", comparisons(1))
    ana, bob = LabelSession(store, "ana", "style"), LabelSession(store, "bob", "style")
    item = ana.current()
    ana.skip()
    assert ana.current() is None and ana.stats()["left"] == 0
    assert bob.current().id == item.id
    with pytest.raises(KitError, match="another labeler has it now"):
        ana.undo()
    bob.answer(0)
    assert store.labels_frame()["labeler"].tolist() == ["bob"]


def test_two_windows_of_one_labeler_save_one_answer(store, comparisons):
    store.add_items("style", comparisons(2))
    left, right = LabelSession(store, "ana", "style"), LabelSession(store, "ana", "style")
    assert left.current() == right.current()
    left.answer(0)
    with pytest.raises(KitError, match="already answered in another window"):
        right.answer(1)
    assert right.current() == left.current()
    assert store.labels_frame()["best_shown"].tolist() == [0]


def test_nothing_is_answered_twice_by_a_double_click(store, comparisons):
    store.add_items("style", comparisons(2))
    session = LabelSession(store, "ana", "style")
    session.current(), session.answer(0)
    with pytest.raises(KitError, match="call current"):
        session.answer(0)
    assert len(store.labels_frame()) == 1


def test_accuracy(store):
    session = one_of(store, "accuracy", 1)
    assert (session.current().context, session.current().texts) == ("Source.", ["a"])
    session.answer_accuracy("cant_tell")
    assert store.labels_frame()["verdict"].tolist() == ["cant_tell"]


def test_preference_is_kept_by_stored_index(store):
    session = one_of(store, "preference", 2)
    for side in (0, 1):
        item = session.current()
        session.answer_preference(side)
        assert store.labels_frame().iloc[-1]["best"] == item.order[side]


def test_description_and_correction_answer_their_own_kind(store):
    session = one_of(store, "description", 1)
    session.current(), session.describe(["untrue"], "No such town.")
    session.current(), session.describe("rude")
    frame = store.labels_frame()
    assert frame["tags"].tolist() == [["untrue"], ["rude"]] and frame["text"].tolist() == ["No such town.", ""]
    session = one_of(store, "correction", 1)
    session.current(), session.correct("A")
    assert store.labels_frame("correction")["text"].tolist() == ["A"]


def test_beside_a_comparison_they_are_asides_and_the_item_stays(store, comparisons):
    store.add_items("style", comparisons(1))
    session = LabelSession(store, "ana", "style")
    item = session.current()
    session.describe(["ambiguous"]), session.correct("Better."), session.flag("odd"), session.andon("all rude")
    assert session.current() == item and len(store.labels_frame()) == 0
    said = store.events(kind=["note", "correction", "flag", "andon"])
    assert [(event.kind, event.item_id, event.labeler) for event in said] == [
        (kind, item.id, "ana") for kind in ("note", "correction", "flag", "andon")
    ]
    assert said[3].data == {"reason": "all rude"} and said[0].data["tags"] == ["ambiguous"]
    session.answer(0)


@pytest.mark.parametrize(
    ("kind", "n", "answer", "sentence"),
    [
        ("best_of_4", 4, lambda s: s.answer(7), "from 0 to 3, not 7"),
        ("best_of_4", 4, lambda s: s.answer(-1), "from 0 to 3, not -1"),
        ("best_of_4", 4, lambda s: s.answer("2"), "from 0 to 3, not '2'"),
        ("best_of_4", 4, lambda s: s.answer(True), "from 0 to 3, not True"),
        ("best_of_4", 4, lambda s: s.answer_preference(0), "cannot be answered as preference"),
        ("preference", 2, lambda s: s.answer_preference(2), "from 0 to 1, not 2"),
        ("preference", 2, lambda s: s.answer(0), "cannot be answered as best_of_4"),
        ("accuracy", 1, lambda s: s.answer_accuracy("yes"), "one of true, false, cant_tell"),
        ("accuracy", 1, lambda s: s.answer_accuracy(["true"]), "one of true, false, cant_tell"),
        ("description", 1, lambda s: s.describe([], " "), "at least one tag"),
        ("description", 1, lambda s: s.describe([3], "x"), "A tag must be text"),
        ("description", 1, lambda s: s.describe([], "\ud800"), "not UTF-8"),
        ("correction", 1, lambda s: s.correct("a"), "changes nothing"),
        ("correction", 1, lambda s: s.correct(" "), "empty"),
        ("best_of_4", 4, lambda s: s.flag(7), "The flag's note must be text"),
    ],
)
def test_a_bad_answer_is_a_sentence_and_the_item_stays(store, kind, n, answer, sentence):
    session = one_of(store, kind, n)
    item = session.current()
    with pytest.raises(KitError, match=sentence):
        answer(session)
    assert session.current() == item and len(store.labels_frame()) == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labeler": ""}, "A labeler's name"),
        ({"labeler": "a\x00"}, "A labeler's name"),
        ({"queue": 3}, "A queue's name"),
        ({"kind": "rank"}, "Unknown kind"),
        ({"lease_seconds": 0}, "lease_seconds"),
    ],
)
def test_a_bad_session_is_refused(store, change, sentence):
    with pytest.raises(KitError, match=sentence):
        LabelSession(store, **{"labeler": "ana", "queue": "q", **change})


def test_the_clock_and_the_statistics(store, comparisons):
    store.add_items("style", comparisons(6, round=4, policy="p"))
    ticks = iter(np.cumsum([0, 2, 0, 4, 0, 6, 0, 8]))
    now = [0.0]
    session = LabelSession(store, "ana", "style", clock=lambda: now[0], ui_version="test 1")
    assert session.stats() == {
        "done": 0,
        "left": 6,
        "seconds_per_answer": None,
        "pace_per_minute": None,
        "seconds_left": None,
    }
    for _ in range(4):
        now[0] = float(next(ticks))
        session.current()
        now[0] = float(next(ticks))
        session.answer(0)
    frame = store.labels_frame()
    assert frame["seconds"].tolist() == [2, 4, 6, 8] and set(frame["ui_version"]) == {"test 1"}
    assert session.stats() == {
        "done": 4,
        "left": 2,
        "seconds_per_answer": 5.0,
        "pace_per_minute": 12.0,
        "seconds_left": 10.0,
    }


@pytest.mark.slow
def test_a_step_is_quick_with_20_000_labels_in_the_store(store, comparisons, record_property):
    """The store's part of the time from keystroke to next item: the labeler with all 20,000 labels goes on, with 30%
    of the items open to a second labeler, which is the most that a draw has to look through."""
    done = [
        {"query": row["query"], "best": 1, **{f"sample{i}": text for i, text in enumerate(row["samples"])}}
        for row in comparisons(20_000)
    ]
    import_labels(store, done, "style", labeler="ana")
    store.add_items("style", comparisons(2_000), overlap_share=0.3)
    session = LabelSession(store, "ana", "style")
    for _ in range(500):
        session.current(), session.answer(0)
    cpu, wall, stats = [], [], []
    session.current()
    for _ in range(50):
        began, began_cpu = time.perf_counter(), time.process_time()
        session.answer(1)
        session.current()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
        began = time.process_time()
        session.stats()
        stats.append(time.process_time() - began)
    record_property("median ms, answer to next item", round(1000 * float(np.median(wall)), 1))
    record_property("median CPU ms, answer to next item", round(1000 * float(np.median(cpu)), 1))
    record_property("median CPU ms, statistics", round(1000 * float(np.median(stats)), 1))
    assert np.median(cpu) < 0.05 and np.median(stats) < 0.05  # CPU time: other work on the machine must not fail a test


def test_what_is_left_is_counted_in_answers_that_this_labeler_can_give(store, comparisons):
    """An item planned for thirty people is one answer for each of them; a repeat is one more."""
    store.add_items("style", comparisons(10), overlap_share=1.0, overlap=30, repeats=0.2, repeat_gap=1)
    session = LabelSession(store, "ana", "style")
    assert session.stats()["left"] == 10
    given = 0
    while session.current() is not None:
        left = session.stats()["left"]
        session.answer(0)
        given += 1
        assert session.stats()["left"] in (left - 1, left)  # the same where a repeat has become due
    assert given == 12 and session.stats()["left"] == 0 and session.stats()["done"] == 12
