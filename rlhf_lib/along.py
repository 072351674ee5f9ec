"""Samples along a training: the same few prompts, with the same dice, at some updates on the way.

The policy alone differs from one look to the next, so that whatever changes in the text, training has changed. The
sampling has its own generator: a training that is looked at gives the same policy as one that is not.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rlhf_lib import collect, manifest
from rlhf_lib.policy import Policy
from rlhf_lib.style import EVAL_SEED, StyleRun
from rlhf_lib.tasks import Queries, Task
from rlhf_lib.training import TrainState

DICE = 17


def sample_rows(policy: Policy, queries: Queries, task: Task, metrics: dict) -> list[dict]:
    """One raw sample a prompt: rows of `episodes, kl, score` (means of that update's batch) and the texts."""
    at = {"episodes": metrics.get("episodes", 0), "kl": metrics.get("objective/kl", 0.0)}
    at["score"] = metrics.get("objective/score")  # None before the first batch
    kept = ("query", "response", "response_truncated", "penalised")
    samples = collect.sample_texts(policy, queries, task, DICE)
    return [at | {"query_id": f"q{i}"} | {name: row[name] for name in kept} for i, row in enumerate(samples)]


class Along:
    """Callback of a training: looks about `looks` times, evenly, and keeps what it saw in a file of JSON lines.

    A training that begins anew writes the file anew, with the base first; one that goes on adds to it.
    """

    def __init__(self, path: Path, base: Policy, queries: Queries, task: Task, looks: int = 6):
        self.path, self.base, self.queries, self.task, self.looks = Path(path), base, queries, task, looks

    def __call__(self, state: TrainState) -> None:
        episodes = state.metrics["episodes"]
        if state.step == 1:
            manifest.write_rows(self.path, sample_rows(self.base, self.queries, self.task, {}))
        if state.step in {max(1, round(state.total * k / self.looks)) for k in range(1, self.looks + 1)}:
            kept = [row for row in self._read() if row["episodes"] < episodes]  # looks after its checkpoint come again
            manifest.write_rows(self.path, kept + sample_rows(state.model, self.queries, self.task, state.metrics))

    def rows(self, tuned: Policy, metrics: pd.DataFrame) -> pd.DataFrame:
        """All looks; if the training was not watched (it was made elsewhere, or before), base and end alone.

        tuned: the trained policy; metrics: its rows, one an update.
        """
        last = metrics.iloc[-1].to_dict()
        seen = self._read()
        if not seen or seen[-1]["episodes"] != last["episodes"]:
            ends = ((self.base, {}), (tuned, last))
            seen = [row for policy, at in ends for row in sample_rows(policy, self.queries, self.task, at)]
        return pd.DataFrame(seen)

    def _read(self) -> list[dict]:
        return manifest.read_rows(self.path) if self.path.is_file() else []


def along(run: StyleRun, prompts: int = 2, looks: int = 6) -> Along:
    """The callback for a style run: its first held-out prompts, a file of its own in the run's folder."""
    settings = manifest.inputs_key("along", run._inputs(ppo=run.config.ppo, reward=run.config.reward))[0][:8]
    path = Path(run.run_dir) / "samples" / f"along_{run.task_name}_s{run.seed}_{settings}.jsonl"
    return Along(path, run.base[0], run.queries(prompts, "test", EVAL_SEED), run.task, looks)
