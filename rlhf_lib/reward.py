"""The reward model: a copy of the language model with a scalar head, fitted to four-way picks (original section 2)."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

from rlhf_lib.cores import add_gradients, backward, rows_at_once, side_by_side, workers_for
from rlhf_lib.errors import KitError
from rlhf_lib.picks import Comparisons, encode_labels, split_by_query
from rlhf_lib.policy import Policy, atomic_folder, prepare
from rlhf_lib.profiles import RewardConfig
from rlhf_lib.states import pads_to_the_right, read_states
from rlhf_lib.tasks import Queries, QueryStream, Task
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

FINAL_NORMS = ("ln_f", "norm", "final_layernorm", "final_layer_norm")  # transformers' names of a body's last norm


class RewardModel(nn.Module):
    """score = gain * (w . h + b) + bias, with h the last layer's state at the last real token (detail 7)."""

    def __init__(self, body: nn.Module, generator: torch.Generator | None = None):
        super().__init__()
        self.body = body
        width = body.get_input_embeddings().weight.shape[1]
        device = next(body.parameters()).device
        self.head = nn.Linear(width, 1)
        nn.init.normal_(self.head.weight, std=1.0 / math.sqrt(width + 1), generator=generator)  # detail 8
        nn.init.zeros_(self.head.bias)
        self.head.to(device)
        self.gain = nn.Parameter(torch.ones((), device=device))
        self.bias = nn.Parameter(torch.zeros((), device=device))
        self.autocast: torch.dtype | None = None
        self.report: dict = {}

    @property
    def device(self) -> torch.device:
        return self.gain.device

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Scores [batch] of sequences; ids, mask: [batch, time]; pads may stand at the left, right or both."""
        ids, lengths = pads_to_the_right(ids.to(self.device), mask.to(self.device).bool())
        return self.read(ids, (lengths - 1)[:, None]).squeeze(1)

    def read(self, ids: torch.Tensor, wanted: torch.Tensor, positions=None, seen=None) -> torch.Tensor:
        """Scores [batch, wanted] read at some columns of ids [batch, time]; the rest as in `states.read_states`."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            states = read_states(self.body, ids, wanted, positions, seen)  # [batch, wanted, width]
        raw = self.head(states.to(self.head.weight.dtype)).squeeze(-1)
        return self.gain * raw.float() + self.bias

    @torch.no_grad()
    def score(
        self,
        query_ids: torch.Tensor,
        query_mask: torch.Tensor,
        response_ids: torch.Tensor,
        response_mask: torch.Tensor,
        micro_batch: int | None = None,
    ) -> torch.Tensor:
        """Scores [batch], no gradients. Queries [batch, Q] left-padded, without the task's prefix and suffix;
        responses [batch, R] right-padded. As many rows at a time as suit the device, or `micro_batch`."""
        ids = torch.cat([query_ids, response_ids], 1).to(self.device)  # [batch, Q + R]
        mask = torch.cat([query_mask.bool(), response_mask.bool()], 1).to(self.device)
        by_length = mask.sum(1).argsort(stable=True)  # like lengths beside one another: fewer pads
        parts = by_length.split(micro_batch or (16 if self.device.type == "cpu" else 128))
        scores = side_by_side(lambda rows: self(ids[rows], mask[rows]), parts, workers_for(self, len(parts)))
        return torch.cat(list(scores))[by_length.argsort()]

    def save(self, folder: str | Path, tokenizer, base_config) -> Path:
        """Write a folder that AutoModelForSequenceClassification opens and scores alike (one label); atomic.

        base_config: the language model's config. The gain goes into the head's weight; the constant goes into the
        bias of the final layer norm (solving w . delta = constant), or, where that norm has none (RMSNorm), into
        `config.reward_bias`, which our `load` adds. Raises KitError for a model that has no such head.
        """
        config = copy.deepcopy(base_config)
        config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id
        config.architectures, config.reward_bias = None, 0.0
        shell = AutoModelForSequenceClassification.from_config(config)
        if not isinstance(getattr(shell, "score", None), nn.Linear):
            raise KitError(f"Models of type '{config.model_type}' have no plain score head; use a GPT-2 or Llama type.")
        shell.to(next(self.body.parameters()).dtype)
        shell.base_model.load_state_dict(self.body.state_dict())
        weight = (self.gain * self.head.weight).detach()  # [1, width]
        constant = (self.gain * self.head.bias + self.bias).detach()  # [1]
        norm_bias = _final_norm_bias(shell.base_model)
        with torch.no_grad():
            shell.score.weight.copy_(weight)
            if norm_bias is not None and weight.square().sum() > 0:
                norm_bias += (constant * weight / weight.square().sum()).squeeze(0).to(norm_bias)
            else:
                shell.config.reward_bias = constant.item()
        with atomic_folder(folder) as temporary:
            shell.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            (temporary / "report.json").write_text(json.dumps(self.report, indent=1) + "\n")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, dtype=torch.float32, device: str = "cpu") -> RewardModel:
        """Open what `save` wrote; KitError if it is missing or damaged."""
        if not Path(folder).is_dir():
            raise KitError(f"There is no reward model '{folder}'; fit one first (notebook 03).")
        try:
            opened = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype, output_loading_info=True)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise KitError(f"The reward model '{folder}' cannot be opened ({reason}); fit it again.") from error
        shell, info = opened
        if info["missing_keys"]:  # transformers would go on with random weights
            lost = min(info["missing_keys"])
            raise KitError(f"The weights in '{folder}' do not fit its config.json ({lost} is missing); fit it again.")
        prepare(shell)
        model = cls(shell.base_model.to(device))
        with torch.no_grad():
            model.head.weight.copy_(shell.score.weight)
            model.bias.fill_(getattr(shell.config, "reward_bias", 0.0))
        report = Path(folder) / "report.json"
        model.report = json.loads(report.read_text()) if report.is_file() else {}
        return model.requires_grad_(False)


