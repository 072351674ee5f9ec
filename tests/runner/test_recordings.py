"""A core run's rows beside the recorded ones."""

import json

import pandas as pd
import pytest

from rlhf_lib.recordings import with_recorded


@pytest.mark.parametrize("profile, seeds", [("tiny", [1, 1, 2]), ("smoke", [1])])
def test_the_recorded_seeds_count_with_a_run_of_their_profile(tmp_path, profile, seeds):
    run = pd.DataFrame({"seed": [1], "preference": [0.5]})
    assert with_recorded(run, tmp_path, "style", profile) is run  # nothing is recorded
    (tmp_path / "style_manifest.json").write_text(json.dumps({"profile": "tiny"}))
    pd.DataFrame({"seed": [1, 2], "preference": [0.8, 0.9]}).to_json(tmp_path / "style_sweep.json", orient="records")
    both = with_recorded(run, tmp_path, "style", profile)
    assert both["seed"].tolist() == seeds and both["preference"].iloc[0] == 0.5
