"""Automatic pulls of the Andon cord: monitors that watch a PPO run and say in one sentence what is wrong.

A monitor is a function (rows, state) -> sentence or None; rows are the metrics of all updates so far, this one last.
`Watch` is the callback that asks them after each update. Thresholds are the constants below: set by hand and tried on a
test-sized random model only, not yet calibrated on seeds 1-3 of real runs as they are meant to be.

Shapes: n pairs, Q query tokens, R response tokens, B episodes an update.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import Event
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import ScoreFn
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.reward import Comparisons
from rlhf_lib.tasks import Task
from rlhf_lib.training import StopTraining, TrainState

Rows = Sequence[dict]
Monitor = Callable[[Rows, TrainState], str | None]

WINDOW = 5  # updates that are averaged before something is compared
SCORE_DROP = 0.5  # score units (1 = standard deviation of reference scores) below the first updates ...
SCORE_DROP_ERRORS = 4.0  # ... and as many standard errors
KL_OVER_TARGET = 3.0  # times the target
KL_OVER_ENTROPY = 1.5  # times the first update's sequence entropy, where there is no target
NEGATIVE_KL = -0.3  # nats a sequence ...
NEGATIVE_KL_ERRORS = 4.0  # ... and as many standard errors below 0
ENTROPY_SHARE = 0.1  # of the first update's sequence entropy
REPEATED_SHARE = 0.5  # of a response's 4-grams that it already held
SAME_SHARE = 0.5  # of a batch's responses that stand in it more than once
PENALISED_SHARE = 0.95  # of responses, over PENALISED_WINDOW updates
PENALISED_RISE = 0.4  # above the first updates
PENALISED_WINDOW = 10  # updates
PROBE_PAIRS = 256
PROBE_ERRORS = 3.5  # standard errors below one half that a score's share of rightly ordered pairs may not reach
PROBE_EVERY = 5  # updates between two looks at the policy's log-ratios
RATIO_ERRORS = 4.0  # standard errors below 0 of the mean difference of log-ratios ...
RATIO_LOOKS = 3  # ... so many looks in a row


def last(rows: Rows, name: str, n: int) -> list[float]:
    """A metric over the last n updates; fewer at the start of a run."""
    return [row[name] for row in rows[-n:] if name in row]


def standard_error(values: Sequence[float]) -> float:
    """Of a mean, from the spread of the values; infinite for fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


# -- monitors on the metrics -------------------------------------------------------------------------------------------


def not_finite(rows: Rows, state: TrainState) -> str | None:
    """A number that is NaN or infinite."""
    bad = [name for name, value in rows[-1].items() if isinstance(value, float) and not math.isfinite(value)]
    return f"{bad[0]} is {rows[-1][bad[0]]}: from here on nothing can be learned." if bad else None


def score_falls(rows: Rows, state: TrainState) -> str | None:
    """The mean score of the last updates below that of the first, by more than noise."""
    early, late = [r["objective/score"] for r in rows[:WINDOW]], last(rows, "objective/score", WINDOW)
    if len(rows) < 2 * WINDOW:
        return None
    before, now = statistics.fmean(early), statistics.fmean(late)
    error = math.hypot(standard_error(early), standard_error(late))
    if before - now <= max(SCORE_DROP, SCORE_DROP_ERRORS * error):
        return None
    return f"The score fell from {before:.2f} to {now:.2f} where it should rise: the policy learns to be worse."


def kl_too_high(target: float | None = None) -> Monitor:
    """KL above its bound: a multiple of the target (nats a sequence), or of the first update's entropy without one."""

    def monitor(rows: Rows, state: TrainState) -> str | None:
        bound = KL_OVER_TARGET * target if target else KL_OVER_ENTROPY * rows[0]["objective/entropy"]
        kl = statistics.fmean(last(rows, "objective/kl", 3))
        if len(rows) < 3 or kl <= bound:
            return None
        return f"The KL from the base model is {kl:.1f} nats, above its bound of {bound:.1f}: the policy runs away."

    return monitor


