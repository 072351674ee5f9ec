"""Simulated labelers against Monte Carlo, closed forms, VADER itself and people's ratings."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer, normalize

from rlhf_lib.errors import KitError
from rlhf_lib.labels import lexicons
from rlhf_lib.labels import simulated as sim

TEXTS = [
    "I love this!!",
    "It was not good at all.",
    "VERY bad, but the end was great",
    "The stone lay there.",
    "",
    "She was kind of happy :)",
    "never so terrible",
    "the least awful of them",
]


@pytest.mark.parametrize("text", TEXTS)
def test_vader_sum_is_what_vader_normalises(text):
    assert round(normalize(sim.vader_sum(text)), 4) == SentimentIntensityAnalyzer().polarity_scores(text)["compound"]


def test_vader_sum_is_unbounded():
    assert sim.vader_sum("happy " * 20) > 2 * sim.vader_sum("happy " * 8) > 20


def test_lists_are_large_and_not_one_another():
    described, imagery = lexicons.descriptive_words(), lexicons.imagery_words()
    positive, negative = lexicons.sentiment_words()
    assert len(described) >= 700 and len(positive | negative) >= 400 and len(imagery) >= 400
    assert not positive & negative
    assert imagery - described and len(described - imagery) > len(described) / 2, "neither is the other's part"


def test_counts():
    assert sim.descriptiveness("The RED, wooden house; it glittered (and glittered).") == 4
    assert sim.imagery_count("A red door creaked, and nobody voted for the treasurer.") == 2
    assert sim.sentiment_count("A happy, happy boy; no cruel thought") == 1
    assert sim.descriptiveness("") == sim.sentiment_count("") == 0
    assert lexicons.words_of("Don’t stop, O'Neil-san!") == ["don't", "stop", "o'neil", "san"]


def test_copied_share():
    source = "The cat sat on the mat. It was a Tuesday."
    assert sim.copied_share(source, "the cat sat on the mat") == 1
    assert sim.copied_share(source, "A dog lay on the floor") == 0
    assert sim.copied_share(source, "the cat sat on a chair") == pytest.approx(2 / 4)
    assert sim.copied_share(source, "the cat") == 0


def test_pick_probabilities_equal_monte_carlo():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 4)) * np.array([0.1, 1, 1, 3, 8, 0])[:, None]
    exact = sim.pick_probabilities(rows, noise=0.7)
    labeler = sim.SimulatedLabeler(sim.on_response(len), noise=0.7, seed=1)
    for row, expected in zip(rows, exact, strict=True):
        counts = np.bincount(labeler.pick_scored(np.tile(row, (20_000, 1))), minlength=4) / 20_000
        assert np.abs(counts - expected).max() < 0.015
    assert exact[-1] == pytest.approx([0.25] * 4)
    assert sim.pick_probabilities([[1, 1, 0, 0]], 0.0)[0] == pytest.approx([0.5, 0.5, 0, 0])


def test_two_equal_responses_have_the_textbook_probability():
    from scipy.stats import norm

    exact = sim.pick_probabilities([[1.0, 0.0]], noise=2.0)[0, 0]
    assert exact == pytest.approx(norm.cdf(1 / (2 * np.sqrt(2))), abs=1e-9)


@pytest.mark.parametrize("target", [0.30, 0.42, 0.60])
def test_calibrated_labelers_agree_as_often_as_asked(target):
    rows = np.random.default_rng(3).poisson(2.0, size=(4000, 4)).astype(float)  # counts, so ties as with word lists
    noise = sim.calibrate_noise(rows, target)
    picks = [sim.SimulatedLabeler(sim.on_response(len), noise, seed).pick_scored(rows) for seed in (1, 2)]
    assert np.mean(picks[0] == picks[1]) == pytest.approx(target, abs=0.03)


def test_calibration_refuses_what_cannot_be():
    with pytest.raises(KitError, match="cannot agree"):
        sim.calibrate_noise(np.zeros((50, 4)))
    with pytest.raises(KitError, match="finite"):
        sim.calibrate_noise(np.array([[1.0, np.nan, 0, 0]]))
    with pytest.raises(KitError, match="finite"):
        sim.calibrate_noise(np.zeros((0, 4)))


def test_pick_many_equals_pick_by_pick_and_seeds_reproduce():
    queries, rows = ["a b c d e"] * 30, [["x", "xx", "xxx", "xxxx"]] * 30

    def make():
        return sim.SimulatedLabeler(sim.on_response(len), noise=1.0, seed=5)

    assert (make().pick_many(queries, rows) == make().pick_many(queries, rows)).all()
    assert len(set(make().pick_many(queries, rows))) > 1, "noise must be fresh at every view"
    assert sim.SimulatedLabeler(sim.on_response(len), 0.0, 0).pick("q", rows[0]) == 3
    assert make().pick_many([], []).shape == (0,)
    with pytest.raises(KitError, match="one row per query"):
        make().pick_many(["q"], [])


def test_knobs_do_what_they_say():
    source = "the old king lived in a house by the river"
    rows = [["nothing here is taken over", "the old king lived in a house", "a third one of them", "else too"]]

    def picks(**knobs):
        labeler = sim.SimulatedLabeler(sim.on_response(lambda text: 0.0), noise=1.0, seed=2, **knobs)
        return np.bincount(labeler.pick_many([source] * 4000, rows * 4000), minlength=4) / 4000

    assert np.abs(picks() - 0.25).max() < 0.03
    assert picks(hurry=4.0)[1] > 0.9
    assert picks(position_bias=2.0)[0] > 0.45 > 0.1 > picks(position_bias=2.0)[3]
    sharp = sim.SimulatedLabeler(sim.on_response(len), noise=0.0, seed=2, guess=0.5)
    longest = np.mean(sharp.pick_many(["q"] * 4000, [["a", "bb", "ccc", "dddd"]] * 4000) == 3)
    assert longest == pytest.approx(0.5 + 0.5 / 4, abs=0.03)
    with pytest.raises(KitError, match="guess"):
        sim.SimulatedLabeler(sim.on_response(len), 1.0, 0, guess=2)


def test_majority_preference_equals_its_closed_form_and_counts_ties_half():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.5, 1, 20_000), rng.normal(0, 1, 20_000)
    drawn = sim.majority_preference(a, b, noise=1.0, seed=1)
    assert drawn.share == pytest.approx(sim.expected_preference(a, b, 1.0), abs=0.01)
    assert drawn.low < drawn.share < drawn.high and drawn.n == 20_000
    assert sim.majority_preference([1, 1, 0, 2], [0, 1, 1, 2], noise=0.0).share == 0.5
    mirrored = sim.majority_preference(b, a, 1.0).share
    assert drawn.share + mirrored == pytest.approx(1, abs=0.02)
    one = sim.expected_preference(a, b, 1.0, n_labelers=1)
    assert 0.5 < one < sim.expected_preference(a, b, 1.0, 3) < sim.noise_ceiling(a + 3, b, 1.0) < 1
    with pytest.raises(KitError, match="one each a prompt"):
        sim.majority_preference([1, 2], [1], 1.0)


def test_wilson_interval_equals_scipy():
    from scipy.stats import binomtest

    ours, theirs = sim.wilson(890, 1024), binomtest(890, 1024).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_word_list_against_peoples_concreteness(real, record_property):
    table = pd.read_csv(real / "brysbaert_concreteness.tsv.gz", sep="\t")
    table = table[(table.Bigram == 0) & (table.SUBTLEX >= 100)]  # common single words
    counted = table.Word.astype(str).map(sim.descriptiveness)
    rho = spearmanr(counted, table["Conc.M"]).statistic
    inside, outside = table["Conc.M"][counted > 0].mean(), table["Conc.M"][counted == 0].mean()
    record_property("spearman_concreteness", float(rho))
    print(f"descriptive list x Conc.M: Spearman {rho:.3f}, mean {inside:.2f} in, {outside:.2f} out, {len(table)} words")
    assert rho > 0.25 and inside - outside > 0.7


def test_sentiment_scores_against_twenty_raters(real, record_property):
    with gzip.open(real / "vader_human_ratings.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = pd.DataFrame([json.loads(line) for line in file])
    for score, least in ((sim.vader_sum, 0.50), (sim.sentiment_count, 0.30)):
        rho = spearmanr(rows.text.map(score), rows.mean_sentiment).statistic
        record_property(f"spearman_{score.__name__}", float(rho))
        by_domain = {
            d: round(float(spearmanr(g.text.map(score), g.mean_sentiment).statistic), 3)
            for d, g in rows.groupby("domain")
        }
        print(f"{score.__name__} x 20 raters: Spearman {rho:.3f} on {len(rows)} sentences; {by_domain}")
        assert rho > least
