"""A second opinion on fluency: `python -m rlhf_lib likelihood SAMPLES --model FOLDER`.

How likely are a model's samples under *another* language model, one that no training of theirs was held to? A policy
that has learned to please its reward model by odd text shows here, though its KL from its own base be small.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from rlhf_lib import claims
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


def measured(samples: pd.DataFrame, name_or_folder: str) -> pd.DataFrame:
    """The samples with `likely`: their `log_likelihood` under another model, nats a token."""
    lm, tokenizer = load_lm(name_or_folder)
    likely = log_likelihood(lm, tokenizer, list(samples["query"]), list(summaries(samples)))
    return samples.assign(likely=pd.Series(likely, index=samples.index, dtype=float))


def by_model(likely: pd.DataFrame) -> pd.DataFrame:
    """`task, model, median, n` of `measured` samples."""
    return likely.groupby(["task", "model"])["likely"].agg(median="median", n="count").reset_index()


def gap(likely: pd.DataFrame, draws: int = 1000) -> dict:
    """Median of the fine-tuned model's samples minus that of the zero-shot model's, as a measure for the claims.

    With a 95% interval of a bootstrap over samples. Raises KitError where one of the two models is not there.
    """
    mine, base = (
        likely.loc[likely["model"] == model, "likely"].dropna().to_numpy() for model in ("fine-tuned", "zero-shot")
    )
    if not len(mine) or not len(base):
        raise KitError("A gap needs samples of the models 'fine-tuned' and 'zero-shot'; these have not both.")
    random = np.random.default_rng(0)
    drawn = [np.median(x[random.integers(len(x), size=(draws, len(x)))], axis=1) for x in (mine, base)]  # [draws] each
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    value = float(np.median(mine) - np.median(base))
    return {"value": value, "low": float(low), "high": float(high), "n": len(mine), "seeds": 1}


def record(found: dict, samples: Path, where: Path) -> None:
    """Keep the gap, and beside it the measures on real prose of the run that the samples stand in (RUN/samples/)."""
    runs_own = {
        name: vars(measure)
        for name, measure in claims.load_measures(samples.parent.parent / "figures").items()
        if name.startswith("real_prose.")
    }
    rows = runs_own | {"real_prose.sentiment.loglik_gap": found}
    kept = {name: {k: v for k, v in row.items() if v is not None} for name, row in rows.items()}
    claims.record_measures(where.parent, where.stem, kept)


def main(argv: list[str]) -> int:
    """`likelihood`: the median log-likelihood of samples under another model, nats a token."""
    parser = argparse.ArgumentParser(prog="python -m rlhf_lib likelihood", description=main.__doc__)
    parser.add_argument("samples", type=Path, help=f"rows task, model, query, response ({', '.join(FORMATS)})")
    parser.add_argument("--model", required=True, help="a Hugging Face folder or hub name")
    parser.add_argument(
        "--record", type=Path, metavar="FILE",
        help="also write the gap between fine-tuned and zero-shot, and the run's measures on real prose, for `check`",
    )  # fmt: skip
    options = parser.parse_args(argv)
    likely = measured(read_samples(options.samples), options.model)
    print(f"Median log-likelihood of a sample under {options.model}, nats a token:")
    print(by_model(likely).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    if options.record:
        record(gap(likely), options.samples, options.record)
        print(f"Written to {options.record}.")
    return 0
