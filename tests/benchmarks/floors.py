"""The least time that each phase can take: operations over the measured matrix rate, bytes over the bandwidth.

Operations are those that the numbers asked for cannot do without: the last layer only where it is read, causal
attention only over what is seen, the vocabulary only at response columns, the backward pass as two forward ones.
"""

from __future__ import annotations

import torch
from work import COMPARISONS, EPOCHS, MODELS, QUERY, VOCAB, timed


def forward_operations(size: str, columns: int, read: int, vocabulary: int, past: int = 0) -> float:
    """Of one row: `columns` new columns after `past` cached ones, states read at `read` of them and projected."""
    layers, width, _ = MODELS[size]
    seen = sum(past + column + 1 for column in range(columns)) / columns  # on average
    whole = columns * (24 * width**2 + 4 * width * seen)  # a layer: 2 operations a weight, scores and sums
    last = columns * 4 * width**2 + read * (20 * width**2 + 4 * width * (past + columns - (read - 1) / 2))
    return (layers - 1) * whole + last + read * 2 * width * vocabulary


def least_seconds(size: str, batch: int, length: int, rate: float, bandwidth: float) -> dict[str, float]:
    """Of each phase of a PPO update of `batch` episodes, and of all together.

    rate: operations a second; bandwidth: bytes a second, which can bind in decoding alone.
    """
    scored = batch * forward_operations(size, QUERY + length - 1, length, VOCAB) / rate
    each = {
        "sample": sampling_seconds(size, batch, length, rate, bandwidth),
        "reference": scored,
        "score": batch * forward_operations(size, QUERY + length, 1, 0) / rate,
        "epochs": 3 * EPOCHS * scored,
    }
    return each | {"all": sum(each.values())}


def sampling_seconds(size: str, batch: int, length: int, rate: float, bandwidth: float, each: int = 1) -> float:
    """Of `batch` responses, `each` to a query that is read once."""
    decoding = 0.0
    for step in range(length - 1):
        arithmetic = batch * forward_operations(size, 1, 1, VOCAB, QUERY + step) / rate
        decoding += max(arithmetic, decode_bytes(size, batch, step) / bandwidth)
    return batch // each * forward_operations(size, QUERY, 1, VOCAB) / rate + decoding


def fit_operations(size: str, length: int) -> float:
    """Of one gradient step on COMPARISONS four-way labels, each query read once."""
    query = forward_operations(size, QUERY, 0, 0)  # keys and values of the last layer, no state read
    return 3 * COMPARISONS * (query + 4 * forward_operations(size, length, 1, 0, QUERY))


def decode_bytes(size: str, batch: int, step: int) -> float:
    """Read or written by one decoding step: weights, keys and values so far, logits."""
    layers, width, _ = MODELS[size]
    cache = 2 * layers * width * (QUERY + step + 1)
    return 4 * (12 * layers * width**2 + width * VOCAB + batch * (cache + VOCAB))


def best(work, repeat: int = 60) -> float:
    """The shortest of some runs, seconds."""
    work()
    return min(timed(work) for _ in range(repeat))


def matrix_rate(size: str, rows: int = 1392) -> dict[str, float]:
    """Float32 operations a second of an MLP's product at this width, by torch (MKL) and, where it is there, oneDNN."""
    width = MODELS[size][1]
    x, weight = torch.randn(rows, width), torch.randn(4 * width, width)
    ways = {"torch": lambda: x @ weight.t()}
    if torch.backends.mkldnn.is_available():
        ways["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return {name: 2 * rows * 4 * width**2 / best(work) for name, work in ways.items()}


def bandwidth(count: float) -> float:
    """Bytes a second of reading an array of `count` bytes, again and again."""
    array = torch.ones(max(1, int(count) // 4))
    return 4 * len(array) / best(array.sum)
