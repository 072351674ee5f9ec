"""A run's rows of results beside those of a recorded sweep (`data/recorded/`)."""

from pathlib import Path

import pandas as pd

from rlhf_lib import manifest


def was_made_with(folder: Path, name: str, profile: str) -> bool:
    """Whether the sweep ``name`` is recorded in ``folder``, and with this profile."""
    made = folder / f"{name}_manifest.json"
    return made.is_file() and manifest.read_json(made).get("profile") == profile


def with_recorded(rows: pd.DataFrame, folder: Path, name: str, profile: str) -> pd.DataFrame:
    """The rows, and below them those of the sweep ``name`` in ``folder``, if it was recorded with the same profile.

    What claims are held against: a core run trains one seed, which can contradict a claim and not establish it. So the
    recorded seeds count with it, and a run that falls out of line with them still shows.
    """
    if not was_made_with(folder, name, profile):
        return rows
    return pd.concat([rows, pd.read_json(folder / f"{name}_sweep.json")], ignore_index=True)
