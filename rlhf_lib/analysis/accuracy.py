"""Who tells the truth: the world's fact checker, people's blind judgements, and an estimate for real text.

The three are never mixed. The estimate is a logistic regression on how much of a summary its source contains, fitted
to human judgements that the user has; it is reported with its agreement, cross-validated by document, beside plain
bigram containment. Where it does not reach that floor on every set, the floor is used and said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rlhf_lib.analysis import stats, text
from rlhf_lib.analysis.copying import coded_bigrams, lcs_positions
from rlhf_lib.analysis.novelty import ngrams
from rlhf_lib.errors import KitError
from rlhf_lib.samples import facts_of, summaries

FLOOR = "contained_2grams"
FEATURES = (
    "contained_1grams",
    "contained_2grams",
    "contained_3grams",
    "contained_4grams",
    "novel_2grams_log",
    "contained_content_words",
    "contained_numbers",
    "contained_names",
    "aligned_2grams",
    "least_contained_sentence",
    "best_source_sentence",
    "best_source_sentence_content",
)
# Judgements are few and the features overlap: a strong ridge (C is its inverse strength).
RIDGE_C = 0.01

# Authors' judgements in the blog post: accurate of 30, (articles, posts).
PUBLISHED_ACCURATE = {
    "zero-shot": (6, 6),
    "fine-tuned": (29, 26),
    "supervised": (19, 8),
    "supervised + fine-tuned": (20, 11),
}
PUBLISHED_JUDGED = 30


def checked_accuracy(samples: pd.DataFrame, check: Callable) -> pd.DataFrame:
    """Accuracy by a fact checker: `task, model, accurate, low, high` (Wilson), `nothing_checkable`, `n`.

    `check(summary, facts)` gives an object with `accurate` and `checkable`, as the embedded world's does. Rows without
    facts are left out; a summary that says nothing checkable counts as not accurate, its share is shown.
    """
    kept = samples[samples["facts"].notna()]
    verdicts = [check(summary, facts_of(facts)) for summary, facts in zip(summaries(kept), kept["facts"], strict=True)]
    table = kept[["task", "model"]].assign(
        accurate=[v.accurate for v in verdicts], checkable=[v.checkable for v in verdicts]
    )
    rows = [
        (task, model, *stats.wilson(group["accurate"].sum(), len(group)), 1 - group["checkable"].mean(), len(group))
        for (task, model), group in table.groupby(["task", "model"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["task", "model", "accurate", "low", "high", "nothing_checkable", "n"])


def blind_sheet(samples: pd.DataFrame, per_model: int = 30, seed: int = 0) -> pd.DataFrame:
    """Summaries for people to judge, `per_model` a task and model where there are so many, shuffled together.

    Columns: `item` (0…), `task, model, query_id, query, summary`; show all but `model`.
    """
    rows = samples.assign(summary=summaries(samples))
    picked = pd.concat(
        [
            group.sample(min(per_model, len(group)), random_state=seed)
            for _, group in rows.groupby(["task", "model"], sort=False)
        ]
    )
    shuffled = picked.sample(frac=1, random_state=seed)[["task", "model", "query_id", "query", "summary"]]
    return shuffled.reset_index(drop=True).rename_axis("item").reset_index()


def judged_accuracy(judgements: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by people, from rows `task, model, accurate` (bool): `accurate, low, high, n` beside the post's 30.

    `published` is the post's share of accurate summaries for the model, NaN where it has none.
    """
    rows = []
    for (task, model), group in judgements.groupby(["task", "model"], sort=False):
        share = stats.wilson(group["accurate"].astype(bool).sum(), len(group))
        rows.append((task, model, *share, len(group), published_accuracy(task, model)))
    return pd.DataFrame(rows, columns=["task", "model", "accurate", "low", "high", "n", "published"])


def published_accuracy(task: str, model: str) -> float:
    """The post's share of accurate summaries (of 30), NaN where it has none."""
    pair = PUBLISHED_ACCURATE.get(model)
    if pair is None or not (text.is_article_task(task) or text.is_post_task(task)):
        return float("nan")
    return pair[0 if text.is_article_task(task) else 1] / PUBLISHED_JUDGED


def containment(source: list[str], summary: list[str], n: int) -> float:
    """Share of a summary's n-grams (occurrences) that stand in the source; 0 where it has none."""
    known, grams = set(ngrams(source, n)), ngrams(summary, n)
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def features(source: str, summary: str) -> list[float]:
    """How much of a summary its source holds: FEATURES of one pair, all but `novel_2grams_log` from 0 to 1."""
    s, t = text.words(source), text.words(summary)
    known = set(s)
    sentences = text.counted_sentences(summary, 1) or [t]
    of_source = [set(words) for words in text.counted_sentences(source, 3)]
    contained = [containment(s, t, n) for n in range(1, 5)]
    source_grams, summary_grams = coded_bigrams(s, t)
    return [
        *contained,
        float(np.log1p(round((1 - contained[1]) * len(summary_grams)))),
        _share_known([w for w in t if w not in ENGLISH_STOP_WORDS], known),
        _share_known([w for w in t if any(c.isdigit() for c in w)], known),
        _share_known(_names(summary), known),
        len(lcs_positions(source_grams, summary_grams)) / max(len(summary_grams), 1),
        min(containment(s, words, 2) for words in sentences),
        min(_best_cover(set(words), of_source) for words in sentences),
        min(_best_cover(set(words) - ENGLISH_STOP_WORDS, of_source) for words in sentences),
    ]


def _share_known(words: list[str], known: set[str]) -> float:
    """Share of words that are known; 1 where there are none to be wrong about."""
    return sum(w in known for w in words) / len(words) if words else 1.0


