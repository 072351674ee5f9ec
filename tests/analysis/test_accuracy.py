"""Accuracy: the checker's arithmetic, and blind judgements through the labeling session."""

from itertools import pairwise
from random import Random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.analysis import accuracy
from rlhf_lib.corpora import tinyworld, tinyworld_check
from rlhf_lib.labels import LabelSession, LabelStore
from rlhf_lib.samples import samples_frame


def test_checked_accuracy_counts_silence_as_untrue():
    def check(summary, facts):
        return SimpleNamespace(accurate=summary == facts["truth"], checkable=summary != "hello")

    rows = [
        {"task": "cnndm", "model": "m", "query": f"q{i}", "response": r, "facts": {"truth": "yes"}}
        for i, r in enumerate(("yes", "no", "hello", "yes"))
    ]
    rows.append({"task": "cnndm", "model": "m", "query": "q", "response": "no facts known"})
    table = accuracy.checked_accuracy(samples_frame(rows), check).iloc[0]
    assert (table["accurate"], table["nothing_checkable"], table["n"]) == (0.5, 0.25, 4)
    assert table["low"] < 0.5 < table["high"]
    assert accuracy.checked_accuracy(samples_frame(rows[-1:]), check).empty


def test_stated_facts_are_held_one_by_one_against_the_source():
    article = tinyworld.article(seed=5, index=0, split="test")
    facts, first = article.facts, tinyworld_check.grammar.sentences_of(article.reference)[0]
    wording = next(w for w in tinyworld_check.templates_of(facts["kind"]) if tinyworld_check.grammar.match(w, first))
    own = tinyworld_check.grammar.match(wording, first)
    slot = next(iter(own))
    drawn = (tinyworld_check.grammar.draw(slot, random) for random in [Random(1)] * 50)
    one_wrong = tinyworld_check.grammar.fill(wording, own | {slot: next(word for word in drawn if word != own[slot])})
    others = (tinyworld.article(seed=5, index=k, split="test") for k in range(1, 50))
    another = next(each for each in others if each.facts["kind"] != facts["kind"])
    other = tinyworld_check.grammar.sentences_of(another.reference)[0]
    opened = (tinyworld.article(seed=5, index=k, split="test") for k in range(50))
    preamble = tinyworld_check.grammar.sentences_of(next(each.text for each in opened if each.starts_with_preamble))[0]
    rows = [
        {"task": "cnndm", "model": "m", "query": article.text, "response": said, "facts": facts}
        for said in (first, one_wrong, "Water falls up. " + first, "", other, preamble)
    ]
    rows.append({"task": "cnndm", "model": "m", "query": "q", "response": "no facts known"})
    stated = accuracy.stated_facts(samples_frame(rows).assign(query_id=[f"q{k}" for k in range(7)]))
    by_row = {q: group for q, group in stated.groupby("query_id")}
    assert set(by_row) == {"q0", "q1", "q2", "q4"}, "a preamble states nothing, true or not"
    assert by_row["q4"].slot.tolist() == [accuracy.ELSEWHERE] and not by_row["q4"].right.any()
    assert by_row["q0"].right.all() and len(by_row["q0"]) == len(own)
    assert set(by_row["q0"].slot) == {name.rstrip("0123456789") for name in own}
    garbled, whole = (by_row["q2"][by_row["q2"].sentence == n] for n in (0, 1))
    assert garbled.slot.tolist() == [accuracy.GARBLED] and not garbled.right.any() and whole.right.all()
    wrong = by_row["q1"]
    assert wrong[~wrong.right].slot.tolist() == [slot.rstrip("0123456789")] and len(wrong) == len(own)


def rows_to_judge(count=50):
    return samples_frame(
        {"task": "tldr", "model": m, "query": f"q{i}", "response": f"{m}{i}", "response_truncated": f"{m}{i}!"}
        for m in ("zero-shot", "fine-tuned")
        for i in range(count)
    )


def test_blind_items_have_every_model_alike_and_are_shuffled():
    queue, items = accuracy.blind_items(rows_to_judge(), per_model=30, seed=1)
    models = [item["meta"]["model"] for item in items]
    assert sorted(models) == ["fine-tuned"] * 30 + ["zero-shot"] * 30 and models != sorted(models)
    assert 2 < sum(a != b for a, b in pairwise(models)) < 60
    assert all(item["samples"][0].endswith("!") for item in items)
    assert not any(model in item["id"] + item["query"] for item in items for model in models), "blind"
    assert (queue, items) == accuracy.blind_items(rows_to_judge(), per_model=30, seed=1)
    assert queue != accuracy.blind_items(rows_to_judge(40), per_model=30, seed=1)[0]


def test_verdicts_go_through_the_session_and_come_back_with_their_model(tmp_path):
    store = LabelStore(tmp_path / "labels.sqlite")
    queue, items = accuracy.blind_items(rows_to_judge(), per_model=5)
    store.add_items(queue, items, kind="accuracy")
    session = LabelSession(store, "Ana", queue)
    while (item := session.current()) is not None:
        session.answer_accuracy("true" if item.texts[0].startswith("fine") else "cant_tell")
    table = accuracy.judged_accuracy(accuracy.judgements_of(store.labels_frame(queue))).set_index("model")
    assert table["accurate"].to_dict() == {"fine-tuned": 1.0, "zero-shot": 0.0} and (table["n"] == 5).all()
    assert accuracy.judgements_of(store.labels_frame(queue)).groupby("model")["cant_tell"].sum()["zero-shot"] == 5
    store.close()


def test_judged_accuracy_stands_beside_the_posts():
    judged = pd.DataFrame({"task": "tldr", "model": "fine-tuned", "accurate": [True] * 28 + [False] * 2})
    row = accuracy.judged_accuracy(judged).iloc[0]
    assert row["accurate"] == pytest.approx(28 / 30) and row["published"] == pytest.approx(26 / 30) and row["n"] == 30
    assert np.isnan(accuracy.published_accuracy("cnndm", "mine")) and np.isnan(
        accuracy.published_accuracy("other", "fine-tuned")
    )
