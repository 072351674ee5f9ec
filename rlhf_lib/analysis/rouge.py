"""ROUGE of every model and of lead-3, by the `rouge-score` package, over two processes where it pays.

F1 of ROUGE-1, -2 and -L with stemming, and ROUGE-Lsum, which takes the union over sentences as the official Perl script
does (Lin 2004; the literature's "ROUGE-L" of CNN/DM is Lsum). Sentences are those of `text.sentences`.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache

import numpy as np
import pandas as pd
from rapidfuzz.distance import LCSseq
from rouge_score import rouge_scorer
from rouge_score.tokenizers import Tokenizer

from rlhf_lib.analysis import stats, text
from rlhf_lib.samples import summaries

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
WORTH_A_PROCESS = 1500  # pairs; below that, starting a process takes longer than it saves

# Lead-3 in the literature (ROUGE-1, -2, -Lsum), by outlet.
PUBLISHED_LEAD3 = {"cnn": (29.1, 11.1, 25.9), "dailymail": (40.7, 18.3, 37.2), "both": (40.4, 17.7, 36.6)}


class _CachedStemming(Tokenizer):
    """rouge-score's own tokens (lower case, letters and digits, Porter stems beyond 3 letters), each stemmed once."""

    def __init__(self):
        from nltk.stem import porter

        stem = porter.PorterStemmer().stem
        self._stem = lru_cache(maxsize=200_000)(lambda word: stem(word) if len(word) > 3 else word)

    def tokenize(self, text: str) -> list[str]:
        found = re.findall(r"[a-z0-9]+", text.lower())
        return [token for token in map(self._stem, found) if token]


@lru_cache(maxsize=1)
def _tools() -> tuple[_CachedStemming, rouge_scorer.RougeScorer]:
    tokenizer = _CachedStemming()
    return tokenizer, rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeLsum"], tokenizer=tokenizer)


def _score_chunk(pairs: list[tuple[str, str]]) -> np.ndarray:
    """[N, 4] F1 of (reference, summary) pairs, each a sentence a line.

    ROUGE-L's longest common subsequence is taken bit-parallel: the package's own, in plain Python, gives the same
    numbers and takes most of the time.
    """
    tokenizer, scorer = _tools()
    rows = []
    for reference, summary in pairs:
        score = scorer.score(reference, summary)
        sides = [tokenizer.tokenize(side) for side in (reference, summary)]
        common, total = LCSseq.similarity(*sides), sum(map(len, sides))
        rougel = 2 * common / total if common else 0.0  # F1 of common/len(reference) and common/len(summary)
        rows.append((score["rouge1"].fmeasure, score["rouge2"].fmeasure, rougel, score["rougeLsum"].fmeasure))
    return np.array(rows, dtype=float).reshape(-1, len(METRICS))


def rouge_scores(references, texts, processes: int = 2) -> np.ndarray:
    """F1 of every text against its reference, float [N, 4] in the order of METRICS, 0 to 1.

    Both are lists of N strings; sentences are split here. Two processes share the work when there is enough of it;
    every result is the same with one.
    """
    pairs = [
        ("\n".join(text.sentences(reference)), "\n".join(text.sentences(summary)))
        for reference, summary in zip(references, texts, strict=True)
    ]
    processes = min(processes, os.cpu_count() or 1, max(1, len(pairs) // WORTH_A_PROCESS))
    if processes == 1:
        return _score_chunk(pairs)
    # forkserver: safe beside threads of a notebook's kernel
    context = multiprocessing.get_context("forkserver")
    chunks = [pairs[i : i + 500] for i in range(0, len(pairs), 500)]
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return np.concatenate(list(pool.map(_score_chunk, chunks)))


def score_samples(samples: pd.DataFrame, processes: int = 2) -> pd.DataFrame:
    """ROUGE of rows that have a reference: `task, model, seed, query_id, rouge1, rouge2, rougeL, rougeLsum`, 0 to 1.

    Lead-3 is scored like any model, from `baselines.lead3_rows`. A blank reference counts as none.
    """
    kept = samples[samples["reference"].fillna("").str.strip() != ""]
    scores = rouge_scores(kept["reference"], summaries(kept), processes)
    about = kept[["task", "model", "seed", "query_id"]].reset_index(drop=True)
    return about.join(pd.DataFrame(scores, columns=METRICS))


def rouge_table(scores: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Mean F1 × 100 a task, model and metric: `task, model, metric, score, low, high, n`; bootstrap over summaries."""
    rows = []
    for (task, model), group in scores.groupby(["task", "model"], sort=False):
        for metric in METRICS:
            interval = stats.bootstrap_ratio(100 * group[metric], np.ones(len(group)), draws, seed)
            rows.append((task, model, metric, *interval, len(group)))
    return pd.DataFrame(rows, columns=["task", "model", "metric", "score", "low", "high", "n"])
