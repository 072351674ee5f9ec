"""Micro-batches side by side on a CPU's cores.

The layers of a small model are too short to be shared out: two cores on one layer after another need 0.6 of one core's
time, two micro-batches at once hardly more than half. Results do not depend on which is ready first.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar

import torch
from torch import nn

SMALL = 30_000_000  # parameters: a larger model's layers keep all cores busy, and its micro-batches fill the memory
Part, Result = TypeVar("Part"), TypeVar("Result")


def workers_for(model: nn.Module, parts: int) -> int:
    """How many of so many micro-batches go side by side: a divisor of both their number and the cores'; 1 on a GPU."""
    parameters = list(model.parameters())
    if parameters[0].device.type != "cpu" or sum(p.numel() for p in parameters) > SMALL:
        return 1
    return math.gcd(torch.get_num_threads(), parts)


def rows_at_once(model: nn.Module, rows: int, most: int) -> int:
    """Rows of a micro-batch: ``most``, or fewer where that gives every core its share."""
    cores = workers_for(model, torch.get_num_threads())
    return most if cores == 1 else min(most, math.ceil(rows / cores))


def side_by_side(work: Callable[[Part], Result], parts: Sequence[Part], workers: int) -> Iterator[Result]:
    """work(part) for each part, in their order, by so many workers, each with its share of the cores.

    A part's error is raised when its turn comes. No part is begun before all but `workers` of those ahead of it are
    taken, so that few results are kept.
    """
    if workers == 1:
        yield from map(work, parts)
        return
    threads, begun = torch.get_num_threads(), deque()
    pool, work = _pool(workers, threads // workers), _in_mode(work, torch.is_grad_enabled())
    torch.set_num_threads(threads // workers)  # MKL's number is one for the whole process
    try:
        for part in parts:
            begun.append(pool.submit(work, part))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        wait(begun)  # after an error: nothing goes on behind it
        torch.set_num_threads(threads)


@lru_cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Kept for the next time; OpenMP's number of threads is each worker's own."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _in_mode(work: Callable[[Part], Result], gradients: bool) -> Callable[[Part], Result]:
    """`work` with gradients on or off as where it was asked for: the switch is each thread's own."""

    def wrapped(part: Part) -> Result:
        with torch.set_grad_enabled(gradients):
            return work(part)

    return wrapped


def backward(loss: torch.Tensor, parameters: Sequence[nn.Parameter], workers: int) -> tuple[torch.Tensor | None, ...]:
    """Add a loss's gradients to the parameters'; where others work beside it, give them back for `add_gradients`."""
    if workers == 1:
        loss.backward()
        return ()
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def add_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor | None]) -> None:
    """Add what `backward` gave back; the caller's order counts, because sums of floats depend on it."""
    for parameter, gradient in zip(parameters, gradients, strict=False):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
