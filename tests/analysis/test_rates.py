"""Rates over contexts and trainings: against closed forms, and against what their intervals promise."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from rlhf_lib.analysis import rates


def made(shares, contexts=400, seed=0, common=0.0, model="m"):
    """One row a training and context, right with the training's share; `common`: luck of a context, alike in all."""
    random = np.random.default_rng(seed)
    luck = np.random.default_rng(99).normal(0, common, contexts) if common else np.zeros(contexts)
    rows = [
        {"task": "cnndm", "model": model, "seed": k, "query_id": f"q{i}", "hit": random.random() < share + luck[i]}
        for k, share in enumerate(shares)
        for i in range(contexts)
    ]
    frame = pd.DataFrame(rows)
    return rates.counts(frame, frame["hit"])


def test_one_training_is_a_plain_share():
    counted = made([0.3])
    got, wins = rates.rate(counted), int(counted["above"].sum())
    exact = binomtest(wins, 400).proportion_ci(method="wilson")
    assert got["value"] == wins / 400 and (got["n"], got["seeds"]) == (400, 1)
    assert (got["low"], got["high"]) == pytest.approx((exact.low, exact.high), abs=0.008)


def test_trainings_that_differ_widen_the_interval():
    alike, apart = rates.rate(made([0.5] * 3)), rates.rate(made([0.3, 0.5, 0.7]))
    assert alike["high"] - alike["low"] < 0.12  # 1,200 summaries
    assert apart["low"] < 0.36 and apart["high"] > 0.64, "it reaches to the worst and the best training"
    assert apart["seeds"] == 3 and apart["n"] == 400


def test_intervals_cover_the_truth():
    """Of 100 samples with 5 trainings each, most intervals hold the true mean of trainings (few trainings: not 95%)."""
    random = np.random.default_rng(7)
    inside = 0
    for k in range(100):
        got = rates.rate(made(random.normal(0.5, 0.1, 5), contexts=100, seed=k), draws=200)
        inside += got["low"] <= 0.5 <= got["high"]
    assert 0.80 < inside / 100 <= 1.0


def test_pairing_takes_the_contexts_luck_out():
    a, b = made([0.6], common=0.3, seed=1), made([0.5], common=0.3, seed=1, model="n")
    paired = rates.difference(a, b)
    alone = math.hypot(*[(rates.rate(x)["high"] - rates.rate(x)["low"]) for x in (a, b)])
    assert paired["value"] == pytest.approx(rates.rate(a)["value"] - rates.rate(b)["value"])
    assert paired["high"] - paired["low"] < 0.7 * alone
    assert paired["low"] > 0


def test_an_untrained_side_is_held_against_every_training():
    trained, base = made([0.7, 0.5, 0.6]), made([0.3], model="zero-shot")
    got = rates.difference(trained, base)
    assert got["seeds"] == 3 and got["low"] > 0.05 and got["low"] < 0.5 - 0.3 + 0.05


def test_only_shared_contexts_are_compared():
    a, b = made([0.6], contexts=50), made([0.6], contexts=30)
    assert rates.difference(a, b)["n"] == 30
    assert rates.difference(a, b.assign(query_id="other"))["n"] == 0


def test_ratios_pool_units_and_not_summaries():
    frame = pd.DataFrame({"task": "t", "model": "m", "seed": None, "query_id": ["a", "b"]})
    got = rates.rate(rates.counts(frame, [1, 0], [1, 3]))
    assert got["value"] == 1 / 4 and got["seeds"] == 1


def test_nothing_but_zeros_has_a_width_and_nothing_at_all_is_nan():
    zeros = rates.rate(made([0.0], contexts=307))
    assert zeros["value"] == zeros["low"] == 0 and 0.008 < zeros["high"] < 0.02
    frame = pd.DataFrame({"task": "t", "model": "m", "query_id": ["a", "b"]})
    nothing = rates.rate(rates.counts(frame, [0, 0], [0, 0]))
    assert math.isnan(nothing["value"]) and nothing["n"] == 0
    assert rates.rate(rates.counts(frame, [1, 0], [1, 0]))["n"] == 1, "a context that does not count is no context"


def test_the_table_has_a_row_a_model():
    table = rates.table(pd.concat([made([0.2, 0.4]), made([0.9], model="n")]), draws=200)
    assert table["model"].tolist() == ["m", "n"] and table["seeds"].tolist() == [2, 1]