def kl_negative(rows: Rows, state: TrainState) -> str | None:
    """KL below zero by more than the noise of its estimator, which no pair of distributions can have."""
    kls = last(rows, "objective/kl", WINDOW)
    mean = statistics.fmean(kls)
    if len(kls) < WINDOW or mean >= min(NEGATIVE_KL, -NEGATIVE_KL_ERRORS * standard_error(kls)):
        return None
    return (
        f"The estimated KL is {mean:.2f} nats, which cannot be: sampling and scoring disagree "
        "(temperature, top-k, padding, or the order of policy and reference)."
    )


def entropy_collapses(rows: Rows, state: TrainState) -> str | None:
    """Sequence entropy at a small share of the first update's."""
    first, now = rows[0]["objective/entropy"], statistics.fmean(last(rows, "objective/entropy", 3))
    if len(rows) < 3 or now >= ENTROPY_SHARE * first:
        return None
    return f"The entropy fell from {first:.1f} to {now:.1f} nats: the policy says one thing over and over."


def too_many_penalised(rows: Rows, state: TrainState) -> str | None:
    """Nearly all responses miss the truncation rule, or many more than at first."""
    recent = last(rows, "objective/penalised", PENALISED_WINDOW)
    if len(recent) < PENALISED_WINDOW:
        return None
    first, now = statistics.fmean(r["objective/penalised"] for r in rows[:WINDOW]), statistics.fmean(recent)
    if now > PENALISED_SHARE:
        return f"{now:.0%} of the responses end too late and get the penalty: the reward model is never heard."
    if now - first > PENALISED_RISE:
        return f"Penalised responses rose from {first:.0%} to {now:.0%}: the policy unlearns to end in time."
    return None


# -- monitors on the samples -------------------------------------------------------------------------------------------


def repeated_share(responses: torch.Tensor, n: int = 4) -> torch.Tensor:
    """Share of each response's n-grams that it already held further left. [B, R] -> [B]."""
    shares = []
    for row in responses.tolist():
        grams = list(zip(*(row[i:] for i in range(n)), strict=False))
        shares.append(1.0 - len(set(grams)) / len(grams) if grams else 0.0)
    return torch.tensor(shares)


def repetition(rows: Rows, state: TrainState) -> str | None:
    """Responses that go round in circles, or a batch that says the same to different prompts."""
    responses = state.data.get("responses")
    if responses is None:
        return None
    circles = float(repeated_share(responses).mean())
    if circles > REPEATED_SHARE:
        return f"{circles:.0%} of the four-token sequences repeat what the same response said before."
    _, counts = torch.unique(responses, dim=0, return_counts=True)
    same = float(counts[counts > 1].sum()) / len(responses)
    if same > SAME_SHARE:
        return f"{same:.0%} of a batch's responses are said to more than one prompt."
    return None


