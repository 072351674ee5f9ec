"""A run's rows of results beside those of a recorded sweep (`data/recorded/`), and their means over seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from rlhf_lib import manifest
from rlhf_lib.intervals import wilson


def was_made_with(folder: Path, name: str, profile: str) -> bool:
    """Whether the sweep ``name`` is recorded in ``folder``, and with this profile."""
    made = folder / f"{name}_manifest.json"
    return made.is_file() and manifest.read_json(made).get("profile") == profile


def sweep_rows(folder: Path, name: str, profile: str) -> pd.DataFrame | None:
    """The rows of the sweep ``name`` in ``folder``; None if it was not recorded with this profile."""
    return pd.read_json(folder / f"{name}_sweep.json") if was_made_with(folder, name, profile) else None


def with_recorded(rows: pd.DataFrame, folder: Path, name: str, profile: str, on: Sequence[str]) -> pd.DataFrame:
    """The rows, and below them those of the sweep ``name`` in ``folder``, if it was recorded with the same profile.

    What claims are held against where a run's training is as long as the sweep's: one seed can contradict a claim and
    not establish it. A recorded row that is alike in the columns ``on`` (the seed among them) is left out: each
    training counts once.
    """
    recorded = sweep_rows(folder, name, profile)
    if recorded is None:
        return rows
    known = set(rows[list(on)].itertuples(index=False, name=None))
    new = [key not in known for key in recorded[list(on)].itertuples(index=False, name=None)]
    return pd.concat([rows, recorded[new]], ignore_index=True)


def over_seeds(values, seeds, **more) -> dict:
    """A quantity's mean over seeds as a measure for the claims, with Student's 95% interval where there are several.

    values, seeds: a number and a seed a training; trainings of one seed count as one. ``more``: the measure's other
    fields, such as n and labelers.
    """
    each = pd.Series(np.asarray(values, dtype=float)).groupby(np.asarray(seeds)).mean()
    around = {}
    if len(each) > 1:
        half = float(t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
        around = {"low": float(each.mean()) - half, "high": float(each.mean()) + half}
    return {"value": float(each.mean()), "seeds": len(each), **around, **more}


def point(shares, contexts) -> dict[str, float]:
    """A point of a figure, `value, low, high`, from a share a training and the contexts behind each.

    Of one training, with Wilson's 95% interval over its contexts; of several, their mean, from the lowest to the
    highest: contexts counted together would make trainings that differ look like one that is sure.
    """
    shares, contexts = np.asarray(shares, dtype=float), np.asarray(contexts, dtype=float)
    if len(shares) == 1:
        one = wilson(shares[0] * contexts[0], contexts[0])
        return {"value": one.value, "low": one.low, "high": one.high}
    return {"value": float(shares.mean()), "low": float(shares.min()), "high": float(shares.max())}


def labels_needed(rows: pd.DataFrame, value: str, share: float = 0.9, start: float = 0.0) -> dict | None:
    """Labels at which ``value`` first reaches ``share`` of what it is at the largest budget, as a measure over seeds.

    rows: of one task and strategy, with `seed, labels`. With ``start``, the value without labels, it is the share of
    what labels gain over that. Between two budgets it is read off a straight line over the logarithm, and seeds are
    averaged by the logarithm. A seed that is there with the smallest budget may need fewer still: it counts with that
    budget, and the interval begins at 0. Seeds that lack a budget of the fullest are left out; None where no seed has
    two.
    """
    budgets = rows.groupby("seed")["labels"].agg(set)
    fullest = max(budgets, key=len, default=set())
    if len(fullest) < 2:
        return None
    whole = [seed for seed, has in budgets.items() if has >= fullest]
    of_seed = [rows[rows["seed"] == seed].groupby("labels")[value].mean().sort_index() for seed in whole]
    needed = [_reaches(curve, start + share * (curve.iloc[-1] - start)) for curve in of_seed]
    found = over_seeds(np.log(needed), whole)
    found |= {name: float(np.exp(found[name])) for name in ("value", "low", "high") if name in found}
    at_most = any(labels == curve.index[0] for labels, curve in zip(needed, of_seed, strict=True))
    return found | ({"low": 0.0, "high": found.get("high", found["value"])} if at_most else {})


def _reaches(curve: pd.Series, wanted: float) -> float:
    """The index at which a curve first reaches a value, between two points by their logarithms."""
    place = int(np.argmax(curve.to_numpy() >= wanted))
    if place == 0:
        return float(curve.index[0])
    (x0, y0), (x1, y1) = ((np.log(curve.index[i]), curve.iloc[i]) for i in (place - 1, place))
    return float(np.exp(x0 + (wanted - y0) / (y1 - y0) * (x1 - x0)))
