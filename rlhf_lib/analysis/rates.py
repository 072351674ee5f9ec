"""A rate over contexts and trainings, with the interval that a claim is judged by.

Every analysis ends in counts, a row a summary: how much was counted (`above`) of what there was to count (`below`). A
rate is the pooled ratio. Its 95% interval draws the contexts anew and, where a model was trained with several seeds,
the trainings too, so that three lucky seeds do not pass for three thousand summaries.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rlhf_lib.analysis import stats

KEYS = ["task", "model", "seed", "query_id"]
DRAWS = 2000
NOTHING = {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0, "seeds": 1}


def counts(rows: pd.DataFrame, above, below=1) -> pd.DataFrame:
    """Counts of sample rows: columns `task, model, seed, query_id, above, below`; a null seed is one training, 0.

    `above` and `below` are numbers, one a row (or one for all), in the rows' order.
    """
    frame = rows[["task", "model", "query_id"]].reset_index(drop=True)
    seed = rows["seed"].fillna(0).astype(int).to_numpy() if "seed" in rows else 0
    frame = frame.assign(seed=seed, above=np.asarray(above, float), below=np.asarray(below, float))
    return frame[[*KEYS, "above", "below"]]


def of_model(counted: pd.DataFrame, task: str, model: str) -> pd.DataFrame:
    """The counts of one model on one task."""
    return counted[(counted["task"] == task) & (counted["model"] == model)]


def rate(counted: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> dict:
    """The rate of one model's counts as a measure: `value, low, high, n` (contexts that count), `seeds`.

    NaN where nothing was counted. Where every draw gives the same (nothing but zeros, say) a bootstrap has no width;
    there the interval is Wilson's over the contexts.
    """
    if not (counted["below"] > 0).any():
        return dict(NOTHING)
    table = _table(counted)  # [seeds, contexts, 2]
    contexts = int((table[..., 1].sum(0) > 0).sum())
    weights = _weights(table, draws, np.random.default_rng(seed))
    value, drawn = _ratio(table.sum((0, 1))), _ratio(_drawn(table, *weights))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    if low == high and 0 <= value <= 1:
        _, low, high = stats.wilson(value * contexts, contexts)
    return {"value": float(value), "low": float(low), "high": float(high), "n": contexts, "seeds": len(table)}


def difference(first: pd.DataFrame, second: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> dict:
    """Rate of `first` minus rate of `second`, paired: both on the contexts that they share, drawn together.

    Trainings are drawn together too where both have the same seeds (the two may share a reward model), else each for
    itself. A measure, as `rate` gives; a difference counts when its interval leaves out 0.
    """
    shared = np.intersect1d(first["query_id"], second["query_id"])
    kept = [side[side["query_id"].isin(shared)] for side in (first, second)]
    if not all((side["below"] > 0).any() for side in kept):
        return dict(NOTHING)
    sides, random = [_table(side) for side in kept], np.random.default_rng(seed)
    of_seeds, of_contexts = _weights(sides[0], draws, random)
    same = set(first["seed"]) == set(second["seed"])
    other = of_seeds if same else _weights(sides[1], draws, random)[0]
    drawn = _ratio(_drawn(sides[0], of_seeds, of_contexts)) - _ratio(_drawn(sides[1], other, of_contexts))
    value = _ratio(sides[0].sum((0, 1))) - _ratio(sides[1].sum((0, 1)))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    contexts = int(np.all([side[..., 1].sum(0) > 0 for side in sides], axis=0).sum())
    return {
        "value": float(value),
        "low": float(low),
        "high": float(high),
        "n": contexts,
        "seeds": max(len(side) for side in sides),
    }


def table(counted: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Rates of every task and model: `task, model, value, low, high, n, seeds`."""
    rows = [
        {"task": task, "model": model, **rate(group, draws)}
        for (task, model), group in counted.groupby(["task", "model"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["task", "model", "value", "low", "high", "n", "seeds"])


def _table(counted: pd.DataFrame) -> np.ndarray:
    """Counts as [seeds, contexts, 2], contexts in alphabetical order; several samples of a context are added up."""
    sums = counted.groupby(["seed", "query_id"])[["above", "below"]].sum().unstack(fill_value=0.0)
    return np.stack([sums["above"].to_numpy(), sums["below"].to_numpy()], axis=-1)


def _weights(table: np.ndarray, draws: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed [draws, seeds] and each context [draws, contexts] is drawn; a lone seed always."""
    seeds, contexts = table.shape[:2]
    return (
        random.multinomial(seeds, np.full(seeds, 1 / seeds), draws).astype(float),
        random.multinomial(contexts, np.full(contexts, 1 / contexts), draws).astype(float),
    )


def _drawn(table: np.ndarray, of_seeds: np.ndarray, of_contexts: np.ndarray) -> np.ndarray:
    """Sums [draws, 2] of above and below in every draw."""
    return np.stack([((of_seeds @ table[..., side]) * of_contexts).sum(1) for side in (0, 1)], axis=-1)


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Above over below in the last axis; NaN where a draw counted nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
