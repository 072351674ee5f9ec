"""The arithmetic of preferences: pairs, majorities, ties, agreement, copy preference."""

import math

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.analysis import preference
from rlhf_lib.errors import KitError
from rlhf_lib.samples import samples_frame


def comparisons(*rows):
    return pd.DataFrame(rows, columns=["a", "b", "choice"])


def test_matrix_counts_ties_half_and_both_ways():
    table = preference.preference_matrix(
        comparisons(("x", "y", "a"), ("x", "y", "tie"), ("y", "x", "a"), ("x", "y", "a"))
    ).set_index(["a", "b"])
    assert table.loc[("x", "y"), "share"] == 2.5 / 4 and table.loc[("y", "x"), "share"] == 1.5 / 4
    assert table.loc[("x", "y"), ["n", "ties"]].tolist() == [4, 0.25]


def test_an_unknown_choice_is_said():
    with pytest.raises(KitError, match="not left"):
        preference.preference_matrix(comparisons(("x", "y", "left")))


def frame_of(models, queries=40):
    return samples_frame(
        [
            {"task": "cnndm", "model": m, "query": f"q{i}", "response": f"{m} {i}"}
            for m in models
            for i in range(queries)
        ]
    )


def test_models_are_compared_on_shared_contexts_whatever_the_order_shown():
    shown = []

    def longest(query, responses):
        shown.append(responses)
        return int(np.argmax([len(r) for r in responses]))

    frame = frame_of(["short", "longest one"])
    table = preference.compare_models(frame[frame["query"] != "q3"], ["short", "longest one"], longest)
    assert len(table) == 39 and set(table["choice"]) == {"b"}
    first_shown = np.mean([r[0].startswith("short") for r in shown])
    assert 0.2 < first_shown < 0.8


def test_a_labeler_who_always_takes_the_first_shows_no_preference():
    table = preference.compare_models(frame_of(["x", "y"], 400), ["x", "y"], lambda query, responses: 0)
    assert 0.4 < preference.preference_matrix(table).iloc[0]["share"] < 0.6


def test_majority_of_several_judges():
    votes = iter([0, 0, 1] * 100)
    frame = frame_of(["x", "y"], 1)
    flips = np.random.default_rng(0).random(3) < 0.5
    for_a = sum(vote == (1 if flipped else 0) for vote, flipped in zip([0, 0, 1], flips, strict=True))
    table = preference.compare_models(frame, ["x", "y"], lambda q, r: next(votes), judges=3, seed=0)
    assert table["choice"].tolist() == ["a" if for_a >= 2 else "b"]
    even = preference.compare_models(
        frame, ["x", "y"], lambda q, r: r.index("x 0") if next(votes) else r.index("y 0"), judges=2
    )
    assert even["choice"][0] in ("tie", "a", "b")


def test_best_of_four_says_the_best_beats_each_other_model():
    labels = pd.DataFrame({"query_id": ["1"], "models": [["x", "y", "x", "z"]], "best": [2]})
    assert preference.comparisons_from_best(labels)[["a", "b"]].to_numpy().tolist() == [["x", "y"], ["x", "z"]]


def test_agreement_is_the_share_of_agreeing_pairs():
    rows = [(1, "p", 0), (1, "q", 0), (1, "r", 1), (2, "p", 3), (2, "q", 3), (3, "p", 1)]
    verdicts = pd.DataFrame(rows, columns=["item", "labeler", "verdict"])
    assert preference.agreement(verdicts).value == pytest.approx((1 + 1) / (3 + 1))
    assert preference.chance_agreement(verdicts) == pytest.approx((4 + 4 + 4) / 36)
    assert math.isnan(preference.agreement(verdicts[verdicts["item"] == 3]).value)


def test_copy_preference_of_known_choosers():
    source = "the old mill burned down last night and nobody was hurt"
    copy, new = "the old mill burned down", "a building went up in flames"
    pairs = pd.DataFrame(
        [
            {
                "source": source + str(i),
                "summary_a": copy if i % 2 else new,
                "summary_b": new if i % 2 else copy,
                "choice": ("a" if i % 2 else "b") if i % 4 else "tie",
            }
            for i in range(40)
        ]
    )
    choices = preference.copy_choices(pairs)
    assert len(choices) == 30, "ties between the choices do not count"
    assert preference.copy_preference(choices) == (1, 1, 1)
    swapped = pairs.assign(choice=pairs["choice"].map({"a": "b", "b": "a", "tie": "tie"}))
    assert preference.copy_preference(preference.copy_choices(swapped)) == (0, 0, 0)
    alike = preference.copy_choices(pairs.assign(summary_a=copy, summary_b=copy))
    assert alike.empty and math.isnan(preference.copy_preference(alike).value)
