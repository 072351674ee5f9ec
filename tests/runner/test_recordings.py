"""A core run's rows beside the recorded ones, and means over seeds."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from rlhf_lib.recordings import labels_needed, over_seeds, point, sweep_rows, with_recorded


@pytest.mark.parametrize("profile, kept", [("tiny", [0.5, 0.7, 0.9]), ("smoke", [0.5])])
def test_each_training_counts_once_and_only_beside_a_run_of_its_profile(tmp_path, profile, kept):
    run = pd.DataFrame({"seed": [1], "labels": [5000], "preference": [0.5]})
    on = ("labels", "seed")
    assert with_recorded(run, tmp_path, "style", profile, on) is run  # nothing is recorded
    (tmp_path / "style_manifest.json").write_text(json.dumps({"profile": "tiny"}))
    old = pd.DataFrame({"seed": [1, 1, 2], "labels": [5000, 200, 5000], "preference": [0.8, 0.7, 0.9]})
    old.to_json(tmp_path / "style_sweep.json", orient="records")
    assert with_recorded(run, tmp_path, "style", profile, on)["preference"].tolist() == pytest.approx(kept)
    assert (sweep_rows(tmp_path, "style", profile) is None) == (profile == "smoke")


def test_the_interval_over_seeds_is_students():
    values = np.array([0.855, 0.835, 0.846])
    found, wanted = over_seeds(values, [1, 2, 3], n=1024), ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["value"] == pytest.approx(values.mean()) and (found["seeds"], found["n"]) == (3, 1024)
    assert (found["low"], found["high"]) == pytest.approx((wanted.low, wanted.high))
    twice = over_seeds([0.8, 0.9, 0.6], [1, 1, 2])  # two trainings of one seed
    assert twice["value"] == pytest.approx(0.725) and twice["seeds"] == 2
    assert over_seeds([0.5], [1]) == {"value": 0.5, "seeds": 1}


def curves(**of_seeds) -> pd.DataFrame:
    return pd.DataFrame(
        [{"seed": seed, "labels": n, "won": share} for seed, curve in of_seeds.items() for n, share in curve.items()]
    )


def test_labels_needed_reads_the_curve():
    needed = {
        10**3.8: {100: 0.2, 1000: 0.5, 10_000: 1.0},
        100: {100: 0.95, 1000: 1.0},
        1000: {1000: 0.9, 100: 0.1, 10_000: 1.0},
    }
    for labels, curve in needed.items():
        found = labels_needed(curves(a=curve), "won")
        assert found["value"] == pytest.approx(labels) and found["seeds"] == 1
    of_the_gain = labels_needed(curves(a={100: 0.5, 1000: 0.9, 10_000: 1.0}), "won", start=0.5)
    assert of_the_gain["value"] == pytest.approx(10**3.5), "nine tenths of what is gained over 0.5: 0.95"


def test_labels_needed_is_a_mean_over_the_seeds_that_have_every_budget():
    rows = curves(a={100: 0.95, 1000: 1.0}, b={100: 0.5, 1000: 1.0}, c={1000: 1.0})
    found = labels_needed(rows, "won")
    assert found["seeds"] == 2 and found["value"] == pytest.approx(10**2.4), "the mean of the logarithms"
    assert found["low"] == 0, "a needs 100 or fewer: nobody tried fewer"
    assert found["high"] > 10**2.8
    between = labels_needed(curves(a={100: 0.5, 1000: 1.0}, b={100: 0.6, 1000: 1.0}), "won")
    assert 100 < between["value"] < 10**2.8
    assert between["low"] * between["high"] == pytest.approx(between["value"] ** 2), "even by the logarithm"
    assert labels_needed(curves(a={1000: 1.0}, b={1000: 0.9}), "won") is None
    assert labels_needed(rows[:0], "won") is None


def test_a_point_shows_how_far_trainings_lie_apart():
    one = point([0.6], [1000])
    assert one["value"] == pytest.approx(0.6) and (one["low"], one["high"]) == pytest.approx((0.5693, 0.6299), abs=1e-3)
    several = point([0.58, 0.58, 0.76], [1000] * 3)
    assert several == {"value": pytest.approx(0.64), "low": 0.58, "high": 0.76}
