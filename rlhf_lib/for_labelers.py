"""Samples to be labeled by people: four of one model to each query, as the labeling page and notebook 02 show them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from rlhf_lib import collect
from rlhf_lib.errors import KitError
from rlhf_lib.labels.comparisons import SAMPLES
from rlhf_lib.style import StyleRun

SPLIT, SEED = "train", 2  # the queries that labels are collected on; the sweeps' own are seeds of 1000 and above


def sample_for_labelers(run: StyleRun, queries: int) -> pd.DataFrame:
    """Four samples a query that end in time, cut as labelers see them: `task, split, model, query_id, query, response`.

    Queries for which four such samples do not come are left out. The model is the run's base ("zero-shot").
    """
    asked = run.queries(queries, SPLIT, SEED)
    fours = collect.comparisons(run.base[0], asked, run.task, SEED)
    rows = [(number, four["query"], text) for number, four in enumerate(fours) for text in four["responses"]]
    frame = pd.DataFrame(rows, columns=["query_id", "query", "response"])
    same = {"task": run.task_name, "split": SPLIT, "model": "zero-shot", "seed": SEED}
    return frame.assign(**same, temperature=run.config.text.temperature)


def main(argv: list[str]) -> int:
    """`samples`: draw four samples a query from the base model and write them where notebook 02 looks for them."""
    parser = argparse.ArgumentParser(prog="rlhf_lib samples", description=main.__doc__)
    parser.add_argument("--profile", default="tiny", help="whose model, lengths and temperature (default: tiny)")
    parser.add_argument("--model", default="", help="another base model: a folder or hub name")
    parser.add_argument("--task", default="sentiment", choices=("sentiment", "descriptiveness"))
    parser.add_argument("--queries", type=int, default=320, help="how many queries are tried (default: 320)")
    parser.add_argument("--out", type=Path, default=SAMPLES, help=f"a Parquet file (default: {SAMPLES.name})")
    options = parser.parse_args(argv)
    if options.queries < 1:
        raise KitError(f"--queries must be at least 1, not {options.queries}.")
    run = StyleRun(options.out.parent, options.task, options.profile, options.model)
    frame = sample_for_labelers(run, options.queries)
    try:
        frame.to_parquet(options.out, index=False)
    except OSError as error:
        raise KitError(f"{options.out} cannot be written ({error.strerror}); choose another place.") from error
    print(f"{frame['query_id'].nunique()} queries with four samples each: {options.out}")
    return 0
