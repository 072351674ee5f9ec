"""The store: who is given what, and what the record says afterwards. Each test on SQLite and on PostgreSQL."""

import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from rlhf_lib.errors import KitError
from rlhf_lib.labels import Event, LabelSession, LabelStore
from rlhf_lib.labels.frames import LABEL_COLUMNS, disagreements


def label_all(session: LabelSession, pick: int = 0) -> list[str]:
    """Answer until nothing is left; the ids in the order shown."""
    ids = []
    while (item := session.current()) is not None:
        ids.append(item.id)
        session.answer(pick)
    return ids


def agrees(store: LabelStore) -> bool:
    """Whether the working tables are the fold of the events."""
    with store.read() as conn:
        return disagreements(conn) == []


def test_items_come_in_order_once_each(store, comparisons):
    ids = store.add_items("style", comparisons(7))
    assert label_all(LabelSession(store, "ana", "style")) == ids
    assert label_all(LabelSession(store, "bob", "style")) == []
    assert store.count_items("style") == 7 and store.count_items("other") == 0
    assert agrees(store)


def test_two_labelers_never_hold_the_same_item(store, comparisons):
    store.add_items("style", comparisons(10))
    ana, bob = LabelSession(store, "ana", "style"), LabelSession(store, "bob", "style")
    seen = []
    for _ in range(5):
        pair = ana.current().id, bob.current().id
        assert pair[0] != pair[1]
        seen += pair
        ana.answer(1)
        bob.answer(2)
    assert ana.current() is None and len(set(seen)) == 10


def test_an_expired_lease_goes_to_the_next_labeler_and_the_late_answer_is_refused(store, comparisons, clock):
    store.add_items("style", comparisons(2))
    ana = LabelSession(store, "ana", "style", lease_seconds=60, clock=lambda: 0.0)
    bob = LabelSession(store, "bob", "style", lease_seconds=60, clock=lambda: 0.0)
    first = ana.current().id
    clock.time += 59
    assert bob.current().id != first
    bob.answer(0)
    clock.time += 2
    assert bob.current().id == first
    with pytest.raises(KitError, match="another labeler has it"):
        ana.answer(0)
    bob.answer(3)
    assert ana.current() is None
    assert store.labels_frame("style")["labeler"].tolist() == ["bob", "bob"]


def test_a_late_answer_counts_while_nobody_else_was_given_the_item(store, comparisons, clock):
    store.add_items("style", comparisons(1))
    ana = LabelSession(store, "ana", "style", lease_seconds=60, clock=lambda: 0.0)
    ana.current()
    clock.time += 3600
    ana.answer(0)
    assert len(store.labels_frame("style")) == 1


def test_current_renews_the_lease(store, comparisons, clock):
    store.add_items("style", comparisons(1))
    ana = LabelSession(store, "ana", "style", lease_seconds=60, clock=clock)
    bob = LabelSession(store, "bob", "style", lease_seconds=60)
    for _ in range(5):
        ana.current()
        clock.time += 40
    assert bob.current() is None
    clock.time += 61
    assert bob.current() is not None
    assert ana.current() is None  # hers no longer


def test_overlap_is_as_planned(store, comparisons):
    store.add_items("style", comparisons(30), overlap_share=0.4, overlap=3)
    sessions = [LabelSession(store, name, "style") for name in ("ana", "bob", "cyd", "dee")]
    while any([session.current() and session.answer(0) for session in sessions]):
        pass
    frame = store.labels_frame("style")
    per_item = frame.groupby("comparison_id")["labeler"].agg(["size", "nunique"])
    assert Counter(per_item["size"]) == {1: 18, 3: 12}
    assert (per_item["size"] == per_item["nunique"]).all()


def test_a_lone_labeler_gets_an_overlapped_item_once(store, comparisons):
    store.add_items("style", comparisons(10), overlap_share=1.0, overlap=2)
    session = LabelSession(store, "ana", "style")
    assert session.stats()["left"] == 10  # twenty places are open, and she can answer each item once
    assert len(label_all(session)) == 10
    assert session.stats()["left"] == 0


