"""Collecting labels and training on them, in rounds: offline, batched, online (paper section 2.3; the post's advice).

*Offline*: every label is asked for on samples of the starting model, then one training. *Batched*: large batches of
labels and whole trainings alternate; each round asks on samples of the last round's policy, and retrains reward model
and policy from the start on all labels so far. *Online* (the paper): one training, which stops at evenly spaced updates
to ask on samples of the policy as it is then, and goes on against a reward model re-initialised and re-fitted to all
labels that have arrived. PPO itself is `ppo.train_ppo`; what differs lies in its score function and one callback.

Whoever answers is a function `ask`. When it raises `Waiting` (people have not labeled the batch yet), the training
stands at its checkpoint, and the same call goes on from there later.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from rlhf_lib import checkpoint, collect, manifest
from rlhf_lib.errors import KitError
from rlhf_lib.labels.pause import Waiting
from rlhf_lib.metrics import MetricsWriter
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import PPOConfig, RewardConfig
from rlhf_lib.reward import RewardModel, fit_reward
from rlhf_lib.tasks import Queries, QueryStream, Task
from rlhf_lib.training import StopTraining, TrainState

STRATEGIES = ("offline", "batched", "online")


@dataclass(frozen=True)
class Plan:
    """How a budget of labels is spent."""

    strategy: str = "offline"
    labels: int = 5_000  # the whole budget
    rounds: int = 1  # batches of labels: 1 offline; the number of trainings; 1 + the number of re-fits online
    delay: int = 0  # batches by which labels come late, online (whoever waits for a batch loses none)

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise KitError(f"There is no strategy '{self.strategy}'; choose one of {', '.join(STRATEGIES)}.")
        if not 1 <= self.rounds <= self.labels or (self.strategy == "offline" and self.rounds != 1):
            raise KitError(f"{self.rounds} rounds do not fit {self.labels} labels collected {self.strategy}.")
        if self.delay < 0 or (self.delay and self.strategy != "online"):
            raise KitError(f"Labels collected {self.strategy} cannot be {self.delay} batches late; set delay to 0.")

    def shares(self) -> list[int]:
        """Labels of each round, equal but for rounding; they add up to the budget."""
        edges = [round(self.labels * k / self.rounds) for k in range(self.rounds + 1)]
        return [b - a for a, b in pairwise(edges)]


@dataclass(frozen=True)
class Setting:
    """What the strategies share: models, texts, who is asked, and the folder in which finished rounds are kept."""

    folder: Path
    start: Policy  # frozen: training starts from it, is held to it, and reward models are copied from it
    tokenizer: object
    task: Task
    queries: Callable[[int, int], Queries]  # (round, count) -> texts to ask about, others in each round
    ask: Callable[[list[dict], int, int], list[dict]]  # (comparisons, round, labels before it) -> labeled rows
    scale: Queries  # on which reward models are normalised
    prompts: Queries  # on which the policy is trained
    reward: RewardConfig
    ppo: PPOConfig
    seed: int
    callbacks: Sequence = ()

    # -- the parts ------------------------------------------------------------------------------------------------

    def collect(self, number: int, policy: Policy, count: int, before: int = 0) -> list[dict]:
        """``count`` labeled comparisons of round ``number`` on samples of ``policy``; asked for once, then kept.

        ``before``: labels asked for in earlier rounds. Raises Waiting where people are asked and have not answered.
        """
        asked, answered = self.folder / f"asked_{number}.jsonl", self.folder / f"labels_{number}.jsonl"
        if not answered.is_file():
            if not asked.is_file():
                manifest.write_rows(asked, self.comparisons(number, policy, count))
            manifest.write_rows(answered, self.ask(manifest.read_rows(asked), number, before))
        return manifest.read_rows(answered)

    def comparisons(self, number: int, policy: Policy, count: int) -> list[dict]:
        """``count`` comparisons. Four equal responses are shown to nobody, other texts take their place.

        Fewer where even twice as many texts do not give so many.
        """
        texts, used, found = self.queries(number, texts_for(count)), 0, []
        while len(found) < count and used < len(texts):
            part = slice(used, used + round(1.05 * (count - len(found))) + 4)
            queries = Queries(texts.ids[part], texts.mask[part], texts.source[part])
            rows = collect.comparisons(policy, queries, self.task, 10_000 * self.seed + 100 * number + used)
            found += [row for row in rows if len(set(row["responses"])) > 1]
            used = part.stop
        return found[:count]

    def fit(self, number: int, rows: list[dict]) -> RewardModel:
        """The reward model of round ``number``: from the start, on ``rows``."""
        folder = self.folder / f"reward_{number}"
        if not folder.is_dir():
            cfg = replace(self.reward, labels=len(rows), batch=min(self.reward.batch, max(4, len(rows) // 16)))
            model = fit_reward(self.start, rows, self.scale, self.task, cfg, self.seed)
            model.save(folder, self.tokenizer, self.start.lm.config)
        return RewardModel.load(folder, self.start.autocast or torch.float32, str(self.start.device))

    def reference(self) -> Policy:
        """What PPO is held to: the start, its weights in bfloat16 where its arithmetic is."""
        return self.start if self.start.autocast is None else self.start.frozen_copy().to(self.start.autocast)

    def train(self, name: str, score: Callable, callbacks: Sequence = ()) -> Policy:
        """A whole training from the start, kept in folder/``name``; goes on from its checkpoint if it was stopped.

        Raises Waiting where a callback waits for labels, KitError where one stops it for another reason.
        """
        folder = self.folder / name
        if not (folder / "policy").is_dir():
            saved = checkpoint.load(folder / "checkpoint")
            policy = copy.deepcopy(self.start).requires_grad_(True)
            stream = QueryStream(self.prompts, self.task, self.seed)
            writer = MetricsWriter(folder / "metrics.jsonl", saved["step"] if saved else 0)
            keep = checkpoint.Checkpointer(folder / "checkpoint", self.ppo.save_every)
            calls = [writer, *self.callbacks, *callbacks, keep]
            state = train_ppo(policy, self.reference(), score, stream, self.ppo, calls, saved, self.seed)
            if state.stopped:
                waits = any(getattr(callback, "waiting", False) for callback in callbacks)
                raise (Waiting if waits else KitError)(state.stopped)
            policy.save(folder / "policy", self.tokenizer)
            for file in (folder / "checkpoint").iterdir():
                file.unlink()
        last = Policy.load(folder / "policy", device=str(self.start.device), autocast=self.start.autocast)[0]
        return last.requires_grad_(False)


def texts_for(count: int) -> int:
    """Texts that are at hand for ``count`` comparisons: some do not end in time, some come out all equal."""
    return 2 * count + 16


# -- the strategies -----------------------------------------------------------------------------------------------


def train(setting: Setting, plan: Plan) -> Policy:
    """The policy that ``plan`` ends with; all that led to it stays in the setting's folder. May raise Waiting."""
    return online(setting, plan) if plan.strategy == "online" else batched(setting, plan)


