"""Intervals against closed forms and SciPy."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from rlhf_lib.analysis import stats


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 30), (26, 30), (30, 30), (500, 1000)])
def test_wilson_is_scipys(k, n):
    expected = binomtest(k, n).proportion_ci(method="wilson")
    value, low, high = stats.wilson(k, n)
    assert (value, low, high) == pytest.approx((k / n, expected.low, expected.high), abs=1e-9)
    assert low <= value <= high


def test_nothing_counted_is_nan():
    for interval in (
        stats.wilson(0, 0),
        stats.bootstrap_ratio([], []),
        stats.bootstrap_ratio([0, 0], [0, 0]),
        stats.bootstrap_difference(([], []), ([1], [1])),
    ):
        assert all(map(math.isnan, interval))


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    values = np.random.default_rng(1).normal(5, 2, 400)
    value, low, high = stats.bootstrap_ratio(values, np.ones(400), draws=2000)
    half = 1.96 * values.std() / 20
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.15 * half)


def test_bootstrap_pools_its_ratio_and_is_repeatable():
    assert stats.bootstrap_ratio([1, 0, 3], [1, 4, 5]).value == pytest.approx(4 / 10)
    above, below = np.arange(50) % 7, np.full(50, 9)
    first, again, other = (stats.bootstrap_ratio(above, below, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_clusters_widen_the_interval():
    values = np.repeat(np.random.default_rng(2).integers(0, 2, 40), 10)
    alone = stats.bootstrap_ratio(values, np.ones(400))
    together = stats.bootstrap_ratio(values, np.ones(400), clusters=np.repeat(np.arange(40), 10))
    assert together.value == alone.value
    assert 2 < (together.high - together.low) / (alone.high - alone.low) < 4.5  # about the root of 10


def test_pairing_narrows_a_difference():
    common = np.random.default_rng(3).normal(0, 5, 300)
    a, b = (common + 1, np.ones(300)), (common, np.ones(300))
    paired, alone = (stats.bootstrap_difference(a, b, paired=p) for p in (True, False))
    assert paired == pytest.approx((1, 1, 1)) and alone.low < 0.5 and alone.high > 1.5


def test_chunks_do_not_change_the_size(monkeypatch):
    monkeypatch.setattr(stats, "CHUNK", 70)
    assert stats._resampled_sums(np.ones((10, 2)), draws=33, seed=0).shape == (33, 2)


def test_calibration_bins_of_a_calibrated_model():
    random = np.random.default_rng(4)
    predicted = random.random(20_000)
    bins = stats.calibration_bins(predicted, random.random(20_000) < predicted)
    assert bins["count"].sum() == 20_000 and len(bins) == 10
    assert ((bins["low"] <= bins["predicted"]) & (bins["predicted"] <= bins["high"])).mean() >= 0.8
    assert stats.expected_calibration_error(bins) < 0.02
    over = stats.calibration_bins(np.full(100, 0.9), np.repeat([0, 1], 50))
    assert stats.expected_calibration_error(over) == pytest.approx(0.4)
    assert stats.calibration_bins([1.0], [1])["count"].tolist() == [1]
