"""The answers that `quality.py` asks its questions of: which count, which are shared, who agrees with whom."""

from typing import NamedTuple

import pandas as pd

from rlhf_lib.errors import KitError
from rlhf_lib.labels.frames import moment
from rlhf_lib.labels.schema import VERDICTS
from rlhf_lib.labels.simulated import wilson

NEEDED = ("comparison_id", "kind", "labeler", "best", "best_shown", "seconds", "at", "is_repeat")
CHOICES = {"best_of_4": 4, "preference": 2, "accuracy": len(VERDICTS)}  # how many answers there are to choose from


class Reading(NamedTuple):
    """One question about label quality, answered: overall numbers, a row a labeler, and what to do."""

    name: str
    numbers: dict
    table: pd.DataFrame
    sentence: str
    alarm: bool


def answers_of(labels: pd.DataFrame, kind: str, since=None, until=None) -> pd.DataFrame:
    """The answers to items of one kind given from `since` up to before `until`, oldest first.

    The moments may be datetimes, ISO text or seconds since 1970, as in `LabelStore.labels_frame`. Raises KitError
    where the frame lacks a column of it.
    """
    missing = [name for name in NEEDED if name not in labels.columns]
    if missing:
        raise KitError(f"The labels lack the column {missing[0]!r}: pass what LabelStore.labels_frame() gives.")
    rows = labels[labels["kind"] == kind]
    return rows[within(rows, since, until)].sort_values("at", kind="stable")


def choices_of(labels: pd.DataFrame, kind: str, since=None, until=None) -> pd.DataFrame:
    """Those of `answers_of` that choose among a few answers; column `best` says which: the stored sample, or the
    number of the verdict in VERDICTS. Column `gold_best` says the known answer in the same way.

    Raises KitError for a kind of item that is answered in words.
    """
    if kind not in CHOICES:
        raise KitError(f"Answers to {kind} items are words; only those to {', '.join(CHOICES)} items can be compared.")
    rows = answers_of(labels, kind, since, until)
    if kind == "accuracy":
        number = {verdict: n for n, verdict in enumerate(VERDICTS)}
        rows = rows.assign(best=rows["verdict"].map(number), gold_best=rows["gold"].map(number))
    rows = rows[rows["best"].notna()]
    return rows.assign(best=rows["best"].astype(int))


def within(rows: pd.DataFrame, since, until) -> pd.Series:
    """Which rows lie in the window, bool [rows]."""
    inside = pd.Series(True, index=rows.index)
    if since is not None:
        inside &= rows["at"] >= pd.Timestamp(moment(since, "since"), unit="s", tz="UTC")
    if until is not None:
        inside &= rows["at"] < pd.Timestamp(moment(until, "until"), unit="s", tz="UTC")
    return inside


def firsts_of(rows: pd.DataFrame) -> pd.DataFrame:
    """One answer a labeler and comparison: the first one, repeats aside."""
    return rows[~rows["is_repeat"].astype(bool)].drop_duplicates(["comparison_id", "labeler"])


def credits_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Each answer on a comparison with m >= 2 labelers; `agrees` = share of the other labelers who picked the same."""
    firsts = firsts_of(rows)
    m = firsts.groupby("comparison_id")["best"].transform("size")
    same = firsts.groupby(["comparison_id", "best"])["best"].transform("size")  # this answer included
    return firsts.assign(m=m, agrees=(same - 1) / (m - 1).clip(lower=1))[m >= 2]


def share_table(hits: pd.Series, labeler: pd.Series) -> pd.DataFrame:
    """Per labeler: n, share of hits and its 95% Wilson interval."""
    rows = {}
    for name, mine in hits.groupby(labeler):
        share = wilson(float(mine.sum()), len(mine))
        rows[name] = {"n": share.n, "share": share.share, "low": share.low, "high": share.high}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n", "share", "low", "high"]).rename_axis("labeler")
