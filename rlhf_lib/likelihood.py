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
from scipy.stats import bootstrap

from rlhf_lib import claims
from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.samples import FORMATS, read_samples, summaries
from rlhf_lib.tasks import left_pad, right_pad


@torch.no_grad()
def log_likelihood(lm, tokenizer, queries: list[str], responses: list[str]) -> list[float | None]:
    """Mean log-probability of a response's tokens after its query, nats a token at temperature 1; None if it has none.

    Queries lose their beginning where the model has no room for them and the longest response. Raises KitError for a
    response that leaves no room at all.
    """
    asked, said = ([tokenizer(text, add_special_tokens=False)["input_ids"] for text in x] for x in (queries, responses))
    longest = max(1, *map(len, said))
    room = (getattr(lm.config, "max_position_embeddings", None) or 10**9) - longest
    if room < 1:
        raise KitError(f"A response of {longest} tokens leaves this model no room for its query; use another.")
    start = [tokenizer.eos_token_id or 0]  # before the response to an empty query
    ids, mask = left_pad([(a or start)[-room:] for a in asked], min(room, max(1, *map(len, asked))), 0)  # [n, Q]
    tokens, real = right_pad(said, longest, 0)  # [n, longest]
    each = Policy(lm).logprobs(ids, mask, tokens, 1.0)  # [n, longest]
    total, count = (each * real).sum(1).tolist(), real.sum(1).tolist()
    return [t / c if c else None for t, c in zip(total, count, strict=True)]


def measured(samples: pd.DataFrame, name_or_folder: str) -> pd.DataFrame:
    """The samples with `likely`: their `log_likelihood` under another model, nats a token."""
    lm, tokenizer = load_lm(name_or_folder)
    likely = log_likelihood(lm, tokenizer, list(samples["query"]), list(summaries(samples)))
    return samples.assign(likely=pd.Series(likely, index=samples.index, dtype=float))


def by_model(likely: pd.DataFrame) -> pd.DataFrame:
    """`task, model, median, n` of `measured` samples."""
    return likely.groupby(["task", "model"])["likely"].agg(median="median", n="count").reset_index()


def gap(likely: pd.DataFrame) -> dict:
    """Median of the fine-tuned model's samples minus that of the zero-shot model's, as a measure for the claims.

    With a 95% interval of a bootstrap over samples. Raises KitError where one of the two models is not there.
    """
    groups = [likely.loc[likely["model"] == model, "likely"].dropna() for model in ("fine-tuned", "zero-shot")]
    if not all(map(len, groups)):
        raise KitError("A gap needs samples of the models 'fine-tuned' and 'zero-shot'; these have not both.")
    both = [group.to_numpy(float) for group in groups]
    interval = bootstrap(both, median_gap, n_resamples=1000, method="percentile", rng=0).confidence_interval
    seeds = max(1, likely["seed"].nunique())
    return {"value": float(median_gap(*both)), "low": float(interval.low), "high": float(interval.high),
            "n": len(both[0]), "seeds": seeds}  # fmt: skip


def median_gap(mine: np.ndarray, base: np.ndarray, axis: int = -1) -> np.ndarray:
    """Difference of two medians along an axis."""
    return np.median(mine, axis=axis) - np.median(base, axis=axis)


def record(likely: pd.DataFrame, figures: Path, where: Path) -> None:
    """Keep the gap of a run on real prose for `check`, and beside it what the run itself measured.

    figures: the run's folder of figures. Raises KitError for a run that was not on real prose, or several tasks.
    """
    prefix, tasks = "real_prose.", list(likely["task"].unique())
    rows = {name: vars(m) for name, m in claims.load_measures(figures).items() if name.startswith(prefix)}
    if not rows or len(tasks) != 1:
        raise KitError(f"{figures} has no measures of one task on real prose: give samples of a run with CORPUS=.")
    rows[f"{prefix}{tasks[0]}.loglik_gap"] = gap(likely)
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
    samples = read_samples(options.samples)
    if "shown" in samples:  # a style run keeps each prompt twice: as sampled, and as labelers see it
        samples = samples[~samples["shown"].astype(bool)]
    likely = measured(samples, options.model)
    print(f"Median log-likelihood of a sample under {options.model}, nats a token:")
    print(by_model(likely).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    if options.record:
        record(likely, options.samples.parent.parent / "figures", options.record)
        print(f"Written to {options.record}.")
    return 0
