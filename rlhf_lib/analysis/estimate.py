"""An automatic accuracy estimate for real text, fitted to people's judgements and held against them.

A logistic regression on how much of a summary its source contains. It is reported with its agreement with people,
cross-validated by document and nested: strength and features are chosen inside each training part, so that nothing
was chosen on what it is tested on. (The features were written down while looking at the same kind of data: `transfer`,
the agreement on a data set that was left out whole, tells what that is worth.) Where it does not reach plain bigram
containment on every set, that floor is used and said. It is never mixed with what people or the fact checker say.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rlhf_lib.analysis import stats, text
from rlhf_lib.analysis.copying import coded_bigrams, lcs_positions
from rlhf_lib.analysis.novelty import ngrams
from rlhf_lib.errors import KitError
from rlhf_lib.samples import summaries

FLOOR = "contained_2grams"
FEATURES = (
    "contained_1grams", "contained_2grams", "contained_3grams", "contained_4grams", "novel_2grams_log",
    "contained_content_words", "contained_numbers", "contained_names", "aligned_2grams",
    "least_contained_sentence", "best_source_sentence", "best_source_sentence_content",
)  # fmt: skip
# What is chosen among, inside each training part: features, and C, the inverse strength of the ridge (judgements are
# few and the features overlap, so strong ones).
CHOICES = tuple((columns, c) for columns in (FEATURES[:4], FEATURES) for c in (0.01, 0.1))
INNER_FOLDS = 3


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

    If the regression, cross-validated (see `cross_validate`), falls below plain bigram containment in AUC on any set,
    the regression on containment alone is what is fitted.
    Raises KitError when one of the two labels is missing, or there are fewer documents than folds.
    """
    table = feature_table(judgements["source"], judgements["summary"])
    validation = cross_validate(judgements, table, folds, seed)
    reached = bool((validation["auc"] >= validation["floor_auc"]).all())
    labels, groups = judgements["label"].astype(int).to_numpy(), _documents(judgements)
    columns, c = ((FLOOR,), 1.0)
    if reached:
        columns, c = _choose(table, labels, groups, _set_names(judgements), seed)
    classifier = _classifier(c).fit(table[list(columns)].to_numpy(), labels)
    method = (
        f"logistic regression on {len(columns)} containment features"
        if reached
        else "bigram containment alone: the larger model did not reach it on every set"
    )
    return Estimate(classifier, tuple(columns), validation, method)


def cross_validate(judgements: pd.DataFrame, table: pd.DataFrame, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Agreement with people of the regression, held out by document, chosen inside each training part; a row a set.

    `table` is the `feature_table` of the judgements. Columns: `set` (dataset and level where given), `n`,
    `accurate` (people's share), `auc` and `floor_auc` (plain bigram containment, nothing fitted): both within folds,
    pooled over pairs of an accurate and an inaccurate summary, because scores of two folds come from two models;
    `agreement` (share of verdicts at 0.5 that are people's), `kappa` (Cohen), `estimated` (mean probability), and
    `transfer_auc`: fitted to the other datasets only, NaN where there is one alone.
    """
    labels, groups, names = judgements["label"].astype(int).to_numpy(), _documents(judgements), _set_names(judgements)
    if len(set(labels)) < 2 or len(np.unique(groups)) < folds:
        raise KitError(
            f"The judgements need both labels and at least {folds} different sources; they have "
            f"{len(set(labels))} label(s) and {len(np.unique(groups))} source(s)."
        )
    probabilities, part = np.zeros(len(labels)), np.zeros(len(labels), dtype=int)
    for number, (train, test) in enumerate(_folds(groups, folds, seed)):
        columns, c = _choose(table.iloc[train], labels[train], groups[train], names[train], seed)
        probabilities[test], part[test] = _fitted(table, labels, columns, c, train, test), number
    floor, transferred = table[FLOOR].to_numpy(), _transferred(judgements, table, labels, groups, names, seed)
    rows = []
    for name in dict.fromkeys(names):
        here = names == name
        aucs = [_auc_within(labels[here], scores[here], part[here]) for scores in (probabilities, floor)]
        whole = np.zeros(here.sum(), dtype=int)
        rows.append((name, *_agreement(labels[here], probabilities[here]), *aucs,
                     _auc_within(labels[here], transferred[here], whole)))  # fmt: skip
    columns = ["set", "n", "accurate", "agreement", "kappa", "estimated", "auc", "floor_auc", "transfer_auc"]
    return pd.DataFrame(rows, columns=columns)


def _folds(groups: np.ndarray, folds: int, seed: int):
    """(train, test) indices; no document is in both."""
    return GroupKFold(folds, shuffle=True, random_state=seed).split(groups, groups=groups)


def _choose(table: pd.DataFrame, labels, groups, names, seed: int) -> tuple[tuple[str, ...], float]:
    """The features and C of CHOICES with the best mean AUC a set, by inner folds of what is given alone."""
    folds = min(INNER_FOLDS, len(np.unique(groups)))
    splits = list(_folds(groups, folds, seed + 1))

    def quality(choice) -> float:
        scores, part = np.zeros(len(labels)), np.zeros(len(labels), dtype=int)
        for number, (train, test) in enumerate(splits):
            scores[test], part[test] = _fitted(table, labels, *choice, train, test), number
        aucs = [_auc_within(labels[names == n], scores[names == n], part[names == n]) for n in dict.fromkeys(names)]
        return float(np.nanmean(aucs)) if np.isfinite(aucs).any() else 0.0

    return max(CHOICES, key=quality)


def _fitted(table: pd.DataFrame, labels, columns, c: float, train, test) -> np.ndarray:
    """Probabilities of the test rows by a classifier that saw the train rows; their share where those are all alike."""
    values = table[list(columns)].to_numpy()
    if len(set(labels[train])) < 2:
        return np.full(len(test), labels[train].mean())
    return _classifier(c).fit(values[train], labels[train]).predict_proba(values[test])[:, 1]


def _transferred(judgements: pd.DataFrame, table: pd.DataFrame, labels, groups, names, seed: int) -> np.ndarray:
    """Probabilities of each dataset by a regression that saw none of it, nor of its documents; NaN if it is alone."""
    found = np.full(len(labels), np.nan)
    datasets = judgements["dataset"].to_numpy() if "dataset" in judgements else np.zeros(len(labels))
    for dataset in pd.unique(datasets):
        test = np.flatnonzero(datasets == dataset)
        train = np.flatnonzero((datasets != dataset) & ~np.isin(groups, groups[test]))
        if len(set(labels[train])) == 2:
            choice = _choose(table.iloc[train], labels[train], groups[train], names[train], seed)
            found[test] = _fitted(table, labels, *choice, train, test)
    return found


def _auc_within(labels: np.ndarray, scores: np.ndarray, part: np.ndarray) -> float:
    """AUC of scores, compared within each part only: the share of (accurate, inaccurate) pairs in the right order."""
    right = pairs = 0.0
    for number in np.unique(part):
        mine = part == number
        each = labels[mine].sum() * (1 - labels[mine]).sum()
        if each and np.isfinite(scores[mine]).all():
            right, pairs = right + each * roc_auc_score(labels[mine], scores[mine]), pairs + each
    return right / pairs if pairs else float("nan")


def _classifier(c: float):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))


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


def _agreement(labels, probabilities) -> tuple:
    """n, accurate, agreement, kappa, estimated of one set."""
    verdicts = probabilities > 0.5
    kappa = cohen_kappa_score(labels, verdicts) if len(set(labels)) == 2 else float("nan")
    return len(labels), labels.mean(), (verdicts == labels).mean(), kappa, probabilities.mean()


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