def _final_norm_bias(body: nn.Module) -> nn.Parameter | None:
    """The bias of the body's last layer norm, or None."""
    norms = [getattr(body, name) for name in FINAL_NORMS if hasattr(body, name)]
    return getattr(norms[0], "bias", None) if norms else None


# ---- fitting --------------------------------------------------------------------------------------------------


def comparison_scores(model: RewardModel, data: Comparisons) -> torch.Tensor:
    """Scores of all four responses of each comparison, [n, 4], with gradients.

    The query is read once for all four: the same numbers as four passes, for less than half the arithmetic. One row
    holds the query and, after it, all four responses, no pads between; each response sees the query and itself.
    """
    ids = torch.cat([data.query_ids, data.response_ids.flatten(1)], 1).to(model.device)
    real = torch.cat([data.query_mask, data.response_mask.flatten(1)], 1).to(model.device).bool()
    lengths = torch.cat([data.query_mask.sum(1, keepdim=True), data.response_mask.sum(2)], 1).to(model.device)
    ids, _ = pads_to_the_right(ids, real)  # [n, time]
    ends = lengths.cumsum(1)  # [n, 5]: columns at which the query and each response end
    column = torch.arange(ids.shape[1], device=ids.device)
    part = (column >= ends[:, :, None]).sum(1)  # [n, time]: 0 is the query, 1 to 4 are responses, 5 are pads
    begins = F.pad(ends - lengths[:, :1], (1, 0))  # [n, 6]: what to take off a column, so that responses go on behind
    seen = (part[:, None] == part[:, :, None]) | (part[:, None] == 0)  # [n, time, time]
    return model.read(ids, ends[:, 1:] - 1, column - begins.gather(1, part), seen.tril())


