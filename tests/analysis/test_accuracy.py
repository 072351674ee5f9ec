"""Accuracy: the checker's arithmetic, and blind judgements through the labeling session."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.analysis import accuracy
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