def _names(summary: str) -> list[str]:
    """Words of capitalised words that do not open a sentence."""
    inner = [word for sentence in text.sentences(summary) for word in sentence.split()[1:] if word[:1].isupper()]
    return text.words(" ".join(inner))


def _best_cover(words: set[str], sentences: list[set[str]]) -> float:
    """Largest share of these words that one source sentence holds."""
    return max((len(words & s) for s in sentences), default=0) / len(words) if words else 1.0


def feature_table(sources, texts) -> pd.DataFrame:
    """FEATURES of N pairs, float [N, 12]."""
    return pd.DataFrame([features(*pair) for pair in zip(sources, texts, strict=True)], columns=list(FEATURES))


class Estimate(NamedTuple):
    """A fitted accuracy estimate: the classifier, the features it reads, and how well it agreed with people."""

    classifier: object
    columns: tuple[str, ...]
    validation: pd.DataFrame  # what `cross_validate` returns
    method: str


def fit_estimate(judgements: pd.DataFrame, folds: int = 5, seed: int = 0) -> Estimate:
    """Fit the estimate to human judgements with columns `source, summary, label` (1 = accurate), optional `dataset`.

    Cross-validated by document (no source is in training and test): if the regression on all FEATURES falls below
    plain bigram containment in AUC on any set, the regression on containment alone is what is fitted.
    Raises KitError when one of the two labels is missing, or there are fewer documents than folds.
    """
    table = feature_table(judgements["source"], judgements["summary"])
    validation = cross_validate(judgements, table, folds, seed)
    reached = bool((validation["auc"] >= validation["floor_auc"]).all())
    columns = FEATURES if reached else (FLOOR,)
    classifier = _classifier().fit(table[list(columns)].to_numpy(), judgements["label"].astype(int))
    method = (
        "logistic regression on containment features"
        if reached
        else "bigram containment alone: the larger model did not reach it on every set"
    )
    return Estimate(classifier, tuple(columns), validation, method)


def cross_validate(judgements: pd.DataFrame, table: pd.DataFrame, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Agreement with people of the regression on all FEATURES, held out by document, a row a set.

    `table` is the `feature_table` of the judgements. Columns: `set` (dataset and level where given), `n`,
    `accurate` (people's share), `auc`, `floor_auc` (plain bigram containment, nothing fitted), `agreement` (share of
    verdicts at 0.5 that are people's), `kappa` (Cohen), `estimated` (mean probability).
    """
    labels = judgements["label"].astype(int).to_numpy()
    groups = _documents(judgements)
    if len(set(labels)) < 2 or len(np.unique(groups)) < folds:
        raise KitError(
            f"The judgements need both labels and at least {folds} different sources; they have "
            f"{len(set(labels))} label(s) and {len(np.unique(groups))} source(s)."
        )
    split = GroupKFold(folds, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(
        _classifier(), table.to_numpy(), labels, groups=groups, cv=split, method="predict_proba"
    )[:, 1]
    names = _set_names(judgements)
    rows = [
        (name, *_agreement(labels[names == name], probabilities[names == name], table[FLOOR].to_numpy()[names == name]))
        for name in dict.fromkeys(names)
    ]
    return pd.DataFrame(rows, columns=["set", "n", "accurate", "auc", "floor_auc", "agreement", "kappa", "estimated"])


def _classifier():
    return make_pipeline(StandardScaler(), LogisticRegression(C=RIDGE_C, max_iter=2000))


def _documents(judgements: pd.DataFrame) -> np.ndarray:
    """One number a document, found by its first words: two sets may judge the same article under two names."""
    return pd.factorize(judgements["source"].map(lambda s: " ".join(text.words(s)[:80])))[0]


def _set_names(judgements: pd.DataFrame) -> np.ndarray:
    parts = [judgements[c].astype(str) for c in ("dataset", "level") if c in judgements]
    return (
        (parts[0] if len(parts) == 1 else parts[0] + "/" + parts[1]).to_numpy()
        if parts
        else np.full(len(judgements), "judgements")
    )


def _agreement(labels, probabilities, floor) -> tuple:
    """n, accurate, auc, floor_auc, agreement, kappa, estimated of one set."""
    verdicts = probabilities > 0.5
    both = len(set(labels)) == 2
    return (
        len(labels),
        labels.mean(),
        roc_auc_score(labels, probabilities) if both else float("nan"),
        roc_auc_score(labels, floor) if both else float("nan"),
        (verdicts == labels).mean(),
        cohen_kappa_score(labels, verdicts) if both else float("nan"),
        probabilities.mean(),
    )


def estimate_accuracy(samples: pd.DataFrame, estimate: Estimate | None = None) -> pd.DataFrame:
    """Automatic accuracy a task and model: `task, model, estimate, low, high, n, method`; bootstrap over summaries.

    With an `Estimate`: the mean probability that people would call a summary accurate. Without one there are no human
    judgements to lean on, so plain bigram containment is given, which is not a share of accurate summaries.
    """
    bodies = [text.source_body(row.query, row.task) for row in samples.itertuples()]
    if estimate is None:
        values = [containment(text.words(s), text.words(t), 2) for s, t in zip(bodies, summaries(samples), strict=True)]
    else:
        table = feature_table(bodies, summaries(samples))
        values = estimate.classifier.predict_proba(table[list(estimate.columns)].to_numpy())[:, 1]
    method = estimate.method if estimate else "bigram containment (no judgements given)"
    rows = [
        (task, model, *stats.bootstrap_ratio(group["value"], np.ones(len(group))), len(group), method)
        for (task, model), group in samples[["task", "model"]]
        .assign(value=values)
        .groupby(["task", "model"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["task", "model", "estimate", "low", "high", "n", "method"])
