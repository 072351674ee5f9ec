"""ROUGE against rouge-score's own tokens and one process, and hand counts."""

import numpy as np
import pytest
from rouge_score import rouge_scorer

from rlhf_lib.analysis import baselines, rouge, text
from rlhf_lib.samples import samples_frame

REFERENCE = "Police killed the gunman. The running mayors' speeches ended, officials said 2,000 times."
SUMMARY = "The gunman was killed by police! Officials were saying the mayor's speech ran on."


def test_equals_the_package_with_its_own_stemming():
    plain = rouge_scorer.RougeScorer(list(rouge.METRICS), use_stemmer=True)
    pairs = [(REFERENCE, SUMMARY), (SUMMARY, REFERENCE), (REFERENCE, ""), ("", ""), (REFERENCE, REFERENCE)]
    ours = rouge.rouge_scores(*zip(*pairs, strict=True))
    for row, pair in zip(ours, pairs, strict=True):
        lines = ["\n".join(text.sentences(side)) for side in pair]
        assert row == pytest.approx([score.fmeasure for score in plain.score(*lines).values()], abs=1e-12)


def test_by_hand():
    r1, r2, rl, lsum = rouge.rouge_scores(["the cat sat"], ["the cat ran"])[0]
    assert (r1, r2, rl, lsum) == pytest.approx((2 / 3, 1 / 2, 2 / 3, 2 / 3))


def test_two_processes_give_the_same(monkeypatch):
    monkeypatch.setattr(rouge, "WORTH_A_PROCESS", 300)
    references, texts = [f"{REFERENCE} {i % 7}" for i in range(700)], [f"{SUMMARY} {i % 5}" for i in range(700)]
    assert np.array_equal(rouge.rouge_scores(references, texts, 2), rouge.rouge_scores(references, texts, 1))


def test_rows_without_a_reference_are_left_out_and_lead3_is_a_model_like_others():
    frame = samples_frame(
        [
            {
                "task": "cnndm",
                "model": "m",
                "query": "One two. Three. Four. Five.",
                "reference": "one two",
                "response": "one",
            },
            {"task": "cnndm", "model": "m", "query": "X y.", "reference": " ", "response": "x y"},
            {"task": "cnndm", "model": "m", "query": "Z.", "response": "z"},
        ]
    )
    everything = baselines.with_baselines(frame)
    assert everything["model"].tolist() == ["m"] * 3 + ["reference"] + ["lead-3"] * 3
    scores = rouge.score_samples(everything).groupby("model").mean(numeric_only=True)
    assert scores.loc["m", "rouge1"] == pytest.approx(2 / 3)
    assert scores.loc["reference", "rouge1"] == 1
    assert scores.loc["lead-3", "rouge1"] == pytest.approx(2 / 3)  # 2 of 4 words, 2 of 2
    table = rouge.rouge_table(rouge.score_samples(everything))
    assert table["score"].between(0, 100).all() and (table["n"] == 1).all()


def test_nothing_of_the_sampling_stays_on_a_baseline():
    frame = samples_frame(
        [
            {
                "task": "t",
                "model": "m",
                "query": "A b. C.",
                "reference": "r",
                "response": "full text",
                "response_truncated": "full",
                "temperature": 0.7,
                "seed": 1,
                "penalised": True,
                "starts_with_preamble": True,
                "facts": {"a": 1},
            }
        ]
    )
    row = baselines.lead3_rows(frame, max_words=1).iloc[0]
    assert row["response"] == "A" and row[["response_truncated", "temperature", "seed", "penalised"]].isna().all()
    assert row["facts"] == '{"a": 1}' and row["starts_with_preamble"] and row["reference"] == "r"


def test_no_reference_at_all():
    frame = samples_frame([{"task": "t", "model": "m", "query": "q", "response": "r"}])
    assert len(rouge.score_samples(frame)) == 0 and len(rouge.rouge_table(rouge.score_samples(frame))) == 0