def test_repeats_come_back_to_the_same_labeler_after_the_gap(store, comparisons):
    ids = store.add_items("style", comparisons(40), repeats=0.25, repeat_gap=5)
    ana, bob = LabelSession(store, "ana", "style"), LabelSession(store, "bob", "style")
    for _ in range(15):
        ana.current(), ana.answer(0)
        bob.current(), bob.answer(0)
    label_all(ana)
    label_all(bob)
    frame = store.labels_frame("style")
    assert sorted(frame[~frame["is_repeat"]]["comparison_id"]) == sorted(ids)
    again = frame[frame["is_repeat"]]
    assert len(again) == 10
    for labeler, mine in frame.groupby("labeler"):
        order = mine.reset_index(drop=True)
        for at, row in order[order["is_repeat"]].iterrows():
            first = order.index[(order["comparison_id"] == row["comparison_id"]) & ~order["is_repeat"]]
            assert len(first) == 1, f"{labeler} was shown a repeat of what somebody else answered"
            assert at - first[0] > 5 or len(order) - at <= 10  # the last ones come early: nothing else is left
    assert agrees(store)


def test_repeats_are_shuffled_anew(store, comparisons):
    store.add_items("style", comparisons(60), repeats=1.0, repeat_gap=1)
    label_all(LabelSession(store, "ana", "style"))
    frame = store.labels_frame("style")
    orders = frame.groupby("comparison_id")["order"].agg(lambda shown: len({tuple(order) for order in shown}))
    assert (orders == 2).mean() > 0.8  # by chance 1 in 24 is the same


def test_gold_items_are_spread_evenly_and_known_in_the_frame(store, comparisons):
    gold = [{"query": f"Gold {i}", "samples": ["w", "x", "y", "z"], "gold": 2} for i in range(4)]
    ids = store.add_items("style", comparisons(40), gold=gold, overlap=2)
    label_all(LabelSession(store, "ana", "style"))
    frame = store.labels_frame("style")
    places = [ids.index(i) for i in frame[frame["gold_best"].notna()]["comparison_id"]]
    assert [round(place / 44, 1) for place in places] == [0.1, 0.4, 0.6, 0.9]
    assert frame["gold"].dropna().tolist() == [2] * 4


def test_a_session_of_one_kind_leaves_the_others(store, comparisons):
    store.add_items("mixed", comparisons(3))
    store.add_items("mixed", [{"query": "Text.", "samples": ["A summary."]}] * 2, kind="accuracy")
    session = LabelSession(store, "ana", "mixed", kind="accuracy")
    for _ in range(2):
        assert session.current().kind == "accuracy"
        session.answer_accuracy("cant_tell")
    assert session.current() is None
    assert len(label_all(LabelSession(store, "ana", "mixed"))) == 3


def test_the_frame_can_be_asked_of_a_window_and_a_round(store, comparisons, clock):
    store.add_items("style", comparisons(4, round=1, policy="base"))
    store.add_items("style", comparisons(4, round=2, policy="step-100"))
    session = LabelSession(store, "ana", "style")
    for _ in range(8):
        session.current(), session.answer(0)
        clock.time += 10
    start = 1_000_000.0
    assert len(store.labels_frame("style", since=start + 20, until=start + 50)) == 3
    assert len(store.labels_frame("style", since=datetime.fromtimestamp(start + 20, UTC))) == 6
    assert len(store.labels_frame("style", until="1970-01-12T13:46:50")) == 1  # 1,000,010 s after 1970, not included
    second = store.labels_frame(round=2)
    assert second["policy"].tolist() == ["step-100"] * 4
    assert list(second.columns) == list(LABEL_COLUMNS)
    assert list(store.labels_frame("empty").columns) == list(LABEL_COLUMNS)
    with pytest.raises(KitError, match="since is no moment"):
        store.labels_frame(since="yesterday")


