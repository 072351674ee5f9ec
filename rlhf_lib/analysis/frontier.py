"""Reward against KL: the best that is possible at each KL, and where policies stand (paper section 3.1.1).

With a known reward r and a base model ρ, the policy that has the most reward at its KL is π ∝ ρ·exp(r/β). It need not
be trained: samples of ρ, weighted by exp(r/β), are samples of π.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from rlhf_lib.errors import KitError
from rlhf_lib.intervals import Interval

LEAST_SAMPLES = 100  # the optimum ends where KL > ln(N / 100): as if fewer than 100 of N samples were left to average


class Optimum(NamedTuple):
    """The analytic optimum at one β: KL (nats a response), mean reward, effective sample size of N weighted samples."""

    beta: float
    kl: float
    reward: float
    ess: float


def optimum(rewards, beta: float) -> Optimum:
    """π ∝ ρ·exp(r/β), from rewards [N] of samples of ρ, all prompts pooled; β in reward units a nat, above 0.

    Weights w_i ∝ exp(r_i/β) sum to 1; KL = Σ w_i ln(N w_i), effective sample size 1 / Σ w_i². Pooled as in the paper,
    the weights may also prefer easy prompts, which a policy cannot: no policy gets above, and a good one stays below.
    Near `trusted_kl` the estimate itself is somewhat low: no weight can reach a response that was not sampled.
    Raises KitError for rewards that are not finite or a β that is not positive.
    """
    r = np.asarray(rewards, dtype=float).ravel()
    if not len(r) or not np.isfinite(r).all() or not beta > 0:
        raise KitError(f"The optimum needs finite rewards and a beta above 0, not {len(r)} rewards and beta {beta}.")
    weights = np.exp((r - r.max()) / beta)
    weights /= weights.sum()  # [N]
    logs = np.log(len(r) * weights, where=weights > 0, out=np.zeros_like(r))
    return Optimum(float(beta), float(weights @ logs), float(weights @ r), float(1.0 / (weights**2).sum()))


def trusted_kl(n: int) -> float:
    """The KL, nats, up to which n samples of the base say something about the optimum: ln(n/100)."""
    return float(np.log(n / LEAST_SAMPLES)) if n > LEAST_SAMPLES else 0.0


def beta_for(rewards, kl: float) -> float:
    """The β at which the optimum has this KL (nats); NaN for a KL of 0, or beyond what N samples can show."""
    r = np.asarray(rewards, dtype=float).ravel()
    spread = r.std()
    if not 0 < kl <= trusted_kl(len(r)) or spread == 0:
        return float("nan")
    low, high = np.log(1e-3 * spread), np.log(1e4 * spread)
    if optimum(r, np.exp(low)).kl < kl or optimum(r, np.exp(high)).kl > kl:  # many samples share the highest reward
        return float("nan")
    return float(np.exp(brentq(lambda log_beta: optimum(r, np.exp(log_beta)).kl - kl, low, high, rtol=1e-6)))


def frontier(rewards, points: int = 25) -> pd.DataFrame:
    """The optimum's curve: columns `beta, kl, reward, ess`, from the base itself (KL 0) to `trusted_kl`."""
    r = np.asarray(rewards, dtype=float).ravel()
    start = Optimum(float("inf"), 0.0, float(r.mean()), float(len(r)))
    betas = [beta_for(r, kl) for kl in np.linspace(0, trusted_kl(len(r)), points)[1:]]
    return pd.DataFrame([start, *(optimum(r, beta) for beta in betas if np.isfinite(beta))])


def optimum_at(rewards, kl: float, draws: int = 200, seed: int = 0) -> Interval:
    """The optimum's mean reward at one KL (nats) with a bootstrap 95% interval; NaN beyond `trusted_kl`.

    rewards: [prompts, samples], and whole prompts are drawn anew: samples of one prompt are not independent.
    """
    rows = np.atleast_2d(np.asarray(rewards, dtype=float))  # [P, each]
    beta = beta_for(rows, kl)
    if not np.isfinite(beta):
        return Interval(*[float("nan")] * 3)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        again = rows[random.integers(0, len(rows), len(rows))]
        its_beta = beta_for(again, kl)
        drawn.append(optimum(again, its_beta).reward if np.isfinite(its_beta) else np.nan)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(optimum(rows, beta).reward, float(low), float(high))


def at_kl(points: pd.DataFrame, kl: float) -> float:
    """Reward at one KL between a run's measured policies: columns `kl, reward`, the base (KL 0) among them.

    Linear in √KL, in which tilts of a normal reward are a straight line, r = σ·√(2·KL). NaN outside of the points.
    """
    rows = points.sort_values("kl")
    at = np.interp(np.sqrt(kl), np.sqrt(rows["kl"].clip(lower=0)), rows["reward"], left=np.nan, right=np.nan)
    return float(at)


def standardised(values, base_mean: float, base_std: float):
    """Scores in the base's units, (values - mean) / std of the same score on base samples, so that two scores meet."""
    if not base_std > 0:
        raise KitError("The base's samples all have the same score, so nothing can be told in units of their spread.")
    return (np.asarray(values, dtype=float) - base_mean) / base_std