def last_training(folder: Path, plan: Plan) -> Path:
    """The folder of the training whose policy `train` returns."""
    return folder / ("ppo_0" if plan.strategy == "online" else f"ppo_{plan.rounds - 1}")


def batched(setting: Setting, plan: Plan) -> Policy:
    """Labels and whole trainings in turn; with a single round this is offline collection."""
    policy, rows = setting.start, []
    for number, count in enumerate(plan.shares()):
        rows += setting.collect(number, policy, count, len(rows))
        policy = setting.train(f"ppo_{number}", setting.fit(number, rows).score)
    return policy


def online(setting: Setting, plan: Plan) -> Policy:
    """One training with a re-fit after every batch of labels, evenly spaced."""
    refits = Refits(setting, plan)
    return setting.train("ppo_0", refits.score, [refits])


class Refits:
    """Callback and score function of online collection: asks, and puts the next reward model in place of the last."""

    def __init__(self, setting: Setting, plan: Plan):
        total = setting.ppo.episodes // setting.ppo.batch
        if plan.rounds > total:
            raise KitError(f"{plan.rounds} rounds of labels need as many updates, not {total}; raise ppo.episodes.")
        self.setting, self.plan, self.waiting = setting, plan, False
        self.due = [round(total * k / plan.rounds) for k in range(plan.rounds)]  # updates before which a round is due
        self.labels: list[list[dict]] = []
        self.model: RewardModel | None = None
        saved = checkpoint.load(setting.folder / "ppo_0" / "checkpoint")
        self.go_on(saved["step"] if saved else 0)

    def go_on(self, step: int) -> None:
        """All rounds that were due at ``step``: their comparisons were drawn before the training stopped."""
        while len(self.labels) < len(self.due) and self.due[len(self.labels)] <= step:
            self.next_round(self.setting.start if not self.labels else None)

    def next_round(self, policy: Policy | None) -> None:
        number = len(self.labels)
        before, count = sum(map(len, self.labels)), self.plan.shares()[number]
        self.labels.append(self.setting.collect(number, policy, count, before))
        # before the first update everybody waits for labels; later ones are in the post for `delay` batches
        arrived = [rows for r, rows in enumerate(self.labels) if r == 0 or r + self.plan.delay <= number]
        self.model = self.setting.fit(number, [row for rows in arrived for row in rows])

    def score(self, *texts):
        """The newest reward model's scores, as `ppo.ScoreFn`."""
        return self.model.score(*texts)

    def __call__(self, state: TrainState) -> StopTraining | None:
        if state.step not in self.due[len(self.labels) :]:
            return None
        try:
            self.next_round(state.model)
        except Waiting as news:
            self.waiting = True
            return StopTraining(str(news))
        return None