def four_way_loss(scores: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """-log softmax(scores)[best], mean over comparisons, nats. scores: [n, 4]; best: [n]. Chance: ln 4."""
    return F.cross_entropy(scores, best.to(scores.device))


@torch.no_grad()
def accuracy(model: RewardModel, data: Comparisons, micro_batch: int = 64) -> float:
    """Share of comparisons whose best response gets the highest score; chance is 0.25, nan without data."""
    if not len(data):
        return float("nan")
    right = [
        (comparison_scores(model, data.rows(i)).argmax(1).cpu() == data.best[i])
        for i in torch.arange(len(data)).split(micro_batch)
    ]
    return float(torch.cat(right).float().mean())


@torch.no_grad()
def normalise(
    model: RewardModel, reference: Policy, stream: QueryStream, cfg: RewardConfig, generator: torch.Generator
) -> None:
    """Set gain and bias so that raw, untruncated samples of the *reference* score mean 0, std 1 (detail 9).

    Responses come from the frozen reference at the task's temperature, with prefix and suffix; the standard deviation
    is the population's. No truncation and no penalty in this step. Raises KitError where all samples score the same.
    """
    task, n = stream.task, cfg.normalize_samples
    query_ids, query_mask = stream.next(n)
    context = task.context(query_ids, query_mask)
    text = task.text
    responses = reference.sample(*context, text.response_length, text.temperature, generator, 2 * cfg.micro_batch)[0]
    model.gain.fill_(1.0)
    model.bias.zero_()
    everything = torch.ones_like(responses, dtype=torch.bool)
    raw = model.score(query_ids.to(responses.device), query_mask.to(responses.device), responses, everything).double()
    std = raw.std(correction=0)
    if not torch.isfinite(std) or std == 0:
        raise KitError("The reward model gives all reference samples the same score or NaN; lower its learning rate.")
    model.gain.copy_(cfg.target_std / std)
    model.bias.copy_(cfg.target_mean - cfg.target_std / std * raw.mean())


def fit_reward(
    reference: Policy,
    rows: Sequence[dict],
    queries: Queries,
    task: Task,
    cfg: RewardConfig,
    seed: int = 1,
    callbacks: Iterable[Callback] = (),
    resume: dict | None = None,
    sync=None,
) -> RewardModel:
    """Fit a reward model to four-way labels in one epoch: drop, split by query, normalise, fit, normalise.

    reference: the language model that the body is copied from and whose samples (on `queries`) set the scale. rows:
    see `encode_labels`; the first cfg.labels usable ones count. The model's `report` has held-out accuracy and counts.
    Raises KitError for unusable labels or a loss that is not finite.
    """
    callbacks = list(callbacks)
    data, dropped = encode_labels(rows, task)
    train, held = split_by_query(data.rows(slice(cfg.labels)), cfg.heldout, seed)
    if not len(train):
        raise KitError(f"{len(data)} labels leave none to fit after the held-out share; collect more.")
    generator = torch.Generator(reference.device).manual_seed(seed)
    head_seed = torch.Generator().manual_seed(seed)
    model = RewardModel(copy.deepcopy(reference.lm.base_model).requires_grad_(True).float(), head_seed)
    model.autocast = reference.autocast
    stream = QueryStream(queries, task, seed)
    normalise(model, reference, stream, cfg, generator)
    order = torch.randperm(len(train), generator=head_seed).split(cfg.batch)
    state = TrainState(
        model, make_adam(model.parameters(), cfg.lr), generator, settings(cfg) | {"seed": seed}, total=len(order)
    )
    if resume is not None:
        state.load(resume)
    while state.step < state.total:
        state.metrics = _reward_step(state, train.rows(order[state.step]), cfg, sync)
        state.step += 1
        if run_callbacks(callbacks, state):
            break
    else:
        finish(callbacks, state)
    normalise(model, reference, stream, cfg, generator)
    model.report = {
        "heldout_accuracy": accuracy(model, held),
        "chance": 0.25,
        "heldout": len(held),
        "train": len(train),
        "dropped": dropped,
        "final_loss": state.metrics.get("reward/loss"),
        "stopped": state.stopped,
    }
    return model.requires_grad_(False)


def _reward_step(state: TrainState, batch: Comparisons, cfg: RewardConfig, sync) -> dict[str, float]:
    """One gradient step on one batch of comparisons, a micro-batch at a time."""
    lr, model = linear_lr(cfg.lr, state.step, state.total), state.model
    by_length = (batch.query_mask.sum(1) + batch.response_mask.sum((1, 2))).argsort(stable=True)
    size = rows_at_once(model, len(batch), cfg.micro_batch) if sync is None else cfg.micro_batch
    parts, parameters = by_length.split(size), list(model.parameters())
    workers = workers_for(model, len(parts)) if sync is None else 1

    def learn(rows: torch.Tensor):
        part = batch.rows(rows)
        scores = comparison_scores(model, part)  # [b, 4]
        loss = four_way_loss(scores, part.best) * (len(part) / len(batch))
        check_finite(loss, "reward model's loss", state.step, cfg.lr)
        right = int((scores.argmax(1).cpu() == part.best).sum())
        return backward(loss, parameters, workers), float(loss.detach()), right

    loss_sum, right = 0.0, 0
    for gradients, loss, correct in side_by_side(learn, parts, workers):
        add_gradients(parameters, gradients)
        loss_sum, right = loss_sum + loss, right + correct
    sync_gradients(model, sync)
    adam_step(state.optimizer, lr, cfg.adam_eps, state.step + 1)
    return {"reward/loss": loss_sum, "reward/accuracy": right / len(batch), "reward/lr": lr}
