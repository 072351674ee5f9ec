"""Who is preferred to whom: pairs of models on shared contexts, the preference matrix, agreement, copy preference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd

from rlhf_lib.analysis import stats, text
from rlhf_lib.analysis.novelty import ngrams
from rlhf_lib.errors import KitError
from rlhf_lib.samples import summaries

CHOICES = ("a", "b", "tie")


def paired_summaries(samples: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Contexts that two models both summarise: `task, query_id, query, summary_a, summary_b`, one row each.

    With several samples of a model on a context, the first of each counts.
    """
    rows = samples.assign(summary=summaries(samples)).drop_duplicates(["task", "query_id", "model"])
    sides = [rows[rows["model"] == model] for model in (a, b)]
    left = sides[0][["task", "query_id", "query", "summary"]]
    return left.merge(sides[1][["task", "query_id", "summary"]], on=["task", "query_id"], suffixes=("_a", "_b"))


def compare_models(
    samples: pd.DataFrame, models: list[str], pick: Callable, judges: int = 1, seed: int = 0
) -> pd.DataFrame:
    """Let labelers choose between every two models on every shared context, each pair in random order.

    `pick(query, responses)` gives the position of the better response. With several judges the majority of their
    views counts (the paper: 3); an even split is a tie. Columns: `task, query_id, a, b, choice` ("a", "b", "tie").
    """
    random = np.random.default_rng(seed)
    rows = []
    for a, b in combinations(models, 2):
        for pair in paired_summaries(samples, a, b).itertuples():
            votes = [_vote(pick, pair, flipped) for flipped in random.random(judges) < 0.5]
            for_a = sum(votes)
            choice = "tie" if 2 * for_a == judges else "a" if 2 * for_a > judges else "b"
            rows.append((pair.task, pair.query_id, a, b, choice))
    return pd.DataFrame(rows, columns=["task", "query_id", "a", "b", "choice"])


def _vote(pick: Callable, pair, flipped: bool) -> bool:
    """Whether one view of a pair goes to side a, whichever side is shown first."""
    shown = [pair.summary_b, pair.summary_a] if flipped else [pair.summary_a, pair.summary_b]
    return pick(pair.query, shown) == (1 if flipped else 0)


def preference_matrix(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Share of comparisons in which a is chosen over b, both ways: `a, b, share, low, high, n, ties`.

    `comparisons` has `a, b, choice` and optional `query_id`; ties count half to each side, so that the shares of
    (a, b) and (b, a) add up to 1. Intervals are a bootstrap over contexts. Raises KitError on an unknown choice.
    """
    unknown = sorted(map(str, set(comparisons["choice"]) - set(CHOICES)))
    if unknown:
        raise KitError(f"A comparison's choice must be one of {', '.join(CHOICES)}, not {unknown[0]}.")
    worth = comparisons["choice"].map({"a": 1.0, "tie": 0.5, "b": 0.0})
    flipped = comparisons.rename(columns={"a": "b", "b": "a"}).assign(worth=1 - worth)
    both = pd.concat([comparisons.assign(worth=worth), flipped], ignore_index=True)
    rows = []
    for (a, b), group in both.groupby(["a", "b"], sort=False):
        contexts = group.get("query_id")
        interval = stats.bootstrap_ratio(group["worth"], np.ones(len(group)), clusters=contexts)
        rows.append((a, b, *interval, len(group), (group["choice"] == "tie").mean()))
    return pd.DataFrame(rows, columns=["a", "b", "share", "low", "high", "n", "ties"])


def comparisons_from_best(labels: pd.DataFrame) -> pd.DataFrame:
    """Pairs that follow from best-of-k labels whose responses come from different models.

    `labels` has `query_id`, `models` (list of k names in the order shown) and `best` (0…k-1): the best one's model is
    chosen over each other model. Columns: `query_id, a, b, choice`.
    """
    rows = [
        (row.query_id, row.models[row.best], other, "a")
        for row in labels.itertuples()
        for i, other in enumerate(row.models)
        if i != row.best and other != row.models[row.best]
    ]
    return pd.DataFrame(rows, columns=["query_id", "a", "b", "choice"])


def agreement(verdicts: pd.DataFrame, seed: int = 0) -> stats.Interval:
    """Share of pairs of labelers that give an item the same verdict; bootstrap over items.

    `verdicts` has `item, labeler, verdict`. All NaN where no item has two labelers. Chance is 1/4 for four-way labels
    and the sum of squared shares of the verdicts in general.
    """
    same, pairs = [], []
    for _, group in verdicts.groupby("item", sort=False):
        counts = group["verdict"].value_counts().to_numpy()
        n = counts.sum()
        same.append((counts * (counts - 1)).sum() / 2)
        pairs.append(n * (n - 1) / 2)
    return stats.bootstrap_ratio(same, pairs, seed=seed)


def chance_agreement(verdicts: pd.DataFrame) -> float:
    """Agreement of two labelers who give verdicts independently with the pooled shares, 0 to 1."""
    return float((verdicts["verdict"].value_counts(normalize=True) ** 2).sum())


def copied_bigrams(source: str, summary: str) -> float:
    """Share of a summary's bigrams that stand in its source, NaN for a summary without one."""
    grams, known = ngrams(text.words(summary), 2), set(ngrams(text.words(source), 2))
    return sum(gram in known for gram in grams) / len(grams) if grams else float("nan")


def copy_choices(pairs: pd.DataFrame, measure: Callable[[str, str], float] = copied_bigrams) -> pd.DataFrame:
    """Choices between two summaries of which one copies more: `source, copies` (whether it was the one picked).

    `pairs` has `source, summary_a, summary_b, choice` ("a", "b", "tie"); ties, and pairs in which both copy alike, are
    left out.
    """
    chosen = pairs[pairs["choice"].isin(("a", "b"))]
    copied = [[measure(row.source, row.summary_a), measure(row.source, row.summary_b)] for row in chosen.itertuples()]
    more = np.array([a - b for a, b in copied])  # [N]
    found = pd.DataFrame({"source": chosen["source"].to_numpy(), "copies": (more > 0) == (chosen["choice"] == "a")})
    return found[np.isfinite(more) & (more != 0)].reset_index(drop=True)


def copy_preference(choices: pd.DataFrame, seed: int = 0) -> stats.Interval:
    """Share of `copy_choices` that fall on the summary that copies more. 0.5: copying plays no part.

    Bootstrap over sources (several judges read one article).
    """
    sources = choices["source"].map(lambda s: " ".join(text.words(s)[:80])).to_numpy()
    return stats.bootstrap_ratio(choices["copies"], np.ones(len(choices)), seed=seed, clusters=sources)
