"""What makes a small model faster on a CPU and changes no result beyond rounding."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import GELUTanh, NewGELUActivation
from transformers.pytorch_utils import Conv1D

LARGE = 100_000  # weights of a layer from which `for_few_rows` gains
SLOPE, CUBIC = 1.5957691216057308, 0.044715  # 2 sqrt(2/pi), and Hendrycks and Gimpel's fit


def keep_freed_memory() -> None:
    """Let the C library hand freed tensors out again instead of returning them to the system (Linux with glibc).

    Otherwise the kernel maps and zeroes a large tensor's pages each time it is made: 4% to 10% of an update. In return
    the process keeps its largest size until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # names in malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)
        mallopt(arena_max, 1)  # a thread's own arena would be given back whenever 64 MiB of it are free


class TanhGELU(nn.Module):
    """GPT-2's activation: 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), any shape.

    On a CPU as the same x * sigmoid(2u), at half the time of torch's kernel, whose tanh is slow.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32:
            return _SigmoidGELU.apply(x) if torch.is_grad_enabled() else _gate(x).mul_(x)
        return F.gelu(x, approximate="tanh")


def _gate(x: torch.Tensor) -> torch.Tensor:
    """sigmoid(2u)."""
    return torch.addcmul(x.new_tensor(SLOPE), x, x, value=SLOPE * CUBIC).mul_(x).sigmoid_()


class _SigmoidGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        gate = _gate(x)
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        x, gate = ctx.saved_tensors
        slope = torch.addcmul(x.new_tensor(SLOPE), x, x, value=3 * SLOPE * CUBIC).mul_(x)  # x d(2u)/dx
        return torch.addcmul(gate, slope, torch.addcmul(gate, gate, gate, value=-1)).mul_(gradient)


# ---- matrix products ------------------------------------------------------------------------------------------


HAS_ONEDNN = torch.backends.mkldnn.is_available() and "AVX512" in torch.backends.cpu.get_cpu_capability()


def linear(x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x @ matrix + bias: x [..., in], matrix [in, out], bias [out] or None; gives [..., out].

    torch gives float32 products to MKL, which leaves AVX-512 unused on AMD's processors; oneDNN, to which torch gives
    bfloat16, makes the same float32 products in less than half the time there. Attention stays with torch: its
    products are too small to gain.
    """
    by_onednn = HAS_ONEDNN and _is_float32_on_cpu(x)
    return _OneDNNLinear.apply(x, matrix, bias) if by_onednn else F.linear(x, matrix.t(), bias)


def _is_float32_on_cpu(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, matrix, bias):
        ctx.save_for_backward(x, matrix)
        return _product(x, matrix, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, matrix = ctx.saved_tensors
        flat_x, flat = x.flatten(0, -2), gradient.flatten(0, -2)  # [rows, in], [rows, out]
        of_x = _product(gradient, matrix.t()) if ctx.needs_input_grad[0] else None
        of_matrix = None
        if ctx.needs_input_grad[1]:  # in the matrix's own order in memory, or it would be copied
            of_matrix = _product(flat_x.t(), flat) if matrix.is_contiguous() else _product(flat.t(), flat_x).t()
        return of_x, of_matrix, flat.sum(0) if ctx.needs_input_grad[2] else None


def _product(x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x @ matrix + bias by oneDNN, which is slow without end where neither a matrix nor its transpose is contiguous."""
    x, matrix = (t if t.is_contiguous() or t.mT.is_contiguous() else t.contiguous() for t in (x, matrix))
    return torch.ops.mkldnn._linear_pointwise(x, matrix.t(), bias, "none", [], "")


class QuickConv1D(Conv1D):
    """GPT-2's linear layer, weight [in, out], through `linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias)


def for_few_rows(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """GPT-2's linear layer as one decoding step after another uses it: [rows, in] -> [rows, out], some dozens of rows.

    MKL makes a third more of these products in a second as (W' x')' with W' in order: worth a copy of a large layer's
    weights. Any other layer comes back as it is.
    """
    by_mkl = torch.backends.mkl.is_available() and not HAS_ONEDNN and _is_float32_on_cpu(layer.weight)
    if not by_mkl or type(layer) is not QuickConv1D or layer.weight.numel() < LARGE:
        return layer
    turned = layer.weight.t().contiguous()  # [out, in]
    return lambda x: torch.addmm(layer.bias[:, None], turned, x.t()).t()


class QuickLinear(nn.Linear):
    """torch's linear layer, weight [out, in], through `linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight.t(), self.bias)


def quicken(model: nn.Module) -> None:
    """Give a model's linear layers and GPT-2's activation their quick forms, in place; weights and config stay."""
    for module in model.modules():
        if isinstance(getattr(module, "act", None), NewGELUActivation | GELUTanh):
            module.act = TanhGELU()
        elif type(module) in QUICK:
            module.__class__ = QUICK[type(module)]  # the same object: tied weights and hooks stay


QUICK = {Conv1D: QuickConv1D, nn.Linear: QuickLinear}
