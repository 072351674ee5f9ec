"""A collapse that nobody staged: one training of the style sweep, made again, and again with one thing changed.

Descriptiveness with 100 labels, seed 2, ended in gibberish. `python -m rlhf_lib collapse` trains it again with the same
reward model: as it was, with a value head that does not teach the trunk, and with a fixed KL coefficient; each for
several of PPO's own seeds, which decide what is sampled and in which order it is learned.
"""

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from rlhf_lib import manifest
from rlhf_lib.errors import KitError
from rlhf_lib.metrics import MetricsWriter, read_metrics
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.runs import MOST_QUERIES
from rlhf_lib.style import POLICY_ROOMS, StyleRun
from rlhf_lib.tasks import QueryStream
from rlhf_lib.training import StopTraining, TrainState

TASK, LABELS, SEED = "descriptiveness", 100, 2
UPDATES = 300  # of 400; the sweep's run was lost by then
FIXED_BETA = 0.1  # about what the thermostat had chosen by the middle of the run
EVERY = 10  # updates between two responses that are kept for reading
CHANGES = ("as it was", "value head apart", "β fixed")
AGAIN = (2, 12, 22)  # PPO's own seeds; the first is the sweep's
KEPT = ("step", "episodes", "objective/kl", "objective/score", "objective/entropy", "objective/penalised",
        "objective/kl_coef", "ppo/loss/value", "ppo/policy/approxkl", "kl_median", "kl_largest",
        "response")  # fmt: skip
RECORDED = manifest.ROOT / "data" / "recorded"


class Apart(nn.Linear):
    """A value head that reads the trunk's states and sends no gradient into them."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., width] -> [..., 1]."""
        return super().forward(hidden.detach())


def keep_last(owner: object, name: str, kept: dict) -> None:
    """Have a method leave what it gave last under its name in ``kept``."""
    method = getattr(owner, name)

    def call(*given, **named):
        kept[name] = method(*given, **named)
        return kept[name]

    setattr(owner, name, call)


@dataclass(frozen=True)
class CollapseRun:
    """One of these trainings. change: one of CHANGES; again: PPO's seed; everything else is the sweep's."""

    run_dir: Path
    change: str
    again: int = SEED
    profile: str = "tiny"
    updates: int = UPDATES

    @cached_property
    def style(self) -> StyleRun:
        """The sweep's run, whose labels and reward model are used."""
        return StyleRun(self.run_dir, TASK, self.profile, seed=SEED)

    def config(self) -> PPOConfig:
        """PPO's settings. Raises KitError for a change that is none of CHANGES."""
        if self.change not in CHANGES:
            raise KitError(f"'{self.change}' is no change of this training; the changes are {', '.join(CHANGES)}.")
        cfg = self.style.ppo_config()
        return replace(cfg, kl_coef=FIXED_BETA, kl_target=None) if self.change == "β fixed" else cfg

    def train(self, callbacks) -> TrainState:
        """The training itself, outside of the cache; it ends after `updates` of the whole run's."""
        style, cfg = self.style, self.config()
        labels = min(LABELS, style.config.reward.labels)
        policy = Policy(load_lm(style._start_path(), device=style.device)[0], style._autocast)
        if self.change == "value head apart":
            policy.value_head.__class__ = Apart  # the same weights
        queries = style.queries(min(cfg.episodes, MOST_QUERIES), "train", 3000 + SEED)
        stream, score = QueryStream(queries, style.task, SEED), style.reward_model(labels).score
        reference, last = style._reference().frozen_copy(), {}
        keep_last(policy, "sample", last)
        keep_last(reference, "logprobs", last)
        calls = [lambda state: self._note(state, last), *callbacks, self._end]
        return train_ppo(policy, reference, score, stream, cfg, calls, seed=self.again)

    def _note(self, state: TrainState, last: dict) -> None:
        """KL of the batch's middle and farthest response (nats), and now and then its first response, to be read."""
        kl = (last["sample"].logprobs - last["logprobs"]).sum(1)  # [batch]
        middle, largest = kl.quantile(torch.tensor([0.5, 1.0])).tolist()
        state.metrics |= {"kl_median": round(middle, 2), "kl_largest": round(largest, 2)}
        if state.step == 1 or state.step % EVERY == 0:
            state.metrics["response"] = self.style.task.tokenizer.decode(state.data["responses"][0])

    def _end(self, state: TrainState) -> None:
        if state.step >= self.updates:
            raise StopTraining("all updates that are looked at are made")

    def rows(self) -> pd.DataFrame:
        """KEPT of every update, with `change` and `again`; trained once."""
        inputs = self.style._inputs(
            reward=self.style.config.reward, ppo=self.config(), labels=LABELS, change=self.change, again=self.again
        )
        name = f"metrics/collapse_{CHANGES.index(self.change)}_{self.again}_{self.updates}.jsonl"
        path = manifest.cached(
            self.run_dir,
            name,
            inputs | {"updates": self.updates},
            lambda path: self.train([MetricsWriter(path)]),
            (*POLICY_ROOMS, "collapse"),
        )
        frame = pd.DataFrame(read_metrics(path)).reindex(columns=list(KEPT))
        return frame.assign(change=self.change, again=self.again)


def record(runs: list[CollapseRun], folder: Path = RECORDED) -> pd.DataFrame:
    """Make every training and keep its curves in ``folder``."""
    frame = pd.concat([run.rows() for run in runs], ignore_index=True)
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "collapse_curves.parquet", index=False)
    made_by = {"versions": manifest.versions(), "git": manifest.git_state(), "profile": runs[0].profile}
    manifest.write_json(folder / "collapse_manifest.json", made_by | {"labelers": "simulated", "runs": len(runs)})
    return frame


def recorded(folder: Path = RECORDED) -> pd.DataFrame:
    """What `record` kept, an update a row. Raises KitError if nothing is recorded."""
    path = folder / "collapse_curves.parquet"
    if not path.is_file():
        raise KitError(f"No collapse is recorded in {folder}: make it with `python -m rlhf_lib collapse`.")
    return pd.read_parquet(path)


def main(argv: list[str]) -> int:
    """`python -m rlhf_lib collapse`: all trainings, recorded."""
    parser = argparse.ArgumentParser(
        prog="python -m rlhf_lib collapse",
        description=__doc__.splitlines()[0],
        epilog="About ten minutes a training on one core; what is trained is not trained again.",
    )
    parser.add_argument("--profile", default="tiny", help="whose sweep (default: tiny)")
    parser.add_argument("--out", type=Path, default=RECORDED, help="folder for the curves (default: data/recorded)")
    options = parser.parse_args(argv)
    folder = manifest.run_folder("", options.profile)
    runs = [CollapseRun(folder, change, again, options.profile) for change, again in trainings()]
    frame = record(runs, options.out)
    print(frame.groupby(["change", "again"], sort=False)["objective/kl"].last().to_string(float_format="%.1f"))
    return 0


def trainings() -> list[tuple[str, int]]:
    """(change, PPO's seed) of every training that is recorded."""
    return [(change, again) for change in CHANGES[:2] for again in AGAIN] + [(CHANGES[2], SEED)]
