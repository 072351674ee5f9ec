"""Fixed-length sampling with a key/value cache: the prompt is computed once, then one column a step.

Details 4 and 10: every response has exactly `length` tokens, end-of-text is a token like any other, and the
logits are divided by the temperature, in sampling as in scoring. Our own loop instead of `generate`: no generation
config can interfere, log-probabilities and values come from the same pass, and one uniform number a token makes the
samples independent of how the batch was split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F

from rlhf_lib.cpu import for_few_rows
from rlhf_lib.states import gpt2_states, is_plain_gpt2

Step = Callable[[torch.Tensor], torch.Tensor]


class Samples(NamedTuple):
    """Responses [batch, length] int64; log-probabilities (nats, at the temperature) and values of that shape."""

    responses: torch.Tensor
    logprobs: torch.Tensor
    values: torch.Tensor


def position_ids(mask: torch.Tensor) -> torch.Tensor:
    """Positions that count real tokens only (detail 3): mask [batch, time] -> [batch, time], pads get 0."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def trim_left(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Drop the columns that are padding in every row; no result changes."""
    first = int(mask.any(0).long().argmax())
    return ids[:, first:], mask[:, first:]


def body_inputs(ids: torch.Tensor, mask: torch.Tensor) -> dict:
    """Keyword arguments for a transformers body; without pads neither mask nor positions, which is faster."""
    if mask.all():
        return {"input_ids": ids}
    return {"input_ids": ids, "attention_mask": mask.long(), "position_ids": position_ids(mask)}


def seen_of_prompt(mask: torch.Tensor) -> torch.Tensor:
    """What left-padded columns may look at, [batch, time, time] bool: real ones up to their own.

    Pads see themselves, so that no softmax is over nothing and gives NaN; nothing sees them.
    """
    here = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, None, :].bool() & here.tril() | here.tril() & here.triu()


