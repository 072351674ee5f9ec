"""What the monitors ask: the score function, about labeled pairs and about the trainer's samples, and the policy.

The score function is the one that PPO is given. A sign that is lost in it turns the order of the pairs around
(`wrong_order`), at once; lost behind it, it turns the trainer's scores around (`disagreement`), at once as well; lost
behind those, it shows only in where the policy goes (`moves_to_worse`), which takes some updates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import torch

from rlhf_lib.measures import SHORT, Measure, Rows, last
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import ScoreFn
from rlhf_lib.probe import Probe, effect, log_likelihoods, log_ratio_gaps, right_orders
from rlhf_lib.tasks import Task
from rlhf_lib.training import TrainState

EAGER = 10  # updates in which the policy's log-ratios are looked at every second time; afterwards ...
LOOK_EVERY = 5  # ... every so many
LOOKS = 2  # looks that are averaged
BASE_SAMPLES = 4  # a prompt of the probe, for the base's own scores
FEWEST = 4  # samples that a correlation is computed of

Ask = Callable[[TrainState], torch.Tensor | None]


def wrong_order(probe: Probe, score_fn: ScoreFn) -> Measure:
    """Standard errors by which the score orders fewer than half of the pairs rightly; asked once, it cannot change."""
    asked: list[float] = []

    def measure(rows: Rows, state: TrainState) -> float:
        if not asked:
            n = len(probe)
            asked.append((0.5 - right_orders(probe, score_fn) / n) * 2 * math.sqrt(n))
        return asked[0]

    return measure


def asker(task: Task, score_fn: ScoreFn) -> Ask:
    """A function that asks the score of an update's samples, past the trainer: [B], once for all who want to know."""
    known: list[tuple[torch.Tensor, torch.Tensor]] = []  # the last batch's responses, and its scores

    def ask(state: TrainState) -> torch.Tensor | None:
        responses = state.data.get("responses")
        if responses is not None and not (known and known[0][0] is responses):
            given = state.data["query_ids"], state.data["query_mask"], *task.truncate(responses)
            known[:] = [(responses, score_fn(*given).double().cpu())]
        return None if responses is None else known[0][1]

    return ask


def disagreement(ask: Ask) -> Measure:
    """Minus the correlation of the trainer's own scores with the score function's of the same samples: -1 is healthy.

    Of the responses that ended in time: the others have the penalty instead of their score.
    """

    def measure(rows: Rows, state: TrainState) -> float | None:
        asked = ask(state)
        if asked is None:
            return None
        kept = state.data["passes"].cpu()
        both = torch.stack([asked[kept], state.data["scores"].double().cpu()[kept]])  # [2, those in time]
        if both.shape[1] < FEWEST or not (both.std(1) > 0).all():
            return None
        return -float(torch.corrcoef(both)[0, 1])

    return measure


def asked_score_drop(probe: Probe, reference: Policy, task: Task, score_fn: ScoreFn, ask: Ask) -> Measure:
    """Standard errors by which the policy's samples score below the base's (Welch's t), the penalty left out.

    Of the base, a prompt's samples count as one, their mean: they are more alike than those of other prompts.
    """
    at_first: list[torch.Tensor] = []

    def of_the_base() -> torch.Tensor:
        asked = (probe.query_ids, probe.query_mask)
        ids, mask = (t.to(reference.device).repeat_interleave(BASE_SAMPLES, 0) for t in asked)
        generator, text = torch.Generator(reference.device).manual_seed(0), task.text
        drawn = reference.sample(*task.context(ids, mask), text.response_length, text.temperature, generator, 64)
        scores = score_fn(ids, mask, *task.truncate(drawn.responses)).double().cpu()
        return scores.view(-1, BASE_SAMPLES).mean(1)  # [pairs]

    def measure(rows: Rows, state: TrainState) -> float | None:
        scores = ask(state)
        if scores is None:
            return None
        at_first.extend([] if at_first else [of_the_base()])
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
