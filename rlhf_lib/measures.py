"""What the monitors measure of a PPO run's metrics and samples: one number an update, larger is sicker.

What is asked of the score function and of labeled pairs is in `probe_measures`; the bounds and sentences are in
`monitors`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import torch

from rlhf_lib.training import TrainState

Rows = Sequence[dict]  # metrics of all updates, this one last; a monitor may note what it needs later
Measure = Callable[[Rows, TrainState], float | None]

WINDOW = 5  # updates that are averaged before something is compared
SHORT = 3  # updates, where one alone would be chance
ERRORS = 4.0  # standard errors that a mean is given for its noise
PENALISED_WINDOW = 10  # updates


def last(rows: Rows, name: str, n: int) -> list[float] | None:
    """A metric over the last n updates; None while there are fewer that have it."""
    values = [row[name] for row in rows[-n:] if name in row]
    return values if len(values) == n else None


def standard_error(values: Sequence[float]) -> float:
    """Of a mean, from the spread of the values; infinite for fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


# -- from the metrics --------------------------------------------------------------------------------------------------


def not_finite(rows: Rows, state: TrainState) -> float:
    """How many numbers of the update are NaN or infinite."""
    return float(sum(isinstance(value, float) and not math.isfinite(value) for value in rows[-1].values()))


def first_ratio(rows: Rows, state: TrainState) -> float | None:
    """How far a ratio of new to old policy is from 1 before the update's first step, when the two are one policy.

    None in bfloat16, whose rounding alone moves single ratios that far, and where the policy isn't at hand.
    """
    in_float32 = getattr(getattr(state, "model", None), "autocast", torch.bfloat16) is None
    return rows[-1].get("ppo/policy/first_ratio_error") if in_float32 else None


def score_drop(rows: Rows, state: TrainState) -> float | None:
    """How far the score of the last updates lies below that of the first, beyond noise (score units)."""
    if len(rows) < 2 * WINDOW:
        return None
    early, late = [r["objective/score"] for r in rows[:WINDOW]], last(rows, "objective/score", WINDOW)
    noise = math.hypot(standard_error(early), standard_error(late))
    return statistics.fmean(early) - statistics.fmean(late) - ERRORS * noise


def kl_share(rows: Rows, state: TrainState) -> float | None:
    """KL over the last updates, as a share of the base's entropy (both nats a response)."""
    kls = last(rows, "objective/kl", SHORT)
    return statistics.fmean(kls) / rows[0]["objective/entropy"] if kls else None


def negative_kl(rows: Rows, state: TrainState) -> float | None:
    """How far the KL lies below 0, beyond its estimator's noise, nats: no pair of distributions has that.

    The noise is that between updates, which a KL that rises makes larger: this sees one that stays below 0.
    """
    kls = last(rows, "objective/kl", WINDOW)
    return -statistics.fmean(kls) - ERRORS * standard_error(kls) if kls else None


def entropy_lost(rows: Rows, state: TrainState) -> float | None:
    """Share of the first update's sequence entropy that is gone."""
    now = last(rows, "objective/entropy", SHORT)
    return 1.0 - statistics.fmean(now) / rows[0]["objective/entropy"] if now else None


def penalised(rows: Rows, state: TrainState) -> float | None:
    """Share of responses that miss the truncation rule, over many updates."""
    shares = last(rows, "objective/penalised", PENALISED_WINDOW)
    return statistics.fmean(shares) if shares else None


# -- from the samples --------------------------------------------------------------------------------------------------


def repeated_share(responses: torch.Tensor, n: int = 4) -> torch.Tensor:
    """Share of each response's n-grams that it already held further left. [B, R] -> [B]."""
    shares = []
    for row in responses.tolist():
        grams = list(zip(*(row[i:] for i in range(n)), strict=False))
        shares.append(1.0 - len(set(grams)) / len(grams) if grams else 0.0)
    return torch.tensor(shares)


def circles(rows: Rows, state: TrainState) -> float | None:
    """Mean share of a response's four-token sequences that it already held."""
    responses = state.data.get("responses")
    return None if responses is None else float(repeated_share(responses).mean())


def sameness(rows: Rows, state: TrainState) -> float | None:
    """Share of a batch's responses that stand in it more than once."""
    responses = state.data.get("responses")
    if responses is None:
        return None
    _, counts = torch.unique(responses, dim=0, return_counts=True)
    return float(counts[counts > 1].sum()) / len(responses)
