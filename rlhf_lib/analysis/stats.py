"""Intervals: Wilson for shares, bootstrap over summaries for everything else, calibration bins."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rlhf_lib.intervals import NOTHING, Interval, wilson

__all__ = [
    "NOTHING",
    "Interval",
    "bootstrap_difference",
    "bootstrap_ratio",
    "calibration_bins",
    "expected_calibration_error",
    "wilson",
]

CHUNK = 4_000_000  # drawn indices held at once


def bootstrap_ratio(numerators, denominators, draws: int = 1000, seed: int = 0, clusters=None) -> Interval:
    """Pooled ratio Σ numerators / Σ denominators with a percentile bootstrap over its rows (summaries).

    With ones as denominators it is a mean. `clusters` (one label a row) are resampled whole where given: several
    judges of one article are not independent.
    """
    table = _clustered(np.column_stack([numerators, denominators]).astype(float), clusters)  # [N, 2]
    if not len(table) or table[:, 1].sum() <= 0:
        return NOTHING
    return _interval(_ratio(table.sum(0)), _ratio(_resampled_sums(table, draws, seed)))


def bootstrap_difference(first, second, draws: int = 1000, seed: int = 0, paired: bool = False) -> Interval:
    """Difference of two pooled ratios, each given as (numerators, denominators), with its bootstrap interval.

    `paired`: row i of both comes from the same context, and contexts are resampled together.
    """
    tables = [np.column_stack(side).astype(float) for side in (first, second)]
    if any(not len(t) or t[:, 1].sum() <= 0 for t in tables):
        return NOTHING
    seeds = (seed, seed if paired else seed + 1)
    values = [_ratio(t.sum(0)) for t in tables]
    sums = [_ratio(_resampled_sums(t, draws, s)) for t, s in zip(tables, seeds, strict=True)]
    return _interval(values[0] - values[1], sums[0] - sums[1])


def _clustered(table: np.ndarray, clusters) -> np.ndarray:
    """Rows [N, 2] summed within each cluster."""
    if clusters is None:
        return table
    codes, names = pd.factorize(np.asarray(clusters, dtype=object))
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, codes, table)
    return sums


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Numerator over denominator in the last axis; NaN where a draw counted nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


def _resampled_sums(table: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[draws, 2] column sums of N rows drawn with replacement, a chunk of draws at a time."""
    random, n = np.random.default_rng(seed), len(table)
    step = max(1, CHUNK // n)
    parts = []
    for start in range(0, draws, step):
        picked = random.integers(0, n, (min(step, draws - start), n))  # [draws, N]
        parts.append(np.stack([column[picked].sum(1) for column in table.T], axis=1))
    return np.concatenate(parts)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def calibration_bins(predicted, happened, bins: int = 10) -> pd.DataFrame:
    """Reliability of predicted probabilities: columns `predicted, observed, count, low, high`, empty bins left out.

    `predicted`: probabilities, `happened`: whether it came so, both [N]; of a four-way model, N = 4 · comparisons.
    Equal-width bins, `predicted` is the mean within a bin, intervals are Wilson's.
    """
    predicted, happened = np.asarray(predicted, float).ravel(), np.asarray(happened, float).ravel()
    which = np.clip((predicted * bins).astype(int), 0, bins - 1)
    rows = []
    for b in np.unique(which):
        inside = which == b
        share = wilson(happened[inside].sum(), int(inside.sum()))
        rows.append((float(predicted[inside].mean()), share.value, int(inside.sum()), share.low, share.high))
    return pd.DataFrame(rows, columns=["predicted", "observed", "count", "low", "high"])


def expected_calibration_error(bins: pd.DataFrame) -> float:
    """Mean |observed - predicted| over the rows of `calibration_bins`, weighted by count."""
    return float(np.average((bins["observed"] - bins["predicted"]).abs(), weights=bins["count"]))
