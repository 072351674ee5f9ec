"""A model split over the processes (FSDP): each rank keeps a piece of every matrix, of its gradient and Adam's moments.

Reading a split weight gathers the whole of it from all ranks; on the way back its gradient is averaged over them and
each keeps the piece that belongs to its own. So Adam sees pieces only, and the 16 bytes a parameter that training takes
(weight, gradient, two moments) become 16/ranks, and the gathered weights that a layer needs at the time; all of them
until the backward pass, unless activations are computed again (`memory.checkpoint_activations`).

Not torch's `fully_shard`, which gathers when a module is called: the kit reads GPT-2's weights without calling its
modules (`states`, `sampling`), ties heads to embeddings and copies bodies into reward models. This split hides in the
reading of a weight, so that no training has to know of it. Every rank must do the same passes in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import MethodType

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from rlhf_lib.policy import Policy

# names of torch 2.13 and, before it, of 2.11
gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
scatter_single = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class Piece(nn.Parameter):
    """This rank's part of a split weight, [ceil(numel / ranks)], the last one padded with zeros."""


class _Gather(torch.autograd.Function):
    """Pieces [n] -> the whole weight of `shape`; its gradient -> this rank's piece of the mean over ranks."""

    @staticmethod
    def forward(ctx, piece: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        whole = piece.new_empty(dist.get_world_size() * len(piece))
        gather_single(whole, piece.detach())
        return whole[: shape.numel()].view(shape)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        ranks = dist.get_world_size()
        each = math.ceil(gradient.numel() / ranks)
        piece = gradient.new_empty(each)
        scatter_single(piece, F.pad(gradient.flatten(), (0, each * ranks - gradient.numel())))
        return piece.div_(ranks), None


def shard(model: nn.Module) -> None:
    """Split the matrices of a model in place, tied ones as one; vectors (norms, biases) stay whole on every rank.

    The ranks must hold equal weights before.
    """
    rank, ranks, pieces = dist.get_rank(), dist.get_world_size(), {}
    for module in model.modules():
        whole = {name: p for name, p in module._parameters.items() if p is not None and p.dim() > 1}
        if not whole:
            continue
        module.shapes, module.gathered = {name: p.shape for name, p in whole.items()}, {}
        for name, p in whole.items():
            if p not in pieces:
                each = math.ceil(p.numel() / ranks)
                flat = F.pad(p.detach().flatten(), (0, each * ranks - p.numel()))
                pieces[p] = Piece(flat[rank * each : (rank + 1) * each].clone(), p.requires_grad)
            module._parameters[name] = pieces[p]
        module.__class__ = _split_class(type(module), tuple(whole))


@cache
def _split_class(plain: type, names: tuple[str, ...]) -> type:
    """A subclass of a module's class in which reading one of the weights `names` gathers it."""

    def read(name: str, module: nn.Module) -> torch.Tensor:
        if name in module.gathered:
            return module.gathered[name]
        return _Gather.apply(module._parameters[name], module.shapes[name])

    return type(f"Split{plain.__name__}", (plain,), {name: property(partial(read, name)) for name in names})


def is_split(model: nn.Module) -> bool:
    """Whether `shard` split some of a model's weights."""
    return bool(_split_modules(model))


def _split_modules(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if any(isinstance(p, Piece) for p in module._parameters.values())]


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Gather every weight once for all reads inside (no gradients): sampling reads each of them once a token."""
    found: dict[Piece, torch.Tensor] = {}  # tied weights once
    with torch.no_grad():
        for module in _split_modules(model):
            for name, shape in module.shapes.items():
                piece = module._parameters[name]
                if piece not in found:
                    found[piece] = _Gather.apply(piece, shape)
                module.gathered[name] = found[piece]
    try:
        yield
    finally:
        for module in _split_modules(model):
            module.gathered.clear()


def put_together(model: nn.Module) -> nn.Module:
    """Undo `shard` in place, on every rank, for saving; a model that was never split stays as it is."""
    with whole_weights(model):
        found = {}
        for module in _split_modules(model):
            for name, tensor in dict(module.gathered).items():
                piece = module._parameters[name]
                module._parameters[name] = found.setdefault(piece, nn.Parameter(tensor, piece.requires_grad))
            module.__class__ = type(module).__mro__[1]
            del module.shapes, module.gathered
    return model


def shard_policy(policy: Policy) -> Policy:
    """Split a policy's language model in place; while it samples, every rank holds the whole of it."""
    shard(policy.lm)
    policy.sample = MethodType(_sample_whole, policy)
    return policy


def _sample_whole(policy: Policy, *given, **named):
    """`Policy.sample` with weights gathered once a call."""
    with whole_weights(policy.lm):
        return Policy.sample(policy, *given, **named)
