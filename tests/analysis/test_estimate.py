"""The automatic estimate: features by hand, nested cross-validation that leaks nothing, the fall back to the floor."""

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.analysis import estimate
from rlhf_lib.errors import KitError
from rlhf_lib.samples import samples_frame

SOURCE = "The mayor of Paris met 20 teachers on Monday. They talked about new schools for the city."


def test_features_by_hand():
    row = dict(zip(estimate.FEATURES, estimate.features(SOURCE, "The mayor of Rome met 30 teachers."), strict=True))
    assert row["contained_1grams"] == pytest.approx(5 / 7) and row["contained_2grams"] == pytest.approx(2 / 6)
    assert row["contained_numbers"] == 0 and row["contained_names"] == 0
    assert row["contained_content_words"] == pytest.approx(3 / 5)  # mayor, met, teachers of mayor rome met 30 teachers
    copied = dict(zip(estimate.FEATURES, estimate.features(SOURCE, SOURCE), strict=True))
    assert copied["novel_2grams_log"] == 0 and all(v == 1 for k, v in copied.items() if k != "novel_2grams_log")
    assert np.isfinite(estimate.features("", "")).all()


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
    fitted = estimate.fit_estimate(judgements())
    row = fitted.validation.iloc[0]
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
    table = estimate.estimate_accuracy(frame, fitted).set_index("model")
    assert table.loc["copier", "estimate"] > table.loc["inventor", "estimate"] + 0.1
    plain = estimate.estimate_accuracy(frame).set_index("model")
    assert plain.loc["copier", "estimate"] == 1 and plain.loc["inventor", "estimate"] == 0
    assert "no judgements" in plain.loc["copier", "method"]


def test_below_the_floor_the_floor_is_used_and_said(monkeypatch):
    validation = pd.DataFrame({"set": ["a", "b"], "auc": [0.9, 0.70], "floor_auc": [0.8, 0.71]})
    monkeypatch.setattr(estimate, "cross_validate", lambda *args: validation)
    fitted = estimate.fit_estimate(judgements(40))
    assert fitted.columns == (estimate.FLOOR,) and "did not reach" in fitted.method


def test_no_document_is_in_training_and_test():
    data = judgements(30)
    twice = pd.concat([data, data.assign(dataset="again")])
    assert len(np.unique(estimate._documents(twice))) == 30


def test_judgements_that_teach_nothing_are_refused():
    with pytest.raises(KitError, match="both labels"):
        estimate.fit_estimate(judgements(30).assign(label=1))
    with pytest.raises(KitError, match="5 different sources"):
        estimate.fit_estimate(judgements(30).assign(source="one source for all"))


def random_table(judgements, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(random.random((len(judgements), len(estimate.FEATURES))), columns=list(estimate.FEATURES))


def test_what_says_nothing_scores_at_chance():
    """Twelve random features and four choices: an estimate that chose on its test folds would read above chance."""
    aucs = [estimate.cross_validate(judgements(150, seed), random_table(range(150), seed)).auc[0] for seed in range(3)]
    assert 0.40 < np.mean(aucs) < 0.55, aucs


def test_a_documents_own_label_does_not_leak():
    """Features that name the document tell nothing about another one: only a leaking split could use them."""
    random = np.random.default_rng(1)
    data = pd.DataFrame([{"source": f"document {d} " + "word " * 30, "summary": f"s{k}", "label": label}
                         for d in range(60) for label in [int(random.random() < 0.5)] for k in range(4)])  # fmt: skip
    code = np.repeat(np.random.default_rng(2).random((60, len(estimate.FEATURES))), 4, axis=0)
    table = pd.DataFrame(code, columns=list(estimate.FEATURES))
    assert estimate.cross_validate(data, table).auc[0] < 0.62


def test_auc_within_parts_by_hand():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.2, 0.1, 0.9, 0.8])
    assert estimate._auc_within(labels, scores, np.array([0, 0, 1, 1])) == 1
    assert estimate._auc_within(labels, scores, np.array([0, 1, 1, 0])) == pytest.approx(0.5)
    assert np.isnan(estimate._auc_within(np.ones(2), np.ones(2), np.zeros(2)))


def test_transfer_is_to_a_dataset_never_seen():
    """In one dataset copying is accurate, in the other it is inaccurate: what one teaches is wrong about the other."""
    both = [judgements(100, 1).assign(dataset="a"), judgements(100, 2).assign(dataset="b")]
    data = pd.concat(both, ignore_index=True)
    data.loc[data["dataset"] == "b", "label"] = 1 - data["label"]
    table = estimate.feature_table(data["source"], data["summary"])
    got = estimate.cross_validate(data, table).set_index("set")
    assert (got["transfer_auc"] < 0.3).all() and got["floor_auc"]["a"] > 0.75
    assert np.isnan(estimate.cross_validate(judgements(60), table.iloc[:60])["transfer_auc"][0])