def test_asides_are_appended_and_read(store, clock):
    pulled = store.append(Event("andon", queue="style", labeler="ana", data={"reason": "all of it is rude"}))
    clock.time += 5
    store.append(Event("andon_release", queue="style", labeler="ben"))
    assert store.events(kind="andon") == [pulled] and pulled.at == 1_000_000.0 and pulled.id is not None
    assert [event.kind for event in store.events(kind=["andon", "andon_release"], since=clock.time)] == [
        "andon_release"
    ]
    for kind in ("label", "undo", "shown", "skip", "vote"):
        with pytest.raises(KitError, match="cannot be appended"):
            store.append(Event(kind))
    with pytest.raises(KitError, match="Unknown kind"):
        store.events(kind="vote")
    with pytest.raises(KitError, match="NaN|nan"):
        store.append(Event("note", data={"x": float("nan")}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"samples": ["a", "b", "c"]}, "Item 2, field 'samples' must be a list of 4"),
        ({"samples": ["a", "b", "c", None]}, r"Item 2, field 'samples\[3\]' must be text"),
        ({"query": 7}, "Item 2, field 'query' must be text"),
        ({"query": "\udcff"}, "Item 2, field 'query' holds bytes that are not UTF-8"),
        ({"gold": 7}, "Item 2, field 'gold' must be a whole number from 0 to 3"),
        ({"gold": True}, "Item 2, field 'gold' must be a whole number"),
        ({"round": -1}, "Item 2, field 'round'"),
        ({"meta": {"score": float("nan")}}, "Item 2, field 'meta'.score holds nan"),
        ({"samplse": []}, "Item 2, field 'samplse' is not known"),
        ({"id": "taken"}, "'taken' is given twice"),
    ],
)
def test_a_bad_item_is_named_and_nothing_is_added(store, comparisons, change, sentence):
    rows = comparisons(3)
    rows[0]["id"] = "taken"
    rows[1] |= change
    with pytest.raises(KitError, match=sentence):
        store.add_items("style", rows)
    assert store.count_items("style") == 0


@pytest.mark.parametrize(
    "plan", [{"overlap_share": 1.5}, {"repeats": -0.1}, {"overlap": 0}, {"repeat_gap": True}, {"kind": "rank"}]
)
def test_a_bad_plan_is_refused(store, comparisons, plan):
    with pytest.raises(KitError, match=next(iter(plan))):
        store.add_items("style", comparisons(2), **plan)


def test_text_comes_back_as_it_was(store):
    odd = ["<script>alert(1)</script>", "\u202eright to left", "zero\u200bwidth \x1b[31mred", "nul \x00 and 😀 \r\n"]
    store.add_items("odd", [{"query": "\x00", "samples": odd, "meta": {"a": [1, None, {"b": "\x00"}]}}])
    session = LabelSession(store, "ана 😀", "odd")
    item = session.current()
    assert [item.texts[item.order.index(i)] for i in range(4)] == odd
    session.answer(0)
    row = store.labels_frame("odd").iloc[0]
    assert [row[f"sample{i}"] for i in range(4)] == odd and row["meta"] == item.meta and row["labeler"] == "ана 😀"


@pytest.mark.parametrize("seed", range(3))
def test_any_mix_of_steps_agrees_with_a_plain_model(store, comparisons, clock, seed):
    """Random answers, skips, undos, reloads and waits of three labelers, against lists kept beside them."""
    rng = random.Random(seed)
    copies = 2
    store.add_items("q", comparisons(25), overlap_share=0.5, overlap=copies, repeats=0.3, repeat_gap=2)
    new = lambda name: LabelSession(store, name, "q", lease_seconds=100, clock=lambda: 0.0)  # noqa: E731
    sessions = {name: new(name) for name in ("ana", "bob", "cyd")}
    stands: dict[str, list] = {name: [] for name in sessions}  # what each labeler could still undo, oldest first
    for _ in range(250):
        name = rng.choice(list(sessions))
        step = rng.choices(["answer", "skip", "undo", "reload", "wait"], [60, 8, 12, 10, 10])[0]
        session = sessions[name]
        try:
            if step == "reload":
                sessions[name] = new(name)
            elif step == "wait":
                clock.time += 60
            elif step == "undo":
                assert session.undo() == bool(stands[name])
                if stands[name]:
                    undone = stands[name].pop()
                    assert session.current().slot_id == undone[1]
            elif (item := session.current()) is not None:
                mine = [entry for entry in stands[name] if entry[2] == item.id]
                assert bool([entry for entry in mine if entry[0] == "answer"]) == item.is_repeat
                assert not [entry for entry in mine if entry[0] == "skip"]
                pick = rng.randrange(4)
                session.answer(pick) if step == "answer" else session.skip()
                stands[name].append((step, item.slot_id, item.id, item.order[pick]))
        except KitError as error:
            assert "another labeler has it" in str(error)
    expected = Counter((n, e[2], e[3]) for n, steps in stands.items() for e in steps if e[0] == "answer")
    frame = store.labels_frame("q")
    assert Counter(zip(frame["labeler"], frame["comparison_id"], frame["best"], strict=True)) == expected
    assert frame[~frame["is_repeat"]].groupby("comparison_id").size().max() <= copies
    assert agrees(store)


