"""Automatic pulls of the Andon cord: monitors that watch a PPO run and say in one sentence what is wrong.

A monitor measures one number after each update, larger is sicker, and speaks when it is above its bound. `Watch` is the
callback that asks them. Some bounds follow from arithmetic, or from what the sentence says; the others are not typed:
`python -m rlhf_lib calibrate` measures healthy and broken runs of seeds 1-3, puts each bound between them, and tries
all of them on seeds that it has not seen (see `calibration.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from rlhf_lib import manifest, measures, probe_measures
from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import Event
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.measures import Measure, Rows
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import ScoreFn
from rlhf_lib.probe import Probe
from rlhf_lib.tasks import Task
from rlhf_lib.training import StopTraining, TrainState

CALIBRATION = manifest.ROOT / "data" / "recorded" / "monitors_calibration.json"
PROBE_ERRORS = 3.5  # standard errors below one half that a score's share of rightly ordered pairs may not reach


@dataclass(frozen=True)
class Monitor:
    """One thing that is watched: its number, the bound, and the sentence, which may name {value} and {bound}."""

    name: str
    measure: Measure
    bound: float
    sentence: str

    def __call__(self, rows: Rows, state: TrainState) -> str | None:
        """What is wrong after this update, in one sentence, or None. rows: all updates' metrics, this one last."""
        return self.judge(self.measure(rows, state))

    def judge(self, value: float | None) -> str | None:
        """The sentence for a measured number, if it is above the bound."""
        if value is None or not value > self.bound:
            return None
        return self.sentence.format(value=value, bound=self.bound)


SENTENCES = {
    "not_finite": "A number of this update is NaN or infinite: from here on nothing can be learned.",
    "ratio_off": "Before its first step a ratio of new to old policy is {value:.2f} away from 1: sampling and scoring "
    "disagree (temperature, top-k or padding).",
    "kl_negative": "The estimated KL is {value:.1f} nats below 0 beyond its noise, which cannot be: sampling and "
    "scoring disagree (temperature, top-k, padding, or the order of policy and reference).",
    "kl_too_high": "The KL from the base model is {value:.0%} of the base's entropy (bound {bound:.0%}): "
    "the policy runs away.",
    "entropy_collapses": "{value:.0%} of the entropy is gone (bound {bound:.0%}): the policy says one thing "
    "over and over.",
    "score_falls": "The score fell by {value:.1f} beyond noise where it should rise (bound {bound:.1f}): "
    "the policy learns to be worse.",
    "too_many_penalised": "{value:.0%} of the responses end too late and get the penalty (bound {bound:.0%}): "
    "the score is never heard.",
    "circles": "{value:.0%} of the four-token sequences repeat what the same response said before (bound {bound:.0%}).",
    "sameness": "{value:.0%} of a batch's responses are said to more than one prompt (bound {bound:.0%}).",
    "score_order": "The score prefers the worse response in most pairs labeled beforehand, {value:.1f} standard errors "
    "beyond chance: its sign is flipped, or it was fitted to other labels.",
    "scores_disagree": "The trainer's scores go the other way than the score function's of the same samples "
    "(correlation -{value:.2f}): a sign is lost between the two.",
    "asked_score": "The policy's samples score {value:.1f} standard errors below the base's (bound {bound:.1f}), when "
    "the score is asked directly: what is trained is not what was asked for.",
    "log_ratio_order": "The policy moves towards the worse of two labeled responses (effect size {value:.2f}, bound "
    "{bound:.2f}): a sign is flipped somewhere between labels and loss.",
}
ON_METRICS = {
    "not_finite": measures.not_finite, "ratio_off": measures.first_ratio, "kl_negative": measures.negative_kl,
    "kl_too_high": measures.kl_share, "entropy_collapses": measures.entropy_lost, "score_falls": measures.score_drop,
    "too_many_penalised": measures.penalised, "circles": measures.circles, "sameness": measures.sameness,
}  # fmt: skip
# not measured: what follows from arithmetic, and what the words mean
FIXED_BOUNDS = {
    "not_finite": 0.0,
    "ratio_off": 0.05,  # 1 but for rounding: float32 stays below 1e-3
    "kl_negative": 0.0,  # the noise is in the number already, here and in the next
    "score_falls": 0.0,
    "entropy_collapses": 0.9,  # a summariser that learns to quote loses two thirds and is healthy
    "sameness": 0.5,  # most of a batch
    "score_order": PROBE_ERRORS,
    "scores_disagree": 0.0,  # the two are one number, or a scaled one: any correlation below 0 is a lost sign
    "asked_score": measures.ERRORS,
}


