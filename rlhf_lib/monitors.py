"""Automatic pulls of the Andon cord: monitors that watch a PPO run and say in one sentence what is wrong.

A monitor measures one number after each update, larger is sicker, and speaks when it is above its bound. `Watch` is the
callback that asks them. The bounds are not typed here: `python -m rlhf_lib calibrate` measures healthy and broken runs
of seeds 1-3, puts each bound between them, and tries it on seeds that it has not seen (see `calibration.py`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from rlhf_lib import manifest
from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import Event
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import ScoreFn
from rlhf_lib.probe import Probe, effect, log_likelihoods, log_ratio_gaps, right_orders
from rlhf_lib.tasks import Task
from rlhf_lib.training import StopTraining, TrainState

Rows = Sequence[dict]  # metrics of all updates, this one last; a monitor may note what it needs later
Measure = Callable[[Rows, TrainState], float | None]

CALIBRATION = manifest.ROOT / "data" / "recorded" / "monitors_calibration.json"
WINDOW = 5  # updates that are averaged before something is compared
SHORT = 3  # updates, where one alone would be chance
ERRORS = 4.0  # standard errors that a mean is given for its noise
PENALISED_WINDOW = 10  # updates
PROBE_ERRORS = 3.5  # standard errors below one half that a score's share of rightly ordered pairs may not reach
EAGER = 10  # updates in which the policy's log-ratios are looked at every second time; afterwards ...
LOOK_EVERY = 5  # ... every so many
LOOKS = 2  # looks that are averaged
BASE_SAMPLES = 4  # a prompt of the probe, for the base's own scores


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


def last(rows: Rows, name: str, n: int) -> list[float] | None:
    """A metric over the last n updates; None while there are fewer that have it."""
    values = [row[name] for row in rows[-n:] if name in row]
    return values if len(values) == n else None


def standard_error(values: Sequence[float]) -> float:
    """Of a mean, from the spread of the values; infinite for fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


# -- numbers from the metrics ------------------------------------------------------------------------------------------


def not_finite(rows: Rows, state: TrainState) -> float:
    """How many numbers of the update are NaN or infinite."""
    return float(sum(isinstance(value, float) and not math.isfinite(value) for value in rows[-1].values()))


def score_drop(rows: Rows, state: TrainState) -> float | None:
    """How far the score of the last updates lies below that of the first, beyond noise (score units)."""
    if len(rows) < 2 * WINDOW:
        return None
    early, late = [r["objective/score"] for r in rows[:WINDOW]], last(rows, "objective/score", WINDOW)
    noise = math.hypot(standard_error(early), standard_error(late))
    return statistics.fmean(early) - statistics.fmean(late) - ERRORS * noise


def kl_share(rows: Rows, state: TrainState) -> float | None:
    """KL over the last updates, as a share of the base's entropy (both nats a response)."""
    kls = last(rows, "objective/kl", SHORT)
    return statistics.fmean(kls) / rows[0]["objective/entropy"] if kls else None


def negative_kl(rows: Rows, state: TrainState) -> float | None:
    """How far the KL lies below 0, beyond its estimator's noise, nats: no pair of distributions has that."""
    kls = last(rows, "objective/kl", WINDOW)
    return -statistics.fmean(kls) - ERRORS * standard_error(kls) if kls else None


def entropy_lost(rows: Rows, state: TrainState) -> float | None:
    """Share of the first update's sequence entropy that is gone."""
    now = last(rows, "objective/entropy", SHORT)
    return 1.0 - statistics.fmean(now) / rows[0]["objective/entropy"] if now else None


def penalised(rows: Rows, state: TrainState) -> float | None:
    """Share of responses that miss the truncation rule, over many updates."""
    shares = last(rows, "objective/penalised", PENALISED_WINDOW)
    return statistics.fmean(shares) if shares else None


# -- numbers from the samples ------------------------------------------------------------------------------------------


def repeated_share(responses: torch.Tensor, n: int = 4) -> torch.Tensor:
    """Share of each response's n-grams that it already held further left. [B, R] -> [B]."""
    shares = []
    for row in responses.tolist():
        grams = list(zip(*(row[i:] for i in range(n)), strict=False))
        shares.append(1.0 - len(set(grams)) / len(grams) if grams else 0.0)
    return torch.tensor(shares)


def circles(rows: Rows, state: TrainState) -> float | None:
    """Mean share of a response's four-token sequences that it already held."""
    responses = state.data.get("responses")
    return None if responses is None else float(repeated_share(responses).mean())


def sameness(rows: Rows, state: TrainState) -> float | None:
    """Share of a batch's responses that stand in it more than once."""
    responses = state.data.get("responses")
    if responses is None:
        return None
    _, counts = torch.unique(responses, dim=0, return_counts=True)
    return float(counts[counts > 1].sum()) / len(responses)


# -- numbers from the probe --------------------------------------------------------------------------------------------


