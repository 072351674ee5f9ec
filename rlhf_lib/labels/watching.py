"""Watching a collection as it goes: after each batch of labels, does the panel name somebody who guesses?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rlhf_lib.errors import KitError
from rlhf_lib.labels import quality

BEGAN = pd.Timestamp("2019-09-19", tz="UTC")  # of the simulated record, an answer every SECONDS; only order matters
SECONDS = 10


def answers_frame(rows: Sequence[dict], seconds: Sequence[dict] = ()) -> pd.DataFrame:
    """Labeled comparisons as `LabelStore.labels_frame` would give them, in the order in which they were collected.

    rows: with `best` and `labeler`, one a comparison. seconds: second views of some of them, each with `place` (its
    comparison's place in rows), `best` and `labeler`; without overlap nobody can be told from a guesser.
    """
    views = [(place, row) for place, row in enumerate(rows)] + [(row["place"], row) for row in seconds]
    frame = pd.DataFrame(
        {"comparison_id": [f"c{place}" for place, _ in views], "labeler": [str(row["labeler"]) for _, row in views],
         "best": [int(row["best"]) for _, row in views], "place": [place for place, _ in views]}
    )  # fmt: skip
    frame["at"] = BEGAN + pd.to_timedelta(SECONDS * frame["place"], unit="s")
    # simulated labelers do not look at positions, and take no time
    frame = frame.assign(kind="best_of_4", best_shown=frame["best"], seconds=np.nan, is_repeat=False)
    return frame.sort_values("place", kind="stable", ignore_index=True)


def watch(frame: pd.DataFrame, batches: Sequence[int]) -> pd.DataFrame:
    """What `quality.guessers` says of each batch alone, right after it.

    Returns `labels` so far, `suspects` (names), and `agrees`: the share in which each labeler agreed with the others.

    frame: of `answers_frame`; batches: comparisons in each batch, in order. Raises KitError if they do not add up.
    """
    known = frame["place"].max() + 1
    if sum(batches) != known:
        raise KitError(f"Batches of {sum(batches)} comparisons do not fit {known}; give their sizes.")
    rows, done = [], 0
    for size in batches:
        since, until = (BEGAN + pd.Timedelta(seconds=SECONDS * n) for n in (done, done + size))
        reading = quality.guessers(frame, since=since, until=until)
        done += size
        agrees = reading.table["agrees"].astype(float).to_dict()
        rows.append({"labels": done, "suspects": reading.numbers["suspects"], "agrees": agrees})
    return pd.DataFrame(rows)


def noticed(watched: pd.DataFrame, who: str) -> float:
    """Labels collected by the time somebody is first named; NaN if never."""
    named = watched.loc[[who in names for names in watched["suspects"]], "labels"]
    return float(named.iloc[0]) if len(named) else float("nan")