def recorded_bounds(path: Path = CALIBRATION) -> dict[str, float]:
    """The bounds that the last calibration fixed; infinite for a monitor that it found to tell nothing apart.

    Raises KitError if there is none.
    """
    if not path.is_file():
        raise KitError(f"The monitors are not calibrated ({path} is missing): run `python -m rlhf_lib calibrate`.")
    bounds = manifest.read_json(path)["bounds"]
    return {name: math.inf if bound is None else float(bound) for name, bound in bounds.items()}


def unbounded() -> dict[str, float]:
    """Bounds that nothing is above: for monitors that only measure."""
    return dict.fromkeys(SENTENCES, math.inf)


def standard_monitors(
    task: Task,
    reference: Policy,
    score_fn: ScoreFn,
    probe: Probe | None = None,
    bounds: Mapping[str, float] | None = None,
) -> list[Monitor]:
    """All monitors for one PPO run; those of the probe only where there is one. A monitor belongs to one run.

    score_fn: the very function that `train_ppo` is given: whether *that* is right is the question. bounds: by name
    (None: the recorded ones).
    """
    bounds = FIXED_BOUNDS | dict(recorded_bounds() if bounds is None else bounds)
    wanted, ask = dict(ON_METRICS), probe_measures.asker(task, score_fn)
    wanted["scores_disagree"] = probe_measures.disagreement(ask)
    if probe is not None:
        wanted["score_order"] = probe_measures.wrong_order(probe, score_fn)
        wanted["asked_score"] = probe_measures.asked_score_drop(probe, reference, task, score_fn, ask)
        wanted["log_ratio_order"] = probe_measures.moves_to_worse(probe, reference, task)
    missing = sorted(set(wanted) - set(bounds))
    if missing:
        raise KitError(f"The calibration has no bound for {', '.join(missing)}: run `python -m rlhf_lib calibrate`.")
    return [Monitor(name, measure, bounds[name], SENTENCES[name]) for name, measure in wanted.items()]


def replay(rows: Rows, bounds: Mapping[str, float] | None = None) -> tuple[int, str, str] | None:
    """Ask the monitors that need nothing but metrics about a finished run: (update, name, sentence) or None.

    rows: of its metrics file. What needs samples or a probe has nothing to say here.
    """
    bounds = FIXED_BOUNDS | dict(recorded_bounds() if bounds is None else bounds)
    asked = [Monitor(name, measure, bounds[name], SENTENCES[name]) for name, measure in ON_METRICS.items()]
    nothing = SimpleNamespace(data={})
    for update in range(1, len(rows) + 1):
        for monitor in asked:
            sentence = monitor(rows[:update], nothing)
            if sentence:
                return update, monitor.name, sentence
    return None


# -- the callback ------------------------------------------------------------------------------------------------------


class Watch:
    """Callback: ask the monitors after each update, and stop the training at the first one that says something.

    What each measured is added to the update's metrics as monitor/<name>; list this before the MetricsWriter.
    rows: the metrics of the updates already done, when a run is gone on with (`metrics.read_metrics`).
    run, store: with a store, the pull is recorded there under the run's name, and has to be released like any other.
    stops: if False, nothing is stopped; `first_pull` tells afterwards what would have been.
    """

    def __init__(
        self,
        monitors: Iterable[Monitor],
        rows: Rows = (),
        run: str | None = None,
        store: LabelStore | None = None,
        stops: bool = True,
    ):
        self.monitors, self.rows, self.run, self.store = list(monitors), list(rows), run, store
        self.stops = stops

    def __call__(self, state: TrainState) -> None:
        # the row itself: what a monitor notes there is in the file, for a run that is gone on with
        self.rows.append(state.metrics)
        measured = {monitor: monitor.measure(self.rows, state) for monitor in self.monitors}
        state.metrics |= {f"monitor/{m.name}": value for m, value in measured.items() if value is not None}
        sentences = [said for m, value in measured.items() if (said := m.judge(value))]
        if sentences and self.stops:
            self.record(sentences[0], state.step)
            raise StopTraining(f"A monitor pulled the cord after update {state.step}: {sentences[0]}")

    def record(self, sentence: str, step: int) -> None:
        """Keep the pull in the store, if there is one; a store that cannot be reached does not keep a run going."""
        if self.store is None:
            return
        try:
            data = {"reason": sentence, "run": self.run, "update": step}
            self.store.append(Event("andon", labeler="a monitor", data=data))
        except KitError as error:
            print(f"The pull is not in the label store: {error}")


def first_pull(rows: Iterable[Mapping], monitors: Iterable[Monitor]) -> tuple[int, str, str] | None:
    """When the cord would have been pulled in a run whose monitors did not stop it: (update, name, sentence)."""
    monitors = list(monitors)
    for update, row in enumerate(rows, 1):
        for monitor in monitors:
            sentence = monitor.judge(row.get(f"monitor/{monitor.name}"))
            if sentence:
                return update, monitor.name, sentence
    return None
