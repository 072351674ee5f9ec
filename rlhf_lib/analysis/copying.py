"""Where copies come from: longest common subsequence of bigrams, and summaries that copy the start of the input.

The alignment is the post's: bigrams of the summary matched in order to bigrams of the source. It runs bit-parallel
(rapidfuzz; Hyyrö 2004), one machine word for 64 summary bigrams a source bigram.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from rapidfuzz.distance import LCSseq

from rlhf_lib.analysis import stats, text
from rlhf_lib.analysis.novelty import ngrams
from rlhf_lib.errors import KitError
from rlhf_lib.samples import summaries

MIN_COPIED_WORDS = 5
GREETINGS = frozenset({"hi", "hello", "hey", "ok", "okay", "so"})

# The fine-tuned model's share of summaries that copy the start, (articles, posts), by kind of input [post].
PUBLISHED_COPIES_START = {"all": (0.776, 0.283), "with preamble": (0.014, 0.002)}


def coded_bigrams(source: Sequence[str], summary: Sequence[str]) -> tuple[str, str]:
    """Bigrams of two lists of words, one character a bigram, the same character for the same bigram.

    Characters are what rapidfuzz reads fastest. Raises KitError beyond a million different bigrams.
    """
    codes: dict[tuple[str, ...], int] = {}
    numbers = [[codes.setdefault(gram, len(codes)) for gram in ngrams(side, 2)] for side in (source, summary)]
    if len(codes) > sys.maxunicode:
        raise KitError(f"A source and summary with {len(codes):,} different bigrams are too long to align; cut them.")
    first, second = ("".join(map(chr, side)) for side in numbers)
    return first, second


def lcs_positions(source: Sequence, summary: Sequence) -> list[int]:
    """Places in `source` of one longest common subsequence with `summary`, rising. Any two strings or lists."""
    opcodes = LCSseq.opcodes(source, summary)
    return [place for op in opcodes if op.tag == "equal" for place in range(op.src_start, op.src_end)]


def copy_positions(samples: pd.DataFrame) -> pd.DataFrame:
    """Alignment of every sample row with its source.

    Columns: `task, model, query_id, source_length` and `summary_length` (bigrams), `positions` (list of int: matched
    bigrams' places in the source).
    """
    rows = []
    for row, summary in zip(samples.itertuples(), summaries(samples), strict=True):
        source, target = coded_bigrams(text.source_words(row.query, row.task), text.words(summary))
        rows.append((row.task, row.model, row.query_id, len(source), len(target), lcs_positions(source, target)))
    return pd.DataFrame(rows, columns=["task", "model", "query_id", "source_length", "summary_length", "positions"])


def copy_density(positions: pd.DataFrame, bins: int = 20) -> pd.DataFrame:
    """Density of matched bigrams over relative place in the source: `task, model, position, density`.

    `position` is the middle of a bin, 0 the start and 1 the end. Density 1 means: as many as if matches fell evenly.
    Every match counts alike; NaN for a model that copied nothing.
    """
    rows = []
    for (task, model), group in positions.groupby(["task", "model"], sort=False):
        relative = [(p + 0.5) / row.source_length for row in group.itertuples() for p in row.positions]
        counted, edges = np.histogram(relative, bins=bins, range=(0, 1))
        density = counted * bins / counted.sum() if counted.sum() else np.full(bins, np.nan)
        rows += [
            (task, model, middle, value) for middle, value in zip((edges[:-1] + edges[1:]) / 2, density, strict=True)
        ]
    return pd.DataFrame(rows, columns=["task", "model", "position", "density"])


def copied_share(positions: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Share of a model's summary bigrams that align with the source, micro: `task, model, share, low, high`."""
    rows = [
        (
            task,
            model,
            *stats.bootstrap_ratio([len(p) for p in group["positions"]], group["summary_length"], draws, seed),
        )
        for (task, model), group in positions.groupby(["task", "model"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["task", "model", "share", "low", "high"])


def has_preamble(query: str, task: str) -> bool | None:
    """Whether an input starts with a preamble by the post's definitions; None for tasks the post says nothing of.

    Articles: a colon in the first three words. Posts: the first word is one of GREETINGS.
    """
    body = text.source_body(query)
    if text.is_article_task(task):
        return any(":" in word for word in body.split(None, 3)[:3])
    if text.is_post_task(task):
        return bool(GREETINGS.intersection(text.words(next(iter(body.split(None, 1)), ""))[:1]))
    return None


def first_sentence(summary: str) -> list[str]:
    """Words of a summary's first sentence."""
    return text.words(next(iter(text.sentences(summary, 1)), ""))


def starts_with(source_words: Sequence[str], start: Sequence[str], at_least: int = MIN_COPIED_WORDS) -> bool:
    """Whether a source begins word for word with `start`, which must have at least 5 words."""
    return len(start) >= at_least and list(source_words[: len(start)]) == list(start)


def copies_start(source: str, summary: str) -> bool:
    """Whether the first sentence of a summary, of at least 5 words, is word for word how the source starts."""
    return starts_with(text.words(source), first_sentence(summary))


def count_copies(samples: pd.DataFrame) -> pd.DataFrame:
    """Start-of-input copying of every row: `task, model, seed, query_id, preamble` (bool or null), `copies_start` and
    `copies_first_words` (the milder test: the first 5 words alone). A row's own `starts_with_preamble` goes before
    the definitions."""
    frame = samples[["task", "model", "seed", "query_id"]].reset_index(drop=True)
    preambles, starts, words = [], [], []
    for row, summary in zip(samples.itertuples(), summaries(samples), strict=True):
        source = text.source_words(row.query, row.task)
        preambles.append(_preamble_of(row))
        starts.append(starts_with(source, first_sentence(summary)))
        words.append(starts_with(source, text.words(summary)[:MIN_COPIED_WORDS]))
    return frame.assign(
        preamble=pd.Series(preambles, dtype="boolean"),
        copies_start=pd.Series(starts, dtype=bool),
        copies_first_words=pd.Series(words, dtype=bool),
    )


def _preamble_of(row) -> bool | None:
    """Whether a sample row's input has a preamble: by its own `starts_with_preamble`, or else by the definitions."""
    known = row.starts_with_preamble
    return has_preamble(row.query, row.task) if pd.isna(known) else bool(known)


def copied_sentences(samples: pd.DataFrame) -> pd.DataFrame:
    """Which sentence of its source each sentence of a summary is, word for word: a row a sentence of 5 words or more.

    Columns: `task, model, seed, query_id, preamble` and `place` (1: the source's first sentence; 0: copied whole from
    nowhere). A preamble that ends in a full stop is a source's first sentence.
    """
    frame = samples[["task", "model", "seed", "query_id"]].reset_index(drop=True)
    preambles, found = [_preamble_of(row) for row in samples.itertuples()], []
    for row, summary in zip(samples.itertuples(), summaries(samples), strict=True):
        source = [tuple(text.words(s)) for s in text.sentences(text.source_body(row.query, row.task))]
        said = text.counted_sentences(summary, MIN_COPIED_WORDS)
        found.append([source.index(tuple(s)) + 1 if tuple(s) in source else 0 for s in said])
    frame = frame.assign(
        preamble=pd.Series(preambles, dtype="boolean"), place=pd.Series(found, index=frame.index, dtype=object)
    )
    return frame.explode("place").dropna(subset="place").astype({"place": int}).reset_index(drop=True)


def copied_sentence_table(places: pd.DataFrame, last: int = 5) -> pd.DataFrame:
    """Share of summary sentences by the source's sentence that they are: `task, model, place, share, n`.

    `places` is what `copied_sentences` returns; `place` is "1" to `last`, "later" or "none", and a model's shares
    add up to 1. `n`: its sentences.
    """
    names = {0: "none"} | {k: str(k) for k in range(1, last + 1)}
    rows = []
    for (task, model), group in places.groupby(["task", "model"], sort=False):
        shares = group["place"].map(lambda place: names.get(place, "later")).value_counts(normalize=True)
        rows += [(task, model, name, float(shares.get(name, 0.0)), len(group))
                 for name in [*list(names.values())[1:], "later", "none"]]  # fmt: skip
    return pd.DataFrame(rows, columns=["task", "model", "place", "share", "n"])


def openings(samples: pd.DataFrame, words: int = 3) -> pd.DataFrame:
    """Which sentence of its source a summary *begins* like: a row a sample.

    Columns: `task, model, seed, query_id, preamble`, `place` (of the first source sentence whose first `words` words
    are also the summary's; 0: of none) and `finished` (whether the summary's first sentence is that one, whole).
    """
    frame = samples[["task", "model", "seed", "query_id"]].reset_index(drop=True)
    preambles, places, finished = [_preamble_of(row) for row in samples.itertuples()], [], []
    for row, summary in zip(samples.itertuples(), summaries(samples), strict=True):
        source = [text.words(s) for s in text.sentences(text.source_body(row.query, row.task))]
        start = text.words(summary)[:words]
        like = [k for k, s in enumerate(source, 1) if len(start) == words and s[:words] == start]
        places.append(like[0] if like else 0)
        finished.append(bool(like) and first_sentence(summary) == source[like[0] - 1])
    return frame.assign(preamble=pd.Series(preambles, dtype="boolean"), place=places, finished=finished)


def opening_table(opened: pd.DataFrame, last: int = 5) -> pd.DataFrame:
    """What an opening is worth: `task, model, place, share, finished, points, low, high, n`, a row a place 1 to `last`.

    opened: from `openings`, with a column `points`, what labelers give each of those summaries. `share` of a model's
    summaries begin like that sentence, `finished` of these are its copy; `points` is their mean, with a 95% interval;
    NaN for none.
    """
    rows = []
    for (task, model), group in opened.groupby(["task", "model"], sort=False):
        for place in range(1, last + 1):
            mine = group[group["place"] == place]
            mean = stats.bootstrap_ratio(mine["points"], np.ones(len(mine)))
            rows.append((task, model, place, len(mine) / len(group), mine["finished"].mean(), *mean, len(mine)))
    columns = ["task", "model", "place", "share", "finished", "points", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def copy_start_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Share of summaries that copy the start of the input, over all inputs, without and with a preamble.

    `counts` is what `count_copies` returns. Columns: `task, model, inputs, share, low, high` (Wilson), `n`,
    `first_words_share` (the first-5-words test) and `published` (fine-tuned only). NaN where no input counts.
    """
    rows = []
    for (task, model), group in counts.groupby(["task", "model"], sort=False):
        preamble = group["preamble"]
        kinds = {
            "all": group,
            "without preamble": group[preamble.eq(False).fillna(False)],
            "with preamble": group[preamble.fillna(False)],
        }
        for inputs, of_kind in kinds.items():
            share = stats.wilson(of_kind["copies_start"].sum(), len(of_kind))
            milder = of_kind["copies_first_words"].mean() if len(of_kind) else float("nan")
            rows.append((task, model, inputs, *share, len(of_kind), milder, _published(task, model, inputs)))
    return pd.DataFrame(
        rows, columns=["task", "model", "inputs", "share", "low", "high", "n", "first_words_share", "published"]
    )


def _published(task: str, model: str, inputs: str) -> float:
    pair = PUBLISHED_COPIES_START.get(inputs)
    if model != "fine-tuned" or pair is None:
        return float("nan")
    return pair[0] if text.is_article_task(task) else pair[1] if text.is_post_task(task) else float("nan")