# -- the probe: pairs labeled beforehand -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """A better and a worse response to each of n queries, labeled before the training; the queries are held out.

    query_ids, query_mask: [n, Q] left-padded; the others [n, R], right-padded and cut as the reward model reads them.
    """

    query_ids: torch.Tensor
    query_mask: torch.Tensor
    best: torch.Tensor
    best_mask: torch.Tensor
    worst: torch.Tensor
    worst_mask: torch.Tensor


def probe_from_labels(data: Comparisons, worst: torch.Tensor | None = None, pairs: int = PROBE_PAIRS) -> Probe:
    """The first `pairs` comparisons as pairs: the pick, and `worst` [n] (index), or without it the response after it.

    Raises KitError if a worst response is the best one.
    """
    rows, best = torch.arange(len(data)), data.best.cpu()
    worst = (best + 1) % 4 if worst is None else worst.cpu()
    if bool((best == worst).any()):
        raise KitError("A probe pair has the same response as best and as worst; give the index of another one.")
    take = slice(pairs)
    texts = (data.response_ids[rows, best], data.response_mask[rows, best])
    others = (data.response_ids[rows, worst], data.response_mask[rows, worst])
    return Probe(*(part[take] for part in (data.query_ids, data.query_mask, *texts, *others)))


@torch.no_grad()
def right_orders(probe: Probe, score_fn: ScoreFn, chunk: int = 64) -> int:
    """In how many pairs the score prefers the better response."""
    right = 0
    for i in torch.arange(len(probe.best)).split(chunk):
        queries = probe.query_ids[i], probe.query_mask[i]
        better = score_fn(*queries, probe.best[i], probe.best_mask[i])
        right += int((better > score_fn(*queries, probe.worst[i], probe.worst_mask[i])).sum())
    return right


def score_order(probe: Probe, score_fn: ScoreFn) -> Monitor:
    """The score has to order the pairs better than chance does; asked once, for the score does not change in a run."""
    asked: list[int] = []

    def monitor(rows: Rows, state: TrainState) -> str | None:
        if not asked:
            asked.append(right_orders(probe, score_fn))
        right, n = asked[0], len(probe.best)
        if right / n >= 0.5 - PROBE_ERRORS * 0.5 / math.sqrt(n):
            return None
        return (
            f"The score prefers the worse response in {n - right} of {n} pairs labeled beforehand: "
            "its sign is flipped, or the reward model was fitted to other labels."
        )

    return monitor


@torch.no_grad()
def log_ratio_gaps(probe: Probe, policy: Policy, reference: Policy, task: Task) -> torch.Tensor:
    """log(policy/reference) of the better response minus that of the worse, nats: [n]; all 0 before training."""
    context, temperature = task.context(probe.query_ids, probe.query_mask), task.text.temperature

    def ratios(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        each = policy.logprobs(*context, ids, temperature) - reference.logprobs(*context, ids, temperature)  # [n, R]
        return (each * mask.to(each.device)).sum(1)

    return ratios(probe.best, probe.best_mask) - ratios(probe.worst, probe.worst_mask)


def log_ratio_order(probe: Probe, reference: Policy, task: Task) -> Monitor:
    """The policy has to move towards the better responses and not, look after look, towards the worse ones."""
    against = 0

    def monitor(rows: Rows, state: TrainState) -> str | None:
        nonlocal against
        if state.step % PROBE_EVERY:
            return None
        gaps = log_ratio_gaps(probe, state.model, reference, task).double()
        mean, error = float(gaps.mean()), float(gaps.std() / math.sqrt(len(gaps)))
        against = against + 1 if mean < -RATIO_ERRORS * error else 0
        if against < RATIO_LOOKS:
            return None
        return (
            f"The policy moves towards the worse of two labeled responses ({-mean:.2f} nats a pair, {against} looks in "
            "a row): a sign is flipped somewhere between labels and loss."
        )

    return monitor


# -- the callback ------------------------------------------------------------------------------------------------------


def standard_monitors(
    cfg: PPOConfig, task: Task, reference: Policy, score_fn: ScoreFn, probe: Probe | None = None
) -> list[Monitor]:
    """All monitors for one PPO run; those of the probe only where there is one."""
    on_metrics = [not_finite, kl_negative, kl_too_high(cfg.kl_target), entropy_collapses, score_falls]
    on_samples = [too_many_penalised, repetition]
    on_pairs = [score_order(probe, score_fn), log_ratio_order(probe, reference, task)] if probe is not None else []
    return [*on_metrics, *on_samples, *on_pairs]


class Watch:
    """Callback: ask the monitors after each update, and stop the training at the first one that says something.

    rows: the metrics of the updates already done, when a run is gone on with (`metrics.read_metrics`).
    run, store: with a store, the pull is recorded there under the run's name, and has to be released like any other.
    """

    def __init__(
        self, monitors: Iterable[Monitor], rows: Rows = (), run: str | None = None, store: LabelStore | None = None
    ):
        self.monitors, self.rows, self.run, self.store = list(monitors), list(rows), run, store

    def __call__(self, state: TrainState) -> None:
        self.rows.append(dict(state.metrics))
        for monitor in self.monitors:
            sentence = monitor(self.rows, state)
            if sentence:
                self.record(sentence, state.step)
                raise StopTraining(f"A monitor pulled the cord after update {state.step}: {sentence}")

    def record(self, sentence: str, step: int) -> None:
        """Keep the pull in the store, if there is one; a store that cannot be reached does not keep a run going."""
        if self.store is None:
            return
        try:
            data = {"reason": sentence, "run": self.run, "update": step}
            self.store.append(Event("andon", labeler="a monitor", data=data))
        except KitError as error:
            print(f"The pull is not in the label store: {error}")
