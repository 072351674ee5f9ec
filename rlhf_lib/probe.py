"""The probe: pairs of a better and a worse response, labeled before a training and kept out of it.

The score has to order them rightly, and the policy has to move towards the better ones. The second question is the one
that sees a sign which was lost *between* score and loss, where the score itself looks right.

Shapes: n pairs, Q query tokens, R response tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rlhf_lib.errors import KitError
from rlhf_lib.labels.simulated import SimulatedLabeler, on_response
from rlhf_lib.picks import Comparisons
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import ScoreFn
from rlhf_lib.tasks import Queries, Task

PAIRS = 64
EACH = 8  # samples a query, of which the best and the worst make a pair


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

    def __len__(self) -> int:
        return len(self.best)


def probe_from_labels(data: Comparisons, worst: torch.Tensor | None = None, pairs: int = PAIRS) -> Probe:
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
def make_probe(
    reference: Policy,
    queries: Queries,
    task: Task,
    text_score: Callable[[str], float],
    noise: float,
    seed: int,
    each: int = EACH,
) -> Probe:
    """A pair a query: of `each` samples of the reference, the one that a simulated labeler finds best, and worst.

    noise: the labeler's, score units (a fresh view for best and for worst). Where both views pick the same sample,
    the next one stands for the worst.
    """
    generator, text = torch.Generator(reference.device).manual_seed(seed), task.text
    context = task.context(queries.ids, queries.mask)
    drawn = reference.sample(*context, text.response_length, text.temperature, generator, repeats=each).responses.cpu()
    cut, mask = task.truncate(drawn)  # [n * each, R]
    texts = [task.decode(ids, kept) for ids, kept in zip(cut, mask, strict=True)]
    fours = [texts[i : i + each] for i in range(0, len(texts), each)]
    asked = [""] * len(fours)  # these labelers judge the response alone
    best = SimulatedLabeler(on_response(text_score), noise, seed).pick_many(asked, fours)
    worst = SimulatedLabeler(on_response(lambda t: -text_score(t)), noise, seed + 1).pick_many(asked, fours)
    first = torch.arange(0, len(texts), each)  # [n]
    best, worst = torch.as_tensor(best), torch.as_tensor(worst)
    worst = torch.where(best == worst, (best + 1) % each, worst)
    return Probe(
        queries.ids, queries.mask, cut[first + best], mask[first + best], cut[first + worst], mask[first + worst]
    )


@torch.no_grad()
def right_orders(probe: Probe, score_fn: ScoreFn, chunk: int = 64) -> int:
    """In how many pairs the score prefers the better response."""
    right = 0
    for i in torch.arange(len(probe)).split(chunk):
        queries = probe.query_ids[i], probe.query_mask[i]
        better = score_fn(*queries, probe.best[i], probe.best_mask[i])
        right += int((better > score_fn(*queries, probe.worst[i], probe.worst_mask[i])).sum())
    return right


@torch.no_grad()
def log_likelihoods(probe: Probe, policy: Policy, task: Task) -> torch.Tensor:
    """log-probability of the better and of the worse responses at the task's temperature, nats: [2, n]."""
    context, temperature = task.context(probe.query_ids, probe.query_mask), task.text.temperature

    def total(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        each = policy.logprobs(*context, ids, temperature)  # [n, R]
        return (each * mask.to(each.device)).sum(1)

    return torch.stack([total(probe.best, probe.best_mask), total(probe.worst, probe.worst_mask)])


def log_ratio_gaps(
    probe: Probe, policy: Policy, reference: Policy, task: Task, at_first: torch.Tensor | None = None
) -> torch.Tensor:
    """log(policy/reference) of the better response minus that of the worse, nats: [n]; all 0 before training.

    at_first: the reference's `log_likelihoods`, which never change, to save computing them at each look.
    """
    first = log_likelihoods(probe, reference, task) if at_first is None else at_first
    ratios = log_likelihoods(probe, policy, task) - first  # [2, n]
    return ratios[0] - ratios[1]


def effect(gaps: torch.Tensor) -> float | None:
    """Mean of paired differences in units of their own spread (Cohen's d); None while nothing has moved.

    It doesn't grow with the distance travelled, as the mean does, nor with the number of pairs, as Student's
    t = d * sqrt(n) does: a policy that walks in some direction that has nothing to do with the labels is soon many
    standard errors away from 0, but only a small part of its own spread.
    """
    gaps = gaps.double()
    spread = float(gaps.std())
    return float(gaps.mean()) / spread if spread > 0 else None
