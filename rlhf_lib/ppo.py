"""PPO against a reward model with a KL penalty, as in Ziegler et al. 2019 (original-system section 3.3).

The loop: sample a batch of responses, score them, add a KL penalty a token, then four passes of clipped policy and
value losses over the batch; finally steer the KL coefficient. Nothing here knows of files, notebooks or widgets:
callbacks get a `TrainState` after each update.

Shapes: B episodes an update, Q query tokens, R response tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import torch

from rlhf_lib.cores import add_gradients, backward, side_by_side, workers_for
from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.tasks import QueryStream
from rlhf_lib.training import (
    Callback,
    TrainState,
    adam_step,
    check_finite,
    finish,
    linear_lr,
    make_adam,
    run_callbacks,
    settings,
    sync_gradients,
)

ScoreFn = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Sync = Callable[[torch.Tensor], torch.Tensor]
SAMPLED = 4  # micro-batches sampled together: without gradients a row takes less memory, and a step is cheaper a row


@dataclass
class Rollout:
    """One batch of episodes, everything without gradients."""

    query_ids: torch.Tensor  # [B, Q] without prefix and suffix
    query_mask: torch.Tensor  # [B, Q]
    context_ids: torch.Tensor  # [B, prefix + Q + suffix] what the policy read
    context_mask: torch.Tensor
    responses: torch.Tensor  # [B, R] untruncated
    logprobs: torch.Tensor  # [B, R] nats, old policy
    values: torch.Tensor  # [B, R] old values
    ref_logprobs: torch.Tensor  # [B, R] nats
    scores: torch.Tensor  # [B] after the penalty
    passes: torch.Tensor  # [B] bool, ended in time

    @property
    def kl(self) -> torch.Tensor:
        """log(policy/reference) of each sampled token, [B, R] nats: the k1 estimator, which may be negative."""
        return self.logprobs - self.ref_logprobs

    def rewards(self, kl_coef: float) -> torch.Tensor:
        """-beta * KL at every token, plus the score at the last position (detail 17): [B, R]."""
        rewards = -kl_coef * self.kl
        rewards[:, -1] += self.scores
        return rewards

    def rows(self, index: torch.Tensor) -> Rollout:
        """Some of the episodes."""
        return Rollout(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@torch.no_grad()
def make_rollout(
    policy: Policy, reference: Policy, score_fn: ScoreFn, queries: QueryStream, cfg: PPOConfig, generator
) -> tuple[Rollout, float]:
    """Six steps from queries to a scored batch. Returns it and the seconds that sampling took.

    Raises KitError for scores that are not one finite number for each episode.
    """
    task, text = queries.task, queries.task.text
    query_ids, query_mask = (t.to(policy.device) for t in queries.next(cfg.batch))
    context_ids, context_mask = task.context(query_ids, query_mask)
    # 1. sample: fixed length; log-probabilities and values come from the same pass
    began = time.perf_counter()
    samples = policy.sample(
        context_ids, context_mask, text.response_length, text.temperature, generator, SAMPLED * cfg.micro_batch
    )
    seconds = time.perf_counter() - began
    # 2. truncate: the reward model sees the text up to the first truncate token that comes late enough
    cut, cut_mask = task.truncate(samples.responses)
    # 3. score: query and response, without the prompt's prefix and suffix
    scores = score_fn(query_ids, query_mask, cut, cut_mask).float().to(policy.device)
    if scores.shape != (cfg.batch,):
        raise KitError(f"The score function gave shape {list(scores.shape)}; it must give one number for each.")
    if not torch.isfinite(scores).all():
        raise KitError("The score function gave NaN or infinity; fit the reward model with a lower learning rate.")
    # 4. penalise: no truncate token in time replaces the score
    passes = task.passes(samples.responses)
    scores = task.penalise(scores, samples.responses)
    # 5. reference log-probabilities of the same tokens, at the same temperature
    ref_logprobs = reference.logprobs(context_ids, context_mask, samples.responses, text.temperature, cfg.micro_batch)
    # 6. KL and rewards follow from these: see Rollout.kl and Rollout.rewards
    rollout = Rollout(query_ids, query_mask, context_ids, context_mask, *samples, ref_logprobs.float(), scores, passes)
    return rollout, seconds


# ---- the losses -----------------------------------------------------------------------------------------------


def whiten(x: torch.Tensor, shift_mean: bool = True, sync: Sync | None = None) -> torch.Tensor:
    """Scale to variance 1 (biased, eps 1e-8) and, if asked, shift to mean 0 (detail 18). Any shape."""
    mean = _mean(x, sync)
    var = _mean((x - mean) ** 2, sync)
    white = (x - mean) * torch.rsqrt(var + 1e-8)
    return white if shift_mean else white + mean


def _mean(x: torch.Tensor, sync: Sync | None) -> torch.Tensor:
    """Mean over all entries, and over all processes of equal share."""
    return x.mean() if sync is None else sync(x.mean())


def gae(rewards: torch.Tensor, values: torch.Tensor, gamma: float, lam: float) -> torch.Tensor:
    """Generalised advantage estimates over a fixed length, terminal value 0. All tensors [B, R]."""
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])  # [B]
    for t in reversed(range(rewards.shape[1])):
        next_value = values[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        running = delta + gamma * lam * running
        advantages[:, t] = running
    return advantages


def advantages_and_returns(
    rollout: Rollout, kl_coef: float, cfg: PPOConfig, sync: Sync | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whitened advantages and returns of one minibatch, both [B, R]. The order is the original's."""
    rewards = rollout.rewards(kl_coef)
    if cfg.whiten_rewards:
        rewards = whiten(rewards, shift_mean=False, sync=sync)
    advantages = gae(rewards, rollout.values, cfg.gamma, cfg.lam)
    returns = advantages + rollout.values
    return whiten(advantages, sync=sync), returns


