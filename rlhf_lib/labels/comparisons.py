"""What there is to label: four responses to one query, from a file of samples or from the embedded world."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from rlhf_lib.corpora import tinyworld
from rlhf_lib.errors import KitError
from rlhf_lib.labels.shown import sentences_of

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "recorded" / "samples_sentiment.parquet"


def from_samples(samples: pd.DataFrame, n: int, seed: int = 0) -> list[dict]:
    """Up to n comparisons from sample rows (columns `query`, `response`, and where there is one `model`).

    Queries with at least four different responses, in random order; the truncated response is shown where there is
    one, because labelers see what the truncation rule leaves. Raises KitError where no query has four.
    """
    missing = [name for name in ("query", "response") if name not in samples.columns]
    if missing:
        raise KitError(f"The samples lack the column {missing[0]!r}; write query and response in every row.")
    text = samples["response"]
    if "response_truncated" in samples.columns:
        text = samples["response_truncated"].fillna(text)
    rows = samples.assign(text=text).drop_duplicates(["query", "text"])
    groups = rows.groupby("query", sort=True)["text"].agg(list)
    groups = groups[groups.map(len) >= 4]
    if groups.empty:
        raise KitError("No query of these samples has four different responses; sample each query four times.")
    chosen = groups.sample(min(n, len(groups)), random_state=seed)
    policy = str(samples["model"].iloc[0]) if "model" in samples.columns and samples["model"].nunique() == 1 else None
    return [{"query": query, "samples": texts[:4], "policy": policy} for query, texts in chosen.items()]


def from_world(n: int, seed: int = 0) -> list[dict]:
    """n comparisons from the embedded world: the opening of a story, and four continuations out of four stories.

    A stand-in where no model has been sampled yet: the continuations are written by the world's grammar.
    """
    items = []
    for index in range(n):
        opening, *_ = _cut(tinyworld.story(seed, 5 * index, split="labeling"))
        others = [_cut(tinyworld.story(seed, 5 * index + k, split="labeling"))[1] for k in range(1, 5)]
        items.append({"query": opening, "samples": others, "meta": {"made_from": "the embedded world"}})
    return items


def load(path: str | Path | None = None, n: int = 200, seed: int = 0) -> tuple[list[dict], str]:
    """n comparisons for the sentiment task, and a sentence on where they come from.

    From the samples of the base model ("zero-shot") in `path` (Parquet; None: the recorded ones), if that file is
    there, else from the embedded world. Raises KitError for a path that was given and cannot be read.
    """
    given, path = path is not None, Path(path or SAMPLES)
    if not given and not path.is_file():
        return from_world(
            n, seed
        ), "No samples of a model here yet: the embedded world's own sentences stand in for them."
    try:
        samples = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise KitError(f"{path} cannot be read as Parquet ({error}); write the samples again.") from None
    for column, wanted in (("task", "sentiment"), ("model", "zero-shot")):
        if column in samples.columns and (samples[column] == wanted).any():
            samples = samples[samples[column] == wanted]
    return from_samples(samples, n, seed), f"Samples of the base model, from {path.name}."


def named_by_content(items: list[dict], prefix: str) -> list[dict]:
    """The items with ids made of `prefix` and a hash of query and samples.

    Labels of two stores then meet where they are about the same comparison, and nowhere else.
    """
    return [{**item, "id": f"{prefix}-{_digest([item['query'], *item['samples']])}"} for item in items]


def _digest(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]


def _cut(story: str) -> tuple[str, str]:
    """The first three sentences of a story, and the two after them."""
    sentences = [sentence.strip() for sentence in sentences_of(story) if sentence.strip()]
    return " ".join(sentences[:3]), " ".join(sentences[3:5])
