"""The metric table, and a JSONL file with one row an update."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rlhf_lib.errors import KitError


class Metric(NamedTuple):
    """One row of the table that notebooks print."""

    name: str
    meaning: str
    healthy: str
    sick: str


METRICS = (
    Metric(
        "objective/kl",
        "log(policy/reference) summed over a response, batch mean, nats (k1 estimate)",
        "0 at first, rises, then stays near the target",
        "negative for long: sampling and scoring disagree; far over the target: raise the KL coefficient",
    ),
    Metric(
        "objective/kl_coef",
        "beta, the price of a nat of KL, score units",
        "moves slowly (published: 0.15, dips, then 0.25-0.33)",
        "runs to 0 or explodes: the target cannot be met",
    ),
    Metric(
        "objective/entropy",
        "-log probability of a response, batch mean, nats (published style runs: 53 to 43-50)",
        "falls slowly, stays above about half of the start",
        "collapses: the policy says one thing over and over",
    ),
    Metric(
        "objective/score",
        "score after the penalty, batch mean (reference samples before it: mean 0, std 1)",
        "starts near 0 (penalties lower it, and cut samples are scored otherwise than whole ones), rises",
        "flat: no signal; a jump with odd text: over-optimised",
    ),
    Metric(
        "objective/score_total",
        "score - beta * KL, batch mean: what PPO maximises",
        "rises",
        "falls while the score rises: the policy pays too much KL",
    ),
    Metric(
        "objective/penalised",
        "share of responses without a truncate token in time, which get -1",
        "falls early, towards 0 (the original's style runs began at 0.3-0.8)",
        "stays near 1: the reward model is never heard",
    ),
    Metric(
        "ppo/loss/policy",
        "clipped surrogate loss, mean over the epochs",
        "small and negative (-0.01 or so)",
        "large or positive: the learning rate is too high",
    ),
    Metric(
        "ppo/loss/value",
        "half the clipped squared error of the values",
        "falls (published: 4 to 0.5)",
        "rises: returns are moving faster than the values",
    ),
    Metric("ppo/loss/total", "policy + vf_coef * value loss", "falls with the value loss", "NaN stops the run"),
    Metric(
        "ppo/policy/approxkl",
        "half the mean squared log ratio to the rollout's policy",
        "below 0.01",
        "above 0.05: updates too large for the clip to hold",
    ),
    Metric(
        "ppo/policy/clipfrac",
        "share of tokens whose ratio was clipped to effect",
        "0 to 0.1",
        "above 0.3: lower the learning rate",
    ),
    Metric(
        "ppo/policy/first_ratio_error",
        "largest |ratio - 1| before the update's first step",
        "below 1e-3 in float32",
        "not small: sampling and scoring disagree (padding, positions, temperature)",
    ),
    Metric("ppo/returns/mean", "mean of the value targets", "follows the score", "drifts away from the score"),
    Metric("ppo/returns/var", "variance of the value targets", "near 1 or below", "explodes: one sample dominates"),
    Metric("ppo/val/vpred", "mean value", "follows the returns", "stuck at 0: the value head does not learn"),
    Metric("ppo/val/error", "mean squared error of the values", "falls", "rises"),
    Metric("ppo/val/clipfrac", "share of values clipped to effect", "below 0.3 after the start", "stays near 1"),
    Metric(
        "ppo/val/var_explained",
        "1 - error / variance of the returns",
        "rises from about 0 towards 0.3-0.9",
        "strongly negative after the first updates",
    ),
    Metric("ppo/lr", "learning rate of this update", "linear to 0", "-"),
    Metric("episodes", "responses sampled so far", "-", "-"),
    Metric("time/update", "seconds of this update", "steady", "grows: something leaks"),
    Metric("time/sample_share", "share of the update spent in sampling", "below 0.25", "decoding is the bottleneck"),
    Metric(
        "known/true",
        "the known reward of the batch after the penalty, log-odds (PPO need not hear it)",
        "rises with the score, ever more slowly",
        "falls while the score rises: the proxy is over-optimised",
    ),
    Metric(
        "reward/loss",
        "four-way cross-entropy, nats; chance is 1.386",
        "falls below 1.386 (published: 1.23, 0.93)",
        "stays at 1.386: labels carry no signal; far above: learning rate too high",
    ),
    Metric(
        "reward/accuracy",
        "share of the step's comparisons whose best response scores highest; chance is 0.25",
        "rises above 0.25",
        "stays at 0.25",
    ),
    Metric("reward/lr", "learning rate of this step", "linear to 0", "-"),
    Metric("sft/loss", "cross-entropy a target token, nats", "falls", "rises: learning rate too high"),
    Metric("sft/lr", "learning rate of this step", "half a cosine to 0", "-"),
)


def metric_table() -> list[dict[str, str]]:
    """The table as rows (name, meaning, healthy, sick), for a data frame."""
    return [m._asdict() for m in METRICS]


class MetricsWriter:
    """Callback: append one row an update to a JSONL file, on disk before the call returns.

    `after_step` is the step of the checkpoint that the run goes on from (0: a new run): later rows, and a half-written
    last one, are cut first, so that no row stands twice. List it before the Checkpointer: then no row is missing.
    """

    def __init__(self, path: str | Path, after_step: int = 0):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in _whole_rows(self.path) if row["step"] <= after_step]
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, self.path)

    def __call__(self, state) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": state.step, **state.metrics}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_rows(path: Path) -> Iterator[dict]:
    """Rows of a JSONL file up to the first that is not whole (a process may have been killed while writing)."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            return
        if not isinstance(row, dict) or "step" not in row:
            return
        yield row


def read_metrics(path: str | Path) -> list[dict]:
    """All whole rows of a metrics file; KitError if there is none."""
    rows = list(_whole_rows(Path(path)))
    if not rows:
        raise KitError(f"There are no metrics in '{path}'; run the training that writes them first.")
    return rows