def wrong_order(probe: Probe, score_fn: ScoreFn) -> Measure:
    """Standard errors by which the score orders fewer than half of the pairs rightly; asked once, it cannot change."""
    asked: list[float] = []

    def measure(rows: Rows, state: TrainState) -> float:
        if not asked:
            n = len(probe)
            asked.append((0.5 - right_orders(probe, score_fn) / n) * 2 * math.sqrt(n))
        return asked[0]

    return measure


def asked_score_drop(probe: Probe, reference: Policy, task: Task, score_fn: ScoreFn) -> Measure:
    """Standard errors by which the policy's samples score below the base's (Welch's t), the score asked directly.

    The trainer's own score has been through the trainer; this one is asked past it, and `wrong_order` vouches for it.
    """
    at_first: list[torch.Tensor] = []

    def ask(query_ids: torch.Tensor, query_mask: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        return score_fn(query_ids, query_mask, *task.truncate(responses)).double().cpu()

    def of_the_base() -> torch.Tensor:
        ids, mask = (t.repeat_interleave(BASE_SAMPLES, 0) for t in (probe.query_ids, probe.query_mask))
        generator, text = torch.Generator(reference.device).manual_seed(0), task.text
        drawn = reference.sample(*task.context(ids, mask), text.response_length, text.temperature, generator, 64)
        return ask(ids, mask, drawn.responses)

    def measure(rows: Rows, state: TrainState) -> float | None:
        if "responses" not in state.data:
            return None
        at_first.extend([] if at_first else [of_the_base()])
        scores = ask(*(state.data[name] for name in ("query_ids", "query_mask", "responses")))
        rows[-1]["probe/score"], rows[-1]["probe/score_var"] = float(scores.mean()), float(scores.var())
        means, variances = last(rows, "probe/score", SHORT), last(rows, "probe/score_var", SHORT)
        if means is None:
            return None
        n, base = len(scores), at_first[0]
        now = statistics.fmean(means)
        between = n * sum((mean - now) ** 2 for mean in means)
        spread = ((n - 1) * sum(variances) + between) / (SHORT * n - 1)  # variance of all samples of these updates
        error = math.sqrt(float(base.var()) / len(base) + spread / (SHORT * n))
        return (float(base.mean()) - now) / error if error > 0 else None

    return measure


def moves_to_worse(probe: Probe, reference: Policy, task: Task) -> Measure:
    """How clearly the policy moves towards the worse responses: minus the effect size, mean of the last looks."""
    at_first: list[torch.Tensor] = []

    def measure(rows: Rows, state: TrainState) -> float | None:
        if state.step % (2 if state.step <= EAGER else LOOK_EVERY):
            return None
        at_first.extend([] if at_first else [log_likelihoods(probe, reference, task)])
        found = effect(log_ratio_gaps(probe, state.model, reference, task, at_first[0]))
        if found is None:
            return None
        rows[-1]["probe/effect"] = found
        looks = [row["probe/effect"] for row in rows if "probe/effect" in row][-LOOKS:]
        return -statistics.fmean(looks) if len(looks) == LOOKS else None

    return measure


# -- all of them -------------------------------------------------------------------------------------------------------


SENTENCES = {
    "not_finite": "A number of this update is NaN or infinite: from here on nothing can be learned.",
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
    "asked_score": "The policy's samples score {value:.1f} standard errors below the base's (bound {bound:.1f}), when "
    "the score is asked directly: what is trained is not what was asked for.",
    "log_ratio_order": "The policy moves towards the worse of two labeled responses (effect size {value:.2f}, bound "
    "{bound:.2f}): a sign is flipped somewhere between labels and loss.",
}
ON_METRICS = {
    "not_finite": not_finite, "kl_negative": negative_kl, "kl_too_high": kl_share, "entropy_collapses": entropy_lost,
    "score_falls": score_drop, "too_many_penalised": penalised, "circles": circles, "sameness": sameness,
}  # fmt: skip
# what follows from arithmetic and is not measured
FIXED_BOUNDS = {"not_finite": 0.0, "score_order": PROBE_ERRORS}


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

    score_fn: the score that is asked of the probe; bounds: by name (None: the recorded ones).
    """
    bounds = FIXED_BOUNDS | dict(recorded_bounds() if bounds is None else bounds)
    measures = dict(ON_METRICS)
    if probe is not None:
        measures["score_order"] = wrong_order(probe, score_fn)
        measures["asked_score"] = asked_score_drop(probe, reference, task, score_fn)
        measures["log_ratio_order"] = moves_to_worse(probe, reference, task)
    missing = sorted(set(measures) - set(bounds))
    if missing:
        raise KitError(f"The calibration has no bound for {', '.join(missing)}: run `python -m rlhf_lib calibrate`.")
    return [Monitor(name, measure, bounds[name], SENTENCES[name]) for name, measure in measures.items()]


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
        self.rows.append(
            state.metrics
        )  # itself: what a monitor notes there is in the file, for a run that is gone on with
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
