"""Novelty: which share of a summary is not in its source (the post's table; See et al. 2017 for n-grams).

Counted over occurrences: an n-gram that a summary holds twice counts twice. A sentence (at least 3 words) is novel
when its words do not stand in the source one after another. Micro averages pool all summaries of a model and task;
macro averages give each summary with at least one unit the same weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from rlhf_lib.analysis import stats, text
from rlhf_lib.samples import summaries

UNITS = ("1-gram", "2-gram", "3-gram", "4-gram", "sentence")
MIN_SENTENCE_WORDS = 3

# Sentence novelty of the blog post: (articles, posts), shares.
PUBLISHED_SENTENCE_NOVELTY = {
    "reference": (0.967, 0.989),
    "zero-shot": (0.917, 0.963),
    "fine-tuned": (0.025, 0.290),
    "supervised": (0.836, 0.969),
    "supervised + fine-tuned": (0.696, 0.940),
}


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All n-grams of a list of words, in order, repeats kept."""
    return list(zip(*(words[i:] for i in range(n)), strict=False))


@lru_cache(maxsize=32)
def _known(source: tuple[str, ...]) -> tuple[str, list[set]]:
    """What a source holds: its words as one text, and its sets of n-grams for n = 1 to 4."""
    return f" {' '.join(source)} ", [set(ngrams(source, n)) for n in range(1, 5)]


def novel_units(source: Sequence[str], summary: str) -> tuple[np.ndarray, np.ndarray]:
    """Novel units and all units of one summary of a source (its words), both int [5] in the order of UNITS."""
    whole, known = _known(tuple(source))
    summary_words, own = text.words(summary), text.counted_sentences(summary, MIN_SENTENCE_WORDS)
    grams = [ngrams(summary_words, n) for n in range(1, 5)]
    novel = [sum(gram not in there for gram in mine) for mine, there in zip(grams, known, strict=True)]
    novel.append(sum(f" {' '.join(words)} " not in whole for words in own))
    return np.array(novel), np.array([*map(len, grams), len(own)])


def count_novel(samples: pd.DataFrame) -> pd.DataFrame:
    """Counts of every sample row: columns `task, model, seed, query_id`, `novel`, `total` (int [5] each, as UNITS)."""
    counts = [
        novel_units(text.source_words(row.query, row.task), summary)
        for row, summary in zip(samples.itertuples(), summaries(samples), strict=True)
    ]
    return samples[["task", "model", "seed", "query_id"]].assign(
        novel=[novel for novel, _ in counts], total=[total for _, total in counts]
    )


def novelty_table(counts: pd.DataFrame, average: str = "micro", draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Novelty a task, model and unit: `task, model, unit, novelty, low, high, units, summaries, average, published`.

    `counts` is what `count_novel` returns. Shares are 0 to 1, NaN where no unit was counted; the 95% interval is a
    bootstrap over summaries. `published` is the blog post's sentence novelty of the same model, NaN elsewhere.
    """
    rows = []
    for (task, model), group in counts.groupby(["task", "model"], sort=False):
        novel, total = np.stack(group["novel"]), np.stack(group["total"])  # [N, 5]
        for place, unit in enumerate(UNITS):
            above, below = novel[:, place], total[:, place]
            if average == "macro":
                counted = below > 0
                above, below = above[counted] / below[counted], np.ones(counted.sum())
            value, low, high = stats.bootstrap_ratio(above, below, draws, seed)
            rows.append(
                (
                    task,
                    model,
                    unit,
                    value,
                    low,
                    high,
                    int(total[:, place].sum()),
                    len(group),
                    average,
                    published(task, model) if unit == "sentence" else float("nan"),
                )
            )
    return pd.DataFrame(
        rows, columns=["task", "model", "unit", "novelty", "low", "high", "units", "summaries", "average", "published"]
    )


def published(task: str, model: str) -> float:
    """The post's sentence novelty of a model, NaN where it has none for this task."""
    pair = PUBLISHED_SENTENCE_NOVELTY.get(model, (float("nan"),) * 2)
    if text.is_article_task(task):
        return pair[0]
    return pair[1] if text.is_post_task(task) else float("nan")


def novelty_difference(
    counts: pd.DataFrame, task: str, first: str, second: str, unit: str = "sentence", seed: int = 0
) -> stats.Interval:
    """Novelty of `first` minus `second` with its 95% interval, resampling the queries that both summarise.

    A difference counts when the interval leaves out 0. All NaN when they share no query.
    """
    place, sides = UNITS.index(unit), []
    for model in (first, second):
        rows = counts[(counts["task"] == task) & (counts["model"] == model)]
        sums = (
            pd.DataFrame(
                {
                    "query_id": rows["query_id"],
                    "novel": [v[place] for v in rows["novel"]],
                    "total": [v[place] for v in rows["total"]],
                }
            )
            .groupby("query_id")
            .sum()
        )
        sides.append(sums)
    shared = sides[0].index.intersection(sides[1].index)
    pairs = [(side.loc[shared, "novel"].to_numpy(), side.loc[shared, "total"].to_numpy()) for side in sides]
    return stats.bootstrap_difference(*pairs, seed=seed, paired=True)