def ppo_loss(
    logprobs: torch.Tensor,
    values: torch.Tensor,
    old_logprobs: torch.Tensor,
    old_values: torch.Tensor,
    advantages: torch.Tensor,
    returns: torch.Tensor,
    cfg: PPOConfig,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Clipped policy loss + vf_coef * clipped value loss, means over all positions; and what to log. Inputs [B, R]."""
    log_ratio = logprobs - old_logprobs
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip)
    policy_loss = torch.max(plain, clipped).mean()

    near = old_values + (values - old_values).clamp(-cfg.value_clip, cfg.value_clip)
    error, near_error = (values - returns) ** 2, (near - returns) ** 2
    value_loss = 0.5 * torch.max(error, near_error).mean()  # detail 19

    loss = policy_loss + cfg.vf_coef * value_loss
    with torch.no_grad():
        stats = {
            "ppo/loss/policy": policy_loss.detach(),
            "ppo/loss/value": value_loss.detach(),
            "ppo/loss/total": loss.detach(),
            "ppo/policy/approxkl": 0.5 * (log_ratio**2).mean(),
            "ppo/policy/clipfrac": (clipped > plain).float().mean(),
            "ppo/val/error": error.mean(),
            "ppo/val/clipfrac": (near_error > error).float().mean(),
            "ppo/val/vpred": values.mean(),
        }
    return loss, stats


def train_minibatch(
    policy: Policy, optimizer, batch: Rollout, kl_coef: float, cfg: PPOConfig, temperature: float, sync: Sync | None
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Accumulate the gradient of one minibatch, a micro-batch at a time; exact, because whitening comes first.

    Returns the statistics and the largest distance of a ratio from 1.
    """
    advantages, returns = advantages_and_returns(batch, kl_coef, cfg, sync)
    by_length = batch.context_mask.sum(1).argsort(stable=True)  # like lengths beside one another: fewer pads
    parts, parameters = by_length.split(cfg.micro_batch), [p for p in policy.parameters() if p.requires_grad]
    workers = workers_for(policy, len(parts)) if sync is None else 1

    def learn(rows: torch.Tensor):
        part, share = batch.rows(rows), len(rows) / len(advantages)
        logprobs, values = policy(part.context_ids, part.context_mask, part.responses, temperature)  # [b, R] each
        loss, stats = ppo_loss(logprobs, values, part.logprobs, part.values, advantages[rows], returns[rows], cfg)
        spread = ((logprobs.detach() - part.logprobs).exp() - 1.0).abs().max()
        return backward(loss * share, parameters, workers), {k: share * v for k, v in stats.items()}, spread

    totals: dict[str, torch.Tensor] = {}
    spread = advantages.new_zeros(())
    for gradients, stats, largest in side_by_side(learn, parts, workers):
        add_gradients(parameters, gradients)
        totals = {name: totals.get(name, 0.0) + value for name, value in stats.items()}
        spread = torch.maximum(spread, largest)
    totals["ppo/returns/mean"], totals["ppo/returns/var"] = returns.mean(), returns.var(correction=0)
    totals["ppo/val/var_explained"] = 1.0 - totals["ppo/val/error"] / totals["ppo/returns/var"].clamp(min=1e-8)
    return totals, spread


def ppo_update(
    policy: Policy, rollout: Rollout, state: TrainState, cfg: PPOConfig, temperature: float, sync: Sync | None
) -> dict[str, float]:
    """`epochs` passes over the rollout, reshuffled each time (detail 16), one Adam step a minibatch."""
    steps, lr = [], linear_lr(cfg.lr, state.step, state.total)
    first_spread = None
    for _ in range(cfg.epochs):
        order = torch.randperm(len(rollout.scores), generator=state.generator, device=state.generator.device)
        for index in order.to(policy.device).chunk(cfg.minibatches):
            stats, spread = train_minibatch(
                policy, state.optimizer, rollout.rows(index), state.extra["kl_coef"], cfg, temperature, sync
            )
            check_finite(stats["ppo/loss/total"], "PPO loss", state.step, cfg.lr)
            sync_gradients(policy, sync)
            state.extra["adam_steps"] += 1
            adam_step(state.optimizer, lr, cfg.adam_eps, state.extra["adam_steps"])
            first_spread = spread if first_spread is None else first_spread
            steps.append(stats)
    mean = {name: float(torch.stack([s[name] for s in steps]).mean()) for name in steps[0]}
    return mean | {"ppo/policy/first_ratio_error": float(first_spread), "ppo/lr": lr}


def next_kl_coef(kl_coef: float, kl: float, cfg: PPOConfig, episodes: int) -> float:
    """The adaptive controller (detail 20), after the gradient steps; unchanged without a target.

    kl: batch mean of the KL summed over each sequence, nats; episodes: size of the whole batch, over all processes.
    """
    if cfg.kl_target is None:
        return kl_coef
    error = min(max(kl / cfg.kl_target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * episodes / cfg.kl_horizon)


# ---- the loop -------------------------------------------------------------------------------------------------


def rollout_metrics(rollout: Rollout, kl_coef: float, sync: Sync | None) -> dict[str, float]:
    """The objective/* numbers of one batch, before the update; means over the batch (and all processes)."""
    kl = rollout.kl.sum(1)  # [B] nats a sequence
    named = {
        "objective/kl": kl,
        "objective/entropy": -rollout.logprobs.sum(1),
        "objective/score": rollout.scores,
        "objective/score_total": rollout.scores - kl_coef * kl,
        "objective/penalised": (~rollout.passes).float(),
    }
    return {name: float(_mean(x, sync)) for name, x in named.items()} | {"objective/kl_coef": kl_coef}


def train_ppo(
    policy: Policy,
    reference: Policy,
    score_fn: ScoreFn,
    queries: QueryStream,
    cfg: PPOConfig,
    callbacks: Iterable[Callback] = (),
    resume: dict | None = None,
    seed: int = 1,
    sync: Sync | None = None,
    world: int = 1,
) -> TrainState:
    """Fine-tune `policy` in place to raise `score_fn` without leaving `reference`.

    score_fn(query_ids [B, Q], query_mask, response_ids [B, R], response_mask) -> [B]; it gets truncated responses.
    To flip signs (the sign-flip lesson) pass a negated score_fn, a negative cfg.kl_coef, or both.
    resume: a checkpoint's dict (`checkpoint.load`). sync: mean of a tensor over processes, with `world` of them and
    cfg.batch episodes on each; None for one process. Returns the final TrainState (`stopped` says why, if early).
    Raises KitError for settings that do not fit, a NaN loss, or a checkpoint of other settings.
    """
    if cfg.kl_target_share is not None:
        raise KitError("kl_target_share is set but not in nats yet; call resolve_kl_target with the base's entropy.")
    if cfg.episodes < cfg.batch * world or cfg.batch % cfg.minibatches:
        raise KitError(
            f"{cfg.episodes} episodes in batches of {cfg.batch} and {cfg.minibatches} minibatches do not divide into "
            "updates; change ppo.episodes, ppo.batch or ppo.minibatches."
        )
    callbacks = list(callbacks)
    generator = torch.Generator(policy.device).manual_seed(seed)
    state = TrainState(
        policy,
        make_adam(policy.parameters(), cfg.lr),
        generator,
        settings(cfg) | {"seed": seed, "world": world},
        total=cfg.episodes // (cfg.batch * world),
        extra={"kl_coef": cfg.kl_coef, "position": 0, "adam_steps": 0},
    )
    if resume is not None:
        state.load(resume)
    queries.position = state.extra["position"]
    temperature = queries.task.text.temperature
    while state.step < state.total:
        began = time.perf_counter()
        rollout, sampling = make_rollout(policy, reference, score_fn, queries, cfg, generator)
        metrics = rollout_metrics(rollout, state.extra["kl_coef"], sync)
        metrics |= ppo_update(policy, rollout, state, cfg, temperature, sync)
        state.extra["kl_coef"] = next_kl_coef(state.extra["kl_coef"], metrics["objective/kl"], cfg, cfg.batch * world)
        state.extra["position"] = queries.position
        state.step += 1
        seconds = time.perf_counter() - began
        metrics |= {
            "episodes": state.step * cfg.batch * world,
            "time/update": seconds,
            "time/sample_share": sampling / seconds,
        }
        state.metrics = metrics
        state.data = {
            "query_ids": rollout.query_ids,
            "query_mask": rollout.query_mask,
            "responses": rollout.responses,
            "scores": rollout.scores,
            "passes": rollout.passes,
        }
        if run_callbacks(callbacks, state):
            return state
    finish(callbacks, state)
    return state
