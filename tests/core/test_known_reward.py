"""The known reward: near the best possible reader of the world's moods, graded, unbounded, the same for everyone."""

import math

import numpy as np
import pytest
import torch
from core_models import STYLE

from rlhf_lib import known_reward
from rlhf_lib.corpora import tinyworld_stories
from rlhf_lib.corpora.tinyworld_moods import labelled_passage
from rlhf_lib.errors import KitError
from rlhf_lib.known_reward import KnownReward
from rlhf_lib.labels.lexicons import words_of
from rlhf_lib.tasks import Task


@pytest.fixture(scope="module")
def reward():
    return known_reward.fit()


def test_the_exact_log_odds_are_bayes_rule_on_the_moods():
    """Counted: among passages with the same exact log-odds x, bright ones must have the share 1 / (1 + e^-x)."""
    rows = [labelled_passage(7, i) for i in range(12_000)]
    by_odds: dict[float, list[bool]] = {}
    for _, bright, exact in rows:
        by_odds.setdefault(round(exact, 6), []).append(bright)
    common = {x: marks for x, marks in by_odds.items() if len(marks) > 300}
    assert len(common) >= 5
    for x, marks in common.items():
        share = 1 / (1 + math.exp(-x))
        assert abs(np.mean(marks) - share) < 4 * math.sqrt(share * (1 - share) / len(marks))
    glad, plain = (tinyworld_stories.MOODS["bright"][g] / tinyworld_stories.MOODS["dark"][g] for g in ("glad", "plain"))
    assert max(by_odds) == pytest.approx(3 * math.log(glad), abs=1e-5) and plain == 1


def test_it_reads_moods_nearly_as_well_as_the_best_possible_reader(reward):
    report = reward.report
    assert report["loss_exact"] < report["loss_log_odds"] < report["loss_exact"] + 0.05 < math.log(2)
    assert report["accuracy_log_odds"] > report["accuracy_exact"] - 0.03
    assert report["correlation"] > 0.9


def test_its_log_odds_are_calibrated(reward):
    """Of unseen passages that it calls positive with probability p, about a share p is."""
    rows = [labelled_passage(31, i, "test") for i in range(6000)]
    probability = 1 / (1 + np.exp(-reward.many([text for text, _, _ in rows])))
    bright = np.array([b for _, b, _ in rows])
    for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)):
        inside = (probability >= low) & (probability < high)
        assert inside.sum() > 200
        assert abs(bright[inside].mean() - probability[inside].mean()) < 0.08


def test_it_is_graded_and_has_no_upper_end(reward):
    one, two = reward.log_odds("She was glad."), reward.log_odds("She was glad and happy.")
    assert reward.log_odds("She was sad.") < reward.log_odds("She was there.") < one < two
    assert reward.log_odds("glad " * 50) > 40 * reward.weights["glad"] > 20
    levels = np.unique(np.round(reward.many([labelled_passage(3, i)[0] for i in range(500)]), 6))
    assert len(levels) > 450


def test_it_is_a_sum_over_words(reward):
    text = "What a lovely day at the harbor, said Ida."
    by_hand = reward.bias + sum(reward.weights[word] for word in words_of(text))
    assert reward.log_odds(text) == pytest.approx(by_hand)
    assert reward.log_odds("qqq zzz") == reward.bias  # words that it never saw
    assert reward.many([text, ""]).tolist() == [reward.log_odds(text), reward.bias]


def test_the_same_arguments_give_the_same_classifier():
    assert known_reward.fit(500, 3) == known_reward.fit(500, 3)
    assert known_reward.fit(500, 3).weights != known_reward.fit(500, 4).weights
    with pytest.raises(KitError, match="too few"):
        known_reward.fit(10)


def test_ppo_hears_the_truncated_response_alone(tokenizer):
    task = Task("sentiment", STYLE, tokenizer)
    reward = KnownReward(0.5, {"cat": 1.0, "dog": -2.0}, {})
    ids = torch.tensor([task.encode("a cat. d"), task.encode("a cat do")])
    mask = torch.ones_like(ids, dtype=torch.bool)
    score = reward.score_fn(task)
    query = torch.tensor([task.encode("dog. dog. do")] * 2)
    assert score(query, torch.ones_like(query), ids, mask).tolist() == [1.5, 1.5]
    mask[1, 3:] = False  # "a c"
    assert score(query, torch.ones_like(query), ids, mask).tolist() == [1.5, 0.5]


def test_what_is_saved_is_what_is_loaded(tmp_path):
    reward = KnownReward(0.25, {"glad": 1.5}, {"passages": 3})
    reward.save(tmp_path / "r.json")
    assert KnownReward.load(tmp_path / "r.json") == reward
    (tmp_path / "r.json").write_text('{"bias": 1}')
    with pytest.raises(KitError, match="known reward"):
        KnownReward.load(tmp_path / "r.json")


def test_it_is_fitted_once_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path))
    fits = []
    monkeypatch.setattr(known_reward, "fit", lambda: fits.append(1) or KnownReward(0.0, {"glad": 1.0}, {}))
    assert known_reward.known_reward(tmp_path / "a") == known_reward.known_reward(tmp_path / "b")
    assert len(fits) == 1
