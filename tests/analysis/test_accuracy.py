"""Accuracy: the checker's arithmetic, blind sheets, features by hand, and an estimate that falls back to its floor."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.analysis import accuracy
from rlhf_lib.errors import KitError
from rlhf_lib.samples import samples_frame

SOURCE = "The mayor of Paris met 20 teachers on Monday. They talked about new schools for the city."


def test_checked_accuracy_counts_silence_as_untrue():
    def check(summary, facts):
        return SimpleNamespace(accurate=summary == facts["truth"], checkable=summary != "hello")

    rows = [
        {"task": "cnndm", "model": "m", "query": "q", "response": r, "facts": {"truth": "yes"}}
        for r in ("yes", "no", "hello", "yes")
    ]
    rows.append({"task": "cnndm", "model": "m", "query": "q", "response": "no facts known"})
    table = accuracy.checked_accuracy(samples_frame(rows), check).iloc[0]
    assert (table["accurate"], table["nothing_checkable"], table["n"]) == (0.5, 0.25, 4)
    assert table["low"] < 0.5 < table["high"]


def test_blind_sheet_has_every_model_alike_and_is_shuffled():
    rows = [
        {"task": "t", "model": m, "query": f"q{i}", "response": f"{m}{i}", "response_truncated": f"{m}{i}!"}
        for m in "ab"
        for i in range(50)
    ]
    sheet = accuracy.blind_sheet(samples_frame(rows), per_model=30, seed=1)
    assert sheet["model"].value_counts().tolist() == [30, 30] and sheet["item"].tolist() == list(range(60))
    assert sheet["summary"].str.endswith("!").all()
    assert 2 < (sheet["model"] != sheet["model"].shift()).sum() < 60
    pd.testing.assert_frame_equal(sheet, accuracy.blind_sheet(samples_frame(rows), per_model=30, seed=1))


def test_judged_accuracy_stands_beside_the_posts():
    judged = pd.DataFrame({"task": "tldr", "model": "fine-tuned", "accurate": [True] * 28 + [False] * 2})
    row = accuracy.judged_accuracy(judged).iloc[0]
    assert row["accurate"] == pytest.approx(28 / 30) and row["published"] == pytest.approx(26 / 30) and row["n"] == 30
    assert np.isnan(accuracy.published_accuracy("cnndm", "mine")) and np.isnan(
        accuracy.published_accuracy("other", "fine-tuned")
    )


def test_features_by_hand():
    row = dict(zip(accuracy.FEATURES, accuracy.features(SOURCE, "The mayor of Rome met 30 teachers."), strict=True))
    assert row["contained_1grams"] == pytest.approx(5 / 7) and row["contained_2grams"] == pytest.approx(2 / 6)
    assert row["contained_numbers"] == 0 and row["contained_names"] == 0
    assert row["contained_content_words"] == pytest.approx(3 / 5)  # mayor, met, teachers of mayor rome met 30 teachers
    copied = dict(zip(accuracy.FEATURES, accuracy.features(SOURCE, SOURCE), strict=True))
    assert copied["novel_2grams_log"] == 0 and all(v == 1 for k, v in copied.items() if k != "novel_2grams_log")
    assert np.isfinite(accuracy.features("", "")).all()


def judgements(n=120, seed=0):
    """People who call a summary accurate when all its bigrams are in the source, 85 times of 100."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        source = " ".join(f"w{k}" for k in random.integers(0, 500, 60))
        good = random.random() < 0.5
        summary = " ".join(source.split()[5:15] if good else random.permutation(source.split())[:10])
        rows.append({"source": source, "summary": summary, "label": int(good != (random.random() < 0.15))})
    return pd.DataFrame(rows)


def test_estimate_learns_what_people_reward():
    estimate = accuracy.fit_estimate(judgements())
    row = estimate.validation.iloc[0]
    assert row["auc"] > 0.75 and row["agreement"] > 0.75
    frame = samples_frame(
        [
            {"task": "t", "model": m, "query": SOURCE, "response": r}
            for m, r in (
                ("copier", "The mayor of Paris met 20 teachers on Monday."),
                ("inventor", "A fire in Rome killed 7 dogs."),
            )
        ]
    )
    table = accuracy.estimate_accuracy(frame, estimate).set_index("model")
    assert table.loc["copier", "estimate"] > table.loc["inventor", "estimate"] + 0.1
    plain = accuracy.estimate_accuracy(frame).set_index("model")
    assert plain.loc["copier", "estimate"] == 1 and plain.loc["inventor", "estimate"] == 0
    assert "no judgements" in plain.loc["copier", "method"]


def test_below_the_floor_the_floor_is_used_and_said(monkeypatch):
    validation = pd.DataFrame({"set": ["a", "b"], "auc": [0.9, 0.70], "floor_auc": [0.8, 0.71]})
    monkeypatch.setattr(accuracy, "cross_validate", lambda *args: validation)
    estimate = accuracy.fit_estimate(judgements(40))
    assert estimate.columns == (accuracy.FLOOR,) and "did not reach" in estimate.method


def test_no_document_is_in_training_and_test():
    data = judgements(30)
    twice = pd.concat([data, data.assign(dataset="again")])
    assert len(np.unique(accuracy._documents(twice))) == 30


def test_judgements_that_teach_nothing_are_refused():
    with pytest.raises(KitError, match="both labels"):
        accuracy.fit_estimate(judgements(30).assign(label=1))
    with pytest.raises(KitError, match="5 different sources"):
        accuracy.fit_estimate(judgements(30).assign(source="one source for all"))
