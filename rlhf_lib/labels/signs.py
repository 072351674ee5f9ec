"""The signs by which `quality.guessers` tells somebody who guesses: each a p-value, and how they are put together."""

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, norm

from rlhf_lib.labels.simulated import wilson

ENOUGH = 20  # below so many answers, no sign is read


def suspicion(agrees: pd.Series, signs: dict[str, float]) -> dict:
    """One labeler's row: agreement with the others, and the p of each sign (NaN where it cannot be read)."""
    interval = wilson(float(agrees.sum()), len(agrees)) if len(agrees) else None
    read = [p for p in signs.values() if not np.isnan(p)]
    return {
        "n_shared": len(agrees),
        "agrees": interval.share if interval else np.nan,
        "agrees_low": interval.low if interval else np.nan,
        **{f"p_{sign}": p for sign, p in signs.items()},
        "p": min(1.0, len(read) * min(read)) if read else 1.0,
    }


def p_others(mine: pd.DataFrame, others: pd.DataFrame) -> float:
    """One-sided p that this labeler agrees with the others no less than they agree among themselves; NaN if unknown.

    A difference of two shares of agreeing pairs; its error counts comparisons as clusters, because one comparison
    enters both shares.
    """
    theirs = others.groupby(["comparison_id", "best"]).size()  # c_k without this labeler
    size = theirs.groupby("comparison_id").sum()
    cells = pd.DataFrame({"pairs": size * (size - 1), "agree": (theirs * (theirs - 1)).groupby("comparison_id").sum()})
    own = mine.set_index("comparison_id")
    cells = cells.join(
        pd.DataFrame({"own_pairs": own["m"] - 1, "own_agree": own["agrees"] * (own["m"] - 1)}), how="outer"
    )
    pairs, agree, own_pairs, own_agree = cells.fillna(0.0).to_numpy().T  # [comparisons] each
    if pairs.sum() == 0 or own_pairs.sum() == 0 or len(mine) < ENOUGH:
        return float("nan")
    among, with_them = agree.sum() / pairs.sum(), own_agree.sum() / own_pairs.sum()
    residual = (own_agree - with_them * own_pairs) / own_pairs.sum() - (agree - among * pairs) / pairs.sum()
    error = np.sqrt((residual**2).sum())
    return float(norm.cdf((with_them - among) / error)) if error > 0 else float("nan")


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values [n]."""
    order = p.argsort()
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, stepped)
    return corrected


def p_fewer_hits(table: pd.DataFrame, name: str) -> float:
    """One-sided p that this labeler's share of hits is below everybody else's pooled; NaN where nothing is known."""
    if name not in table.index or len(table) < 2:
        return float("nan")
    hits = (table["share"] * table["n"]).round()
    misses = table["n"] - hits
    others = table.index != name
    cells = [[hits[name], misses[name]], [hits[others].sum(), misses[others].sum()]]
    return float(fisher_exact(cells, alternative="less").pvalue)
