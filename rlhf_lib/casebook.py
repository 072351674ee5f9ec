"""The casebook: six ways to break a training, each really done, each with what gives it away and its cure.

The runs are short (test-sized batches, the real base model and a known score), because a sick run should be known by
its first updates. Something is broken only in what `train_ppo` is given: never in a copy of PPO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from rlhf_lib import manifest
from rlhf_lib.errors import KitError
from rlhf_lib.metrics import MetricsWriter, read_metrics
from rlhf_lib.monitors import Monitor, Watch, standard_monitors, unbounded
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import ScoreFn, train_ppo
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.sampling import Samples
from rlhf_lib.signflip import SignFlipRun, score_of
from rlhf_lib.tasks import QueryStream, Task
from rlhf_lib.training import TrainState

BATCH = 16  # episodes an update, as in the smoke profile
TOO_HIGH = 10.0  # times the right learning rate
ROOMS = ("casebook",)


@dataclass
class Parts:
    """What `train_ppo` is given: a healthy run's, until a case has broken something."""

    policy: Policy
    task: Task
    score_fn: ScoreFn
    cfg: PPOConfig


class Undivided(Policy):
    """A policy whose sampler reports log-probabilities of the logits as they are, not divided by the temperature."""

    def sample(self, ids, mask, length, temperature, generator, micro_batch=None, repeats=1) -> Samples:
        """As `Policy.sample`, with the bug."""
        drawn = super().sample(ids, mask, length, temperature, generator, micro_batch, repeats)
        return drawn._replace(logprobs=self.logprobs(ids, mask, drawn.responses, 1.0))


def lose_the_sign(parts: Parts) -> None:
    right = parts.score_fn
    parts.score_fn = lambda *given: -right(*given)


def pay_for_kl(parts: Parts) -> None:
    parts.cfg = replace(parts.cfg, kl_coef=-parts.cfg.kl_coef)


def flip_all(parts: Parts) -> None:
    lose_the_sign(parts)
    pay_for_kl(parts)


def forget_temperature(parts: Parts) -> None:
    parts.policy = Undivided(parts.policy.lm, parts.policy.autocast)


def forget_temperature_slowly(parts: Parts) -> None:
    """The same where the policy hardly moves, as in published runs: its KL stays below 0 long enough to be told."""
    forget_temperature(parts)
    parts.cfg = replace(parts.cfg, lr=parts.cfg.lr / 10)


def forget_the_base(parts: Parts) -> None:
    parts.cfg = replace(parts.cfg, kl_coef=0.0, lr=parts.cfg.lr * TOO_HIGH / 3)


def hurry(parts: Parts) -> None:
    parts.cfg = replace(parts.cfg, lr=parts.cfg.lr * TOO_HIGH)


def never_end(parts: Parts) -> None:
    text = replace(parts.task.text, truncate_after=parts.task.text.response_length)
    parts.task = Task(parts.task.name, text, parts.task.tokenizer)


@dataclass(frozen=True)
class Case:
    """A way to break a run: what is done, the monitor that is meant for it, what to look for, and the cure.

    name: in file names and records; title: what readers see.
    """

    name: str
    title: str
    breaks: Callable[[Parts], None]
    monitor: str
    broken: str
    sign: str
    cure: str


CASEBOOK = (
    Case("sign_lost", "The score's sign is lost", lose_the_sign, "score_order",
         "A minus sign in the score that PPO is given: −r − β·KL.",
         "PPO's own curves look healthy: the score it is given rises, KL is bounded. Only labeled pairs tell.",
         "Ask a probe of labeled pairs before and during each run; keep the sign in one place and test it."),
    Case("kl_paid", "Paid for leaving the base", pay_for_kl, "kl_too_high",
         "The KL penalty with the wrong sign: r + β·KL.",
         "KL and the total reward rise together and do not level off; the text falls apart.",
         "β has to be positive; plot KL beside the score, never the total alone."),
    Case("temperature_once", "Temperature forgotten once", forget_temperature, "ratio_off",
         "Logits divided by the temperature when sampling, not when the policy's log-probabilities are noted.",
         "KL is negative in the first update, where it should be 0; the ratio is not 1 before an update's first step.",
         "One function for log-probabilities, with the temperature in it, for policy and reference alike."),
    Case("no_penalty", "No KL penalty", forget_the_base, "kl_too_high",
         "No KL penalty (β = 0) and an eager learning rate.",
         "The score rises as never before, and the KL far above the base's entropy: words that pay, in no order.",
         "A penalty or a KL target; read samples, and count how many differ."),
    Case("too_fast", "Ten times too fast", hurry, "circles",
         "A learning rate ten times too high.",
         "KL jumps within an update, many ratios are clipped, the value loss explodes; the text goes in circles.",
         "Lower the rate until approxkl stays below 0.01 and few ratios are clipped."),
    Case("never_ends", "A rule nobody can meet", never_end, "too_many_penalised",
         "A truncation rule that no response can meet (it looks for the full stop behind the last token).",
         "The score stands at the penalty, exactly, and does not move.",
         "Log the share of penalised samples; change the rule until most base samples pass it."),
)  # fmt: skip
CASES = {case.name: case for case in CASEBOOK}
MORE_TITLES = {
    "total_flipped": "Score and KL both with the wrong sign",
    "temperature_slow": "Temperature forgotten, at a tenth of the rate",
    "sign_lost_between": "The sign is lost behind the score function",
    "sign_lost_unseen": "The sign is lost where nothing can be asked",
}
# also sick, and known to the monitors' calibration; the same lost sign three times, by where it is lost: in the score
# function (the case above), between it and the trainer's scores, and where nothing that can be asked is wrong
MORE = {
    "total_flipped": flip_all,
    "temperature_slow": forget_temperature_slowly,
    "sign_lost_between": lose_the_sign,
    "sign_lost_unseen": lose_the_sign,
}
PAST_IT = ("sign_lost_between", "sign_lost_unseen")  # here the monitors are given the score as it should be,
DEAF = {"sign_lost_unseen": ("scores_disagree",)}  # and here nobody compares it with the trainer's
MEASURED_ONLY = ("sign_lost_unseen",)  # how soon it is stopped is told, not promised
HEALTHY = {"fixed": {}, "adaptive": {"kl_coef": 0.2, "kl_target": 6.0, "kl_horizon": 160.0}}  # gain 0.1 an update


