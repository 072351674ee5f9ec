"""The analytic optimum against closed forms and brute force, and where it must fall silent."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from rlhf_lib.analysis import frontier
from rlhf_lib.errors import KitError


def test_for_a_normal_reward_the_optimum_is_known_in_closed_form():
    """r ~ N(m, s²) under ρ: π has mean m + s²/β and KL s²/(2β²), so r = m + s·√(2·KL)."""
    r = np.random.default_rng(0).normal(0.3, 1.2, 400_000)
    for beta in (4.0, 2.0, 1.0, 0.7):
        found = frontier.optimum(r, beta)
        assert found.reward == pytest.approx(0.3 + 1.2**2 / beta, abs=0.05)
        assert found.kl == pytest.approx(1.2**2 / (2 * beta**2), rel=0.05)
    curve = frontier.frontier(r)
    near = curve[curve["kl"] < 2]
    assert np.allclose(near["reward"], 0.3 + 1.2 * np.sqrt(2 * near["kl"]), atol=0.06)


def test_no_distribution_over_the_samples_beats_it_at_the_same_kl():
    """Brute force: an optimiser that knows nothing of exp(r/β) looks for more reward at this KL."""
    r = np.random.default_rng(1).exponential(1.0, 12)
    for beta in (0.4, 1.0, 3.0):
        found = frontier.optimum(r, beta)

        def weights(x):
            w = np.exp(x - x.max())
            return w / w.sum()

        def minus_objective(x, beta=beta):
            w = weights(x)
            return -(w @ r - beta * (w @ np.log(12 * w + 1e-300)))

        best = min((minimize(minus_objective, start) for start in np.eye(12)[:3]), key=lambda b: b.fun)
        w = weights(best.x)
        assert w @ r == pytest.approx(found.reward, abs=1e-3)
        assert w @ np.log(12 * w) == pytest.approx(found.kl, abs=1e-3)
        assert 1 / (w**2).sum() == pytest.approx(found.ess, rel=1e-2)


def test_many_random_policies_lie_under_the_frontier():
    random = np.random.default_rng(2)
    r = random.normal(size=2000)
    for _ in range(50):
        tilt = np.exp(random.uniform(0, 2) * r + random.normal(0, 0.5, 2000))
        w = tilt / tilt.sum()
        kl = w @ np.log(2000 * w)
        best = frontier.optimum(r, frontier.beta_for(r, kl)) if kl < frontier.trusted_kl(2000) else None
        assert best is None or best.reward >= w @ r - 1e-6


def test_it_begins_at_the_base_and_ends_where_it_is_no_longer_trustworthy():
    r = np.random.default_rng(3).normal(size=4096)
    curve = frontier.frontier(r)
    assert tuple(curve.iloc[0][["kl", "reward", "ess"]]) == pytest.approx((0.0, r.mean(), 4096))
    assert curve["kl"].max() == pytest.approx(np.log(40.96), rel=1e-4)
    assert (np.diff(curve[["kl", "reward"]], axis=0) > 0).all() and (np.diff(curve["ess"]) < 0).all()
    assert np.isnan(frontier.beta_for(r, np.log(40.96) + 0.01)) and np.isnan(frontier.beta_for(r, 0.0))
    assert frontier.trusted_kl(50) == 0.0


def test_many_samples_with_the_top_reward_bound_the_kl():
    """Half of the samples share the highest reward: no tilt has more than ln 2 of KL."""
    assert np.isnan(frontier.beta_for([0.0, 1.0] * 5000, 0.8))
    assert np.isfinite(frontier.beta_for([0.0, 1.0] * 5000, 0.6))
    assert np.isnan(frontier.beta_for([1.0] * 5000, 0.6))


def test_the_interval_covers_and_is_wider_where_prompts_matter():
    random = np.random.default_rng(4)
    covered, truth = 0, np.sqrt(2.0)  # at KL 1
    for seed in range(30):
        found = frontier.optimum_at(random.normal(size=(500, 4)), 1.0, draws=60, seed=seed)
        covered += found.low <= truth <= found.high
    assert covered >= 24
    alone = frontier.optimum_at(random.normal(size=(500, 4)), 1.0)
    shared = frontier.optimum_at(np.repeat(random.normal(size=(500, 1)), 4, axis=1), 1.0)
    assert shared.high - shared.low > 1.5 * (alone.high - alone.low)
    assert np.isnan(frontier.optimum_at(random.normal(size=(50, 4)), 5.0).value)


def test_between_points_it_is_straight_in_the_root_of_kl():
    points = pd.DataFrame({"kl": [9.0, 0.0, 4.0], "reward": [6.5, 0.5, 4.5]})
    assert frontier.at_kl(points, 1.0) == pytest.approx(2.5)
    assert frontier.at_kl(points, 6.25) == pytest.approx(5.5)
    assert frontier.at_kl(points, 4.0) == pytest.approx(4.5)
    assert np.isnan(frontier.at_kl(points, 10.0))


def test_scores_in_the_bases_units():
    values = np.array([1.0, 3.0, 5.0])
    assert frontier.standardised(values, values.mean(), values.std()).std() == pytest.approx(1.0)
    with pytest.raises(KitError, match="same score"):
        frontier.standardised(values, 1.0, 0.0)


@pytest.mark.parametrize("rewards, beta", [([], 1.0), ([1.0, np.nan], 1.0), ([1.0, 2.0], 0.0), ([1.0, 2.0], -1.0)])
def test_bad_input_is_said(rewards, beta):
    with pytest.raises(KitError, match="beta above 0"):
        frontier.optimum(rewards, beta)
