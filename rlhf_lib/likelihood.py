"""A second opinion on fluency: `python -m rlhf_lib likelihood SAMPLES --model FOLDER`.

How likely are a model's samples under *another* language model, one that no training of theirs was held to? A policy
that has learned to please its reward model by odd text shows here, though its KL from its own base be small.
"""

from __future__ import annotations

import argparse

import pandas as pd
import torch
from torch.nn import functional as F

from rlhf_lib.errors import KitError
from rlhf_lib.policy import load_lm
from rlhf_lib.samples import FORMATS, read_samples, summaries

BATCH = 64  # samples a forward pass


@torch.no_grad()
def log_likelihood(lm, tokenizer, queries: list[str], responses: list[str]) -> list[float | None]:
    """Mean log-probability of a response's tokens after its query, nats a token at temperature 1; None if it has none.

    A query that is too long for the model loses its beginning. Raises KitError for a response that leaves no room.
    """
    room, found = getattr(lm.config, "max_position_embeddings", None) or 10**9, []
    for start in range(0, len(queries), BATCH):
        pairs = zip(queries[start : start + BATCH], responses[start : start + BATCH], strict=True)
        found += _batch(lm, [_encoded(tokenizer, query, response, room) for query, response in pairs])
    return found


def _encoded(tokenizer, query: str, response: str, room: int) -> tuple[list[int], list[int]]:
    """Token ids of a query's end, one at least, and of its response; both together fit the room."""
    asked, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (query, response))
    if len(said) >= room:
        raise KitError(f"A response of {len(said)} tokens does not fit the model's {room} positions; use another.")
    return (asked or [tokenizer.eos_token_id or 0])[-(room - len(said)) :], said


def _batch(lm, pairs: list[tuple[list[int], list[int]]]) -> list[float | None]:
    longest = max(len(asked) + len(said) for asked, said in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)  # [B, T], padded to the right
    wanted = torch.zeros(len(pairs), longest, dtype=torch.bool)  # which tokens are the response's
    for row, (asked, said) in enumerate(pairs):
        ids[row, : len(asked) + len(said)] = torch.tensor(asked + said)
        wanted[row, len(asked) : len(asked) + len(said)] = True
    ids, wanted = ids.to(lm.device), wanted.to(lm.device)
    filled = torch.arange(longest, device=lm.device) < wanted.int().cumsum(1).argmax(1, keepdim=True) + 1
    logits = lm(input_ids=ids, attention_mask=filled.long()).logits[:, :-1].float()  # [B, T-1, V]
    each = -F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")  # [B, T-1]
    total, count = (each * wanted[:, 1:]).sum(1).tolist(), wanted.sum(1).tolist()
    return [t / c if c else None for t, c in zip(total, count, strict=True)]


def by_model(samples: pd.DataFrame, name_or_folder: str) -> pd.DataFrame:
    """`task, model, median, n`: the median of `log_likelihood` under another model, by model of samples."""
    lm, tokenizer = load_lm(name_or_folder)
    likely = log_likelihood(lm, tokenizer, list(samples["query"]), list(summaries(samples)))
    groups = samples.assign(likely=pd.Series(likely, index=samples.index, dtype=float)).groupby(["task", "model"])
    return groups["likely"].agg(median="median", n="count").reset_index()


def main(argv: list[str]) -> int:
    """`likelihood`: the median log-likelihood of samples under another model, nats a token."""
    parser = argparse.ArgumentParser(prog="python -m rlhf_lib likelihood", description=main.__doc__)
    parser.add_argument("samples", help=f"rows task, model, query, response ({', '.join(FORMATS)})")
    parser.add_argument("--model", required=True, help="a Hugging Face folder or hub name")
    options = parser.parse_args(argv)
    table = by_model(read_samples(options.samples), options.model)
    print(f"Median log-likelihood of a sample under {options.model}, nats a token:")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return 0
