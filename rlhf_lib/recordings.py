"""A run's rows of results beside those of a recorded sweep (`data/recorded/`)."""

from pathlib import Path

import pandas as pd

from rlhf_lib import manifest


def with_recorded(rows: pd.DataFrame, folder: Path, name: str, profile: str) -> pd.DataFrame:
    """The rows, and below them those of the sweep ``name`` in ``folder``, if it was recorded with the same profile.

    What claims are held against: a core run trains one seed, which can contradict a claim and not establish it. So the
    recorded seeds count with it, and a run that falls out of line with them still shows.
    """
    made = folder / f"{name}_manifest.json"
    if not made.is_file() or manifest.read_json(made).get("profile") != profile:
        return rows
    return pd.concat([rows, pd.read_json(folder / f"{name}_sweep.json")], ignore_index=True)