def test_an_older_store_of_another_layout_is_refused(tmp_path):
    LabelStore(tmp_path / "a.sqlite").close()
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute("update kit set value = '0'")
    with pytest.raises(KitError, match="has layout 0"):
        LabelStore(tmp_path / "a.sqlite")


def test_what_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, not a database.\n" * 100)
    with pytest.raises(KitError, match="not a database"):
        LabelStore(path)
    assert path.read_text().startswith("These are my notes")


@pytest.mark.parametrize(
    "bad",
    ["postgresql+psycopg://ana:s3cret@localhost:1/none", "mysql://ana:s3cret@host/x", "sqlite://", "x://:s3cret@"],
)
def test_a_url_that_cannot_be_opened_is_refused_without_its_password(bad):
    with pytest.raises(KitError) as caught:
        LabelStore(bad)
    assert "s3cret" not in str(caught.value)


def test_the_environment_names_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_LABELS_URL", f"sqlite:///{tmp_path}/team.sqlite")
    assert LabelStore().url.endswith("/team.sqlite")
    monkeypatch.delenv("RLHF_LABELS_URL")
    from rlhf_lib.labels.database import default_url

    assert default_url().endswith("/data/labels/labels.sqlite")


def test_a_failed_write_is_a_sentence_and_changes_nothing(tmp_path, comparisons):
    store = LabelStore(tmp_path / "labels.sqlite")
    store.add_items("style", comparisons(2))
    session = LabelSession(store, "ana", "style")
    item = session.current()
    with store.write() as conn:
        conn.exec_driver_sql("create trigger full before insert on events begin select raise(abort, 'disk full'); end")
    with pytest.raises(KitError, match="disk full"):
        session.answer(0)
    with store.write() as conn:
        conn.exec_driver_sql("drop trigger full")
    assert len(store.labels_frame("style")) == 0
    assert session.current().id == item.id  # still hers, to be answered again
    session.answer(1)
    assert len(store.labels_frame("style")) == 1


def test_sqlite_is_set_up_to_survive_a_power_cut(tmp_path):
    """A kill cannot show the difference, only a power cut could: so the settings themselves are looked at."""
    with LabelStore(tmp_path / "labels.sqlite").read() as conn:
        assert conn.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert conn.exec_driver_sql("pragma synchronous").scalar() == 2  # FULL: the log is synced at every commit


def test_the_room_imports_no_torch():
    heavy = "{'torch', 'transformers', 'pandas', 'datasets'}"
    subprocess.run(
        [sys.executable, "-c", f"import sys, rlhf_lib.labels; assert not {heavy} & set(sys.modules)"], check=True
    )


def test_of_many_that_fill_a_queue_at_once_one_does(url, comparisons):
    """A class opens the notebook at the same moment: all find the queue empty, and one fills it."""
    stores = [LabelStore(url) for _ in range(8)]
    start = threading.Barrier(len(stores))

    def fill(store):
        assert store.count_items("q") == 0
        start.wait()
        return store.add_items("q", comparisons(5), only_if_empty=True)

    with ThreadPoolExecutor(len(stores)) as pool:
        added = list(pool.map(fill, stores))
    assert sorted(map(len, added)) == [0] * 7 + [5] and stores[0].count_items("q") == 5
    assert stores[0].add_items("q", comparisons(1), only_if_empty=True) == []
    assert len(stores[0].add_items("q", comparisons(1))) == 1
    for store in stores:
        store.close()