def pick(logprobs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw one token a row by inverting the distribution function.

    logprobs: [batch, vocab]; uniform: [batch] float64 in [0, 1). Returns [batch] int64.
    """
    cdf = logprobs.exp().cumsum(1, dtype=torch.float64)  # [batch, vocab]; float64: rare tokens keep their share
    return torch.searchsorted(cdf, uniform[:, None] * cdf[:, -1:], right=True).squeeze(1).clamp_(max=cdf.shape[1] - 1)


def scaled_logits(head: torch.nn.Module, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits over the temperature (detail 10): hidden [..., width] -> [..., vocab].

    Dividing the states is the same, and there are far fewer of them than logits; a head with a bias forbids it.
    """
    if getattr(head, "bias", None) is None:
        return head(hidden / temperature).float()
    return head(hidden).float() / temperature


@torch.no_grad()
def sample(
    lm,
    ids: torch.Tensor,
    mask: torch.Tensor,
    length: int,
    temperature: float,
    uniform: torch.Tensor,
    value_head: torch.nn.Module | None = None,
    repeats: int = 1,
) -> Samples:
    """Continue left-padded prompts by `length` tokens each, every prompt `repeats` times.

    ids, mask: [prompts, prompt]; uniform: [batch, length] float64, the randomness, with batch = prompts * repeats: the
    samples of one prompt stand together, and the prompt is computed once for all of them. Values are zeros without a
    value head. A value and a log-probability of token t are read at the position before it (section 3.3).
    """
    ids, mask = trim_left(ids, mask)
    head = lm.get_output_embeddings()
    start = start_gpt2 if is_plain_gpt2(lm.config) else start_any
    hidden, step = start(lm, ids, mask, length, repeats)  # [batch, width]
    responses = torch.empty(len(hidden), length, dtype=torch.long, device=ids.device)
    logprobs = torch.empty(len(hidden), length, device=ids.device)
    values = torch.zeros(len(hidden), length, device=ids.device)
    for t in range(length):
        logp = F.log_softmax(scaled_logits(head, hidden, temperature), dim=-1)  # [batch, vocab]
        token = pick(logp, uniform[:, t])
        responses[:, t] = token
        logprobs[:, t] = logp.gather(1, token[:, None]).squeeze(1)
        if value_head is not None:
            values[:, t] = value_head(hidden.to(value_head.weight.dtype)).squeeze(-1)
        if t + 1 < length:
            hidden = step(token)
    return Samples(responses, logprobs, values)


def start_any(lm, ids: torch.Tensor, mask: torch.Tensor, length: int, repeats: int = 1) -> tuple[torch.Tensor, Step]:
    """Prompt pass and step function through plain transformers calls, for any architecture."""
    out = lm.base_model(**body_inputs(ids, mask), use_cache=True)
    if repeats > 1:
        out.past_key_values.batch_repeat_interleave(repeats)
        mask = mask.repeat_interleave(repeats, 0)
    padded = not bool(mask.all())
    state = {"cache": out.past_key_values, "mask": mask.long(), "next": mask.sum(1)}

    def step(token: torch.Tensor) -> torch.Tensor:
        extra = {}
        if padded:
            state["mask"] = F.pad(state["mask"], (0, 1), value=1)
            extra = {"attention_mask": state["mask"], "position_ids": state["next"][:, None]}
        out = lm.base_model(input_ids=token[:, None], past_key_values=state["cache"], use_cache=True, **extra)
        state["cache"], state["next"] = out.past_key_values, state["next"] + 1
        return out.last_hidden_state[:, -1]

    return out.last_hidden_state[:, -1].repeat_interleave(repeats, 0), step


def start_gpt2(lm, ids: torch.Tensor, mask: torch.Tensor, length: int, repeats: int = 1) -> tuple[torch.Tensor, Step]:
    """The same for GPT-2, with a cache allocated once: a tiny model would spend its time in Python otherwise.

    Checked token for token against `start_any` by the tests.
    """
    body, heads = lm.transformer, lm.config.n_head
    batch, prompt = len(ids) * repeats, ids.shape[1]
    keys, values = [], []  # a tensor [batch, heads, prompt + length, width/heads] a layer

    def keep(*pair: torch.Tensor) -> None:
        """A layer's keys and values of the prompt, each [prompts, heads, prompt, width/heads], into the cache."""
        for made, kept in zip(pair, (keys, values), strict=True):
            room = made.new_empty(len(ids), repeats, heads, prompt + length, made.shape[-1])
            room[:, :, :, :prompt] = made[:, None]
            kept.append(room.flatten(0, 1))

    padded = not bool(mask.all())
    last = torch.full((len(ids), 1), prompt - 1, device=ids.device)
    hidden = gpt2_states(body, ids, last, position_ids(mask), seen_of_prompt(mask) if padded else None, keep)
    mask = mask.repeat_interleave(repeats, 0)  # [batch, prompt]
    bias = None  # [batch, 1, 1, prompt + length]: -inf hides pads
    if padded:
        bias = torch.zeros(batch, 1, 1, prompt + length, dtype=keys[0].dtype, device=ids.device)
        bias[:, 0, 0, :prompt].masked_fill_(~mask.bool(), float("-inf"))
    at = {"column": prompt, "position": mask.sum(1)}
    layers = [
        [block, *map(for_few_rows, (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj))]
        for block in body.h
    ]

    def attend(qkv: torch.Tensor, k_all: torch.Tensor, v_all: torch.Tensor) -> torch.Tensor:
        now = at["column"]
        q, k, v = qkv.contiguous().view(batch, 3, heads, 1, -1).unbind(1)  # [batch, heads, 1, width/heads]
        k_all[:, :, now : now + 1], v_all[:, :, now : now + 1] = k, v
        seen = None if bias is None else bias[..., : now + 1]
        y = F.scaled_dot_product_attention(q, k_all[:, :, : now + 1], v_all[:, :, : now + 1], attn_mask=seen)
        return y.reshape(batch, -1)  # [batch, width]

    def step(token: torch.Tensor) -> torch.Tensor:
        x = body.wte(token) + body.wpe(at["position"])  # [batch, width]
        for (block, qkv, project, widen, narrow), k_all, v_all in zip(layers, keys, values, strict=True):
            x = x + project(attend(qkv(block.ln_1(x)), k_all, v_all))
            x = x + narrow(block.mlp.act(widen(block.ln_2(x))))
        at["column"], at["position"] = at["column"] + 1, at["position"] + 1
        return body.ln_f(x)

    return hidden[:, 0].repeat_interleave(repeats, 0), step
