"""Two things that make a small model faster on a CPU and change no result."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import nn
from torch.nn import functional as F

SLOPE, CUBIC = 1.5957691216057308, 0.044715  # 2 sqrt(2/pi), and Hendrycks and Gimpel's fit


def keep_freed_memory() -> None:
    """Let the C library hand freed tensors out again instead of returning them to the system (Linux with glibc).

    Otherwise the kernel maps and zeroes a large tensor's pages each time it is made: 4% to 10% of an update. In return
    the process keeps its largest size until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # names in malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)


class TanhGELU(nn.Module):
    """GPT-2's activation: 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), any shape.

    On a CPU as the same x * sigmoid(2u), at half the time of torch's kernel, whose tanh is slow.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32:
            return _SigmoidGELU.apply(x)
        return F.gelu(x, approximate="tanh")


class _SigmoidGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        gate = torch.addcmul(x.new_tensor(SLOPE), x, x, value=SLOPE * CUBIC).mul_(x).sigmoid_()  # sigmoid(2u)
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        x, gate = ctx.saved_tensors
        slope = torch.addcmul(x.new_tensor(SLOPE), x, x, value=3 * SLOPE * CUBIC).mul_(x)  # x d(2u)/dx
        return torch.addcmul(gate, slope, torch.addcmul(gate, gate, gate, value=-1)).mul_(gradient)
