"""Supervised fine-tuning: one epoch, cosine learning rate, dropout 0.1 (the only place where dropout is on).

For the supervised summarisation baseline (prompt and reference summary) and for the domain fine-tune of the style
tasks' reference model (plain text).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from torch.nn import functional as F

from rlhf_lib.errors import KitError
from rlhf_lib.policy import set_dropout
from rlhf_lib.profiles import SFTConfig
from rlhf_lib.tasks import Task
from rlhf_lib.training import (
    Callback,
    TrainState,
    adam_step,
    check_finite,
    cosine_lr,
    finish,
    make_adam,
    run_callbacks,
    settings,
    sync_gradients,
)

Pair = tuple[list[int], list[int]]  # prompt tokens (no loss), target tokens (loss)


def summary_pairs(articles: Iterable[str], summaries: Iterable[str], task: Task) -> list[Pair]:
    """(prompt, reference summary) as tokens; the summary ends with the truncate token and fits the response length."""
    pairs = []
    for article, summary in zip(articles, summaries, strict=True):
        query = task.query_tokens(article)
        target = [*task.encode(" " + " ".join(summary.split())), task.truncate_id]
        if query is not None and len(target) > 1:
            pairs.append((task.prefix_ids + query + task.suffix_ids, target[: task.text.response_length]))
    return pairs


def text_pairs(texts: Iterable[str], task: Task) -> list[Pair]:
    """Plain texts as targets without a prompt, cut to query + response length."""
    length = task.text.query_length + task.text.response_length
    encoded = (task.encode(text)[:length] for text in texts)
    return [([], ids) for ids in encoded if len(ids) > 1]


def fit_sft(
    lm,
    pairs: Sequence[Pair],
    cfg: SFTConfig,
    seed: int = 1,
    callbacks: Iterable[Callback] = (),
    resume: dict | None = None,
    autocast: torch.dtype | None = None,
    sync=None,
):
    """Fine-tune `lm` in place on the targets of (prompt, target) token pairs, and return it with dropout off again.

    sync: mean of a tensor over processes, each of which has as many pairs of its own; None for one process.
    Raises KitError without pairs or for a loss that is not finite.
    """
    if not pairs:
        raise KitError("There is no text to fine-tune on; give at least one pair.")
    callbacks = list(callbacks)
    generator = torch.Generator().manual_seed(seed)
    epochs = [torch.randperm(len(pairs), generator=generator).split(cfg.batch) for _ in range(cfg.epochs)]
    batches = [batch for epoch in epochs for batch in epoch]
    torch.manual_seed(seed)  # dropout draws from the global generator; checkpoints keep it
    state = TrainState(
        lm, make_adam(lm.parameters(), cfg.lr), generator, settings(cfg) | {"seed": seed}, total=len(batches)
    )
    if resume is not None:
        state.load(resume)
    set_dropout(lm, cfg.dropout)
    try:
        while state.step < state.total:
            state.metrics = _sft_step(state, [pairs[i] for i in batches[state.step]], cfg, autocast, sync)
            state.step += 1
            if run_callbacks(callbacks, state):
                return lm
    finally:
        set_dropout(lm, 0.0)
    finish(callbacks, state)
    return lm


def _sft_step(state: TrainState, batch: list[Pair], cfg: SFTConfig, autocast, sync) -> dict[str, float]:
    """One gradient step; the loss is the mean over all target tokens of the batch, whatever the micro-batches and
    (with `sync`) however the batch is spread over processes."""
    lr = cosine_lr(cfg.lr, state.step, state.total)
    tokens = _mean(sum(_loss_tokens(pair) for pair in batch), state.model, sync)
    total = 0.0
    for start in range(0, len(batch), cfg.micro_batch):
        loss = _nll_sum(state.model, batch[start : start + cfg.micro_batch], autocast) / tokens
        check_finite(loss, "fine-tuning loss", state.step, cfg.lr)
        loss.backward()
        total += float(loss.detach())
    sync_gradients(state.model, sync)
    adam_step(state.optimizer, lr, cfg.adam_eps, state.step + 1)
    return {"sft/loss": _mean(total, state.model, sync), "sft/lr": lr}


def _mean(number: float, model, sync) -> float:
    """Mean of a number over processes; the number itself for one."""
    return number if sync is None else float(sync(torch.tensor(float(number), device=next(model.parameters()).device)))


def _loss_tokens(pair: Pair) -> int:
    """Target tokens that have something before them to be predicted from."""
    prompt, target = pair
    return len(target) if prompt else len(target) - 1


def _nll_sum(lm, batch: list[Pair], autocast) -> torch.Tensor:
    """Sum of -log p over the target tokens of right-padded sequences (so that no positions need to be given)."""
    device = next(lm.parameters()).device
    width = max(len(p) + len(t) for p, t in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), -100)  # cross_entropy's "no loss here"
    for i, (prompt, target) in enumerate(batch):
        row = torch.tensor(prompt + target)
        ids[i, : len(row)] = row
        labels[i, len(prompt) : len(row)] = row[len(prompt) :]
    ids, labels = ids.to(device), labels.to(device)
    wanted = labels[:, 1:] != -100  # [batch, width - 1]
    with torch.autocast(device.type, autocast) if autocast else nullcontext():
        # causal attention never looks right, so right pads need no mask
        states = lm.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][wanted]  # [targets, width]
        logits = lm.get_output_embeddings()(states)  # [targets, vocab]
    return F.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="sum")