def title(kind: str) -> str:
    """What readers see of a kind of run, broken or healthy; an unknown kind is its own title."""
    return CASES[kind].title if kind in CASES else MORE_TITLES.get(kind, kind)


@dataclass(frozen=True)
class CaseRun:
    """A short run on the known score, healthy ("fixed" or "adaptive" β) or broken. updates: its length.

    bounds: of the monitors that may stop it; None: they only listen.
    """

    run_dir: Path
    kind: str
    updates: int
    profile_name: str = "tiny"
    model: str = ""
    corpus: str = ""
    seed: int = 1
    bounds: dict | None = None

    @cached_property
    def world(self) -> SignFlipRun:
        """Base model, prompts, known score and probe."""
        return SignFlipRun(self.run_dir, "control", self.profile_name, self.model, self.corpus, self.seed)

    def parts(self) -> Parts:
        """A healthy run's parts, broken as the kind says."""
        style = self.world.style
        sizes = {"episodes": self.updates * BATCH, "batch": BATCH, "micro_batch": BATCH}
        cfg = replace(self.world.config(), **sizes, **HEALTHY.get(self.kind, {}))
        parts = Parts(self.world.fresh_policy(), style.task, score_of(self.world.text_score, style.task), cfg)
        if self.kind in CASES:
            CASES[self.kind].breaks(parts)
        elif self.kind in MORE:
            MORE[self.kind](parts)
        elif self.kind not in HEALTHY:
            known = ", ".join((*HEALTHY, *CASES, *MORE))
            raise KitError(f"There is no case '{self.kind}'; choose one of {known}.")
        return parts

    def monitors(self, bounds: Mapping[str, float] | None = None) -> list[Monitor]:
        """All monitors, at the recorded bounds without others; they are given the score function that PPO is given."""
        parts, world = self.parts(), self.world
        score = score_of(world.text_score, parts.task) if self.kind in PAST_IT else parts.score_fn
        made = standard_monitors(parts.task, world.reference, score, world.probe(), bounds)
        return [monitor for monitor in made if monitor.name not in DEAF.get(self.kind, ())]

    def train(self, callbacks=(), resume: dict | None = None) -> TrainState:
        """The run itself, outside of the cache."""
        style, parts = self.world.style, self.parts()
        stream = QueryStream(style.queries(self.updates * BATCH, "train", 3000 + self.seed), parts.task, self.seed)
        base = self.world.reference
        return train_ppo(parts.policy, base, parts.score_fn, stream, parts.cfg, callbacks, resume, self.seed)

    def rows(self) -> pd.DataFrame:
        """The run's metrics with what the monitors measured, a row an update; made once."""
        stops = self.bounds is not None

        def make(path: Path) -> None:
            watch = Watch(self.monitors(self.bounds if stops else unbounded()), stops=stops)
            self.train([self.world.observe, watch, MetricsWriter(path)])

        inputs = self.world.style._inputs(kind=self.kind, updates=self.updates, bounds=self.bounds)
        name = f"metrics/case_{self.kind}_{self.updates}_s{self.seed}{'_watched' * stops}.jsonl"
        frame = pd.DataFrame(read_metrics(manifest.cached(self.run_dir, name, inputs, make, ROOMS)))
        return frame.assign(kind=self.kind, seed=self.seed)
