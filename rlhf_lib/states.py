"""Hidden states at the columns where something is read, and no more arithmetic than that takes.

A policy is read at its response's columns, a reward model at one column. The last layer is needed only there: of the
other columns it needs keys and values, but neither query, projection nor MLP. For GPT-2 we go through its layers
ourselves and leave that out (a seventh of an update at 64 + 24 tokens and 4 layers; the tests hold it against
transformers). Any other architecture goes through plain transformers calls and gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rlhf_lib.cpu import linear


def pads_to_the_right(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Real tokens first in each row, cut to the longest row: ids [batch, time] and lengths [batch].

    Causal attention never looks right, so right pads need no mask and no positions of their own.
    """
    lengths = mask.sum(1)
    order = (~mask).byte().argsort(dim=1, stable=True)[:, : int(lengths.max())]
    return ids.gather(1, order), lengths


def read_states(
    body: nn.Module,
    ids: torch.Tensor,
    wanted: torch.Tensor,
    positions: torch.Tensor | None = None,
    seen: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states at some columns: [batch, wanted, width].

    ids: [batch, time]; wanted: columns [batch, wanted]; positions: [batch, time], default 0, 1, ...; seen: bool
    [batch, time, time], whether the row's column may look at the column, default all columns up to its own.
    """
    # a layer that was given a forward of its own (`memory.checkpoint_activations`) has to be gone through
    if is_plain_gpt2(body.config) and not any("forward" in vars(block) for block in body.h):
        return gpt2_states(body, ids, wanted, positions, seen)
    more = {} if seen is None else {"attention_mask": seen[:, None], "position_ids": positions}
    return at_columns(body(input_ids=ids, use_cache=False, **more).last_hidden_state, wanted)


def at_columns(x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """x [batch, time, width] at columns [batch, wanted] -> [batch, wanted, width]."""
    return x.gather(1, wanted[:, :, None].expand(-1, -1, x.shape[2]))


# ---- GPT-2 ----------------------------------------------------------------------------------------------------


def is_plain_gpt2(config) -> bool:
    """True for GPT-2 without the optional variations that `gpt2_states` and `start_gpt2` leave out."""
    return (
        config.model_type == "gpt2"
        and config.scale_attn_weights
        and not (config.add_cross_attention or config.scale_attn_by_inverse_layer_idx or config.reorder_and_upcast_attn)
    )


def gpt2_states(
    body: nn.Module,
    ids: torch.Tensor,
    wanted: torch.Tensor,
    positions: torch.Tensor | None = None,
    seen: torch.Tensor | None = None,
    keep: Callable | None = None,
) -> torch.Tensor:
    """`read_states` for GPT-2. Dropout is left out: it is off wherever we read states (detail 13).

    `keep` is called with each layer's keys and values, [batch, heads, time, width/heads].
    """
    time, width = torch.arange(ids.shape[1], device=ids.device), body.embed_dim
    x = body.wte(ids) + body.wpe(time if positions is None else positions)  # [batch, time, width]
    again = getattr(body, "compute_again", False) and torch.is_grad_enabled()  # set by memory.checkpoint_activations
    for block in body.h[:-1]:
        if again:
            x = checkpoint(_block, block, x, seen, keep, use_reentrant=False)
        else:
            x = _block(block, x, seen, keep)
    block, normed = body.h[-1], body.h[-1].ln_1(x)
    weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias  # their columns are query, key, value
    q = linear(at_columns(normed, wanted), weight[:, :width], bias[:width])  # [batch, wanted, width]
    k, v = linear(normed, weight[:, width:], bias[width:]).split(width, 2)
    if seen is None:
        seen_there = time <= wanted[:, :, None]  # [batch, wanted, time]
    else:
        seen_there = seen.gather(1, wanted[:, :, None].expand(-1, -1, len(time)))
    return body.ln_f(_rest_of_block(block, at_columns(x, wanted), q, k, v, seen_there, keep))


def _block(block, x: torch.Tensor, seen, keep) -> torch.Tensor:
    """A whole block: [batch, time, width] -> the same."""
    q, k, v = block.attn.c_attn(block.ln_1(x)).split(x.shape[2], 2)
    return _rest_of_block(block, x, q, k, v, seen, keep)


def _rest_of_block(block, x, q, k, v, seen, keep) -> torch.Tensor:
    """A block from queries, keys and values on, for the columns of q and x: [batch, columns, width]."""
    q, k, v = (t.unflatten(2, (block.attn.num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # [b, heads, time, ...]
    if keep is not None:
        keep(k, v)
    mask = None if seen is None else seen[:, None]  # the same for all heads
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    x = x + block.attn.c_proj(y.transpose(1, 2).flatten(2))
    return x + block.mlp(block.ln_2(x))
