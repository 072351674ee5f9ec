"""KL divergence between two language models: three estimators from samples, and the exact value where one can count.

Sampled from π, with the ratio x = ρ/π of a response (or token), each estimator's mean is compared with KL(π‖ρ):
k1 = -ln x, unbiased, of either sign; k2 = ½(ln x)², never negative, biased; k3 = x - 1 - ln x, unbiased, never
negative. (The names are Schulman's; PPO here uses k1, original-system section 3.3.)

One equation explains every negative KL. Whatever was really sampled from, call it q: the mean of ln a - ln b under q is
KL(q‖b) - KL(q‖a). It is a KL, and cannot be negative, only if a = q: the model that is scored must be the model that
sampled. Top-k, a forgotten temperature and wrong padding each break just that.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch.nn import functional as F

from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy
from rlhf_lib.sampling import body_inputs

MOST_SEQUENCES = 200_000  # one token of the largest vocabularies in use, a few of a small one


class Estimates(NamedTuple):
    """k1, k2, k3 of each sample, nats; all of one shape."""

    k1: torch.Tensor
    k2: torch.Tensor
    k3: torch.Tensor


def estimators(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> Estimates:
    """The three estimates of KL(π‖ρ) for samples of π, from both log-probabilities (nats) of the same samples.

    Any shape; pass sums over tokens to get those of whole responses. For KL(ρ‖π) sample from ρ and swap the arguments.
    """
    log_ratio = ref_logprobs - logprobs  # ln x
    return Estimates(-log_ratio, 0.5 * log_ratio**2, log_ratio.exp() - 1.0 - log_ratio)


def exact_kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p‖q), nats, from log-probabilities [..., outcomes] of all outcomes; one number a row."""
    return mean_log_ratio(p, p, q)


def mean_log_ratio(sampled: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The exact mean of ln a - ln b over samples of `sampled`: log-probabilities [..., outcomes], nats.

    Equal to KL(sampled‖b) - KL(sampled‖a), so never negative if a is what was sampled. Outcomes of probability 0
    count nothing.
    """
    probability = sampled.exp()
    return torch.where(probability > 0, probability * (a - b), torch.zeros_like(probability)).sum(-1)


def keep_top_k(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Logits [..., vocab] with all but the k largest at -inf, as top-k sampling does."""
    return torch.where(logits >= logits.topk(k).values[..., -1:], logits, float("-inf"))


@torch.no_grad()
def sequence_logprobs(
    policy: Policy,
    ids: torch.Tensor,
    mask: torch.Tensor,
    length: int,
    temperature: float,
    top_k: int | None = None,
) -> torch.Tensor:
    """Log-probabilities (nats) of every response of `length` tokens after one prompt: [vocab ** length].

    ids, mask: [1, prompt]; the order is that of `all_sequences`. top_k: as if sampled with it. Raises KitError where
    there are too many responses to count.
    """
    vocab = policy.lm.get_input_embeddings().weight.shape[0]
    if vocab**length > MOST_SEQUENCES:
        raise KitError(f"{vocab} tokens make {vocab**length} responses of {length}: count a smaller vocabulary.")
    ids, mask = ids.to(policy.device), mask.to(policy.device)
    # all but the last token, which nothing is read after: [S, length - 1]
    begun = all_sequences(vocab, length - 1).to(policy.device)
    full = torch.cat([ids.expand(len(begun), -1), begun], 1)
    seen = torch.cat([mask.bool().expand(len(begun), -1), torch.ones_like(begun, dtype=torch.bool)], 1)
    states = policy.lm.base_model(**body_inputs(full, seen), use_cache=False).last_hidden_state
    logits = policy.lm.get_output_embeddings()(states[:, ids.shape[1] - 1 :]).double() / temperature
    logits = logits if top_k is None else keep_top_k(logits, top_k)  # [S, length, vocab]
    logp = F.log_softmax(logits, -1)
    before = logp[:, :-1].gather(2, begun[..., None]).squeeze(2).sum(1)  # [S]
    return (before[:, None] + logp[:, -1]).flatten().cpu()


def all_sequences(vocab: int, length: int) -> torch.Tensor:
    """Every sequence of tokens, [vocab ** length, length] int64, the last token counting fastest."""
    return torch.tensor(list(itertools.product(range(vocab), repeat=length)), dtype=torch.long)
