"""Reference summaries and lead-3 as sample rows, so that every analysis treats them like any model's."""

from __future__ import annotations

import pandas as pd

from rlhf_lib.analysis import text
from rlhf_lib.samples import FIELDS

REFERENCE, LEAD3 = "reference", "lead-3"
# what belongs to one model's sampling and not to the query
_OF_THE_SAMPLE = ("response_truncated", "penalised", "temperature", "seed")


def queries_of(samples: pd.DataFrame) -> pd.DataFrame:
    """One row for every different task, query and reference."""
    return samples.drop_duplicates(["task", "query", "reference"]).reset_index(drop=True)


def reference_rows(samples: pd.DataFrame) -> pd.DataFrame:
    """The reference summaries as rows of the model "reference"; queries without one are left out."""
    rows = queries_of(samples)
    rows = rows[rows["reference"].fillna("").str.strip() != ""]
    return _as_model(rows, REFERENCE, list(rows["reference"]))


def lead3_rows(samples: pd.DataFrame, max_words: int | None = None) -> pd.DataFrame:
    """The first three sentences of every source as rows of the model "lead-3", a sentence a line.

    `max_words` caps them to the task's length (white-space words), so that a comparison is not won by length alone.
    """
    rows = queries_of(samples)
    leads = [text.lead(text.source_body(row.query, row.task), 3, max_words) for row in rows.itertuples()]
    return _as_model(rows, LEAD3, leads)


def with_baselines(samples: pd.DataFrame, max_words: int | None = None) -> pd.DataFrame:
    """The samples and, below them, the rows of references and lead-3 that are not among them already."""
    own = set(samples["model"])
    parts = [samples]
    if REFERENCE not in own:
        parts.append(reference_rows(samples))
    if LEAD3 not in own:
        parts.append(lead3_rows(samples, max_words))
    return pd.concat([p for p in parts if len(p)], ignore_index=True)


def _as_model(rows: pd.DataFrame, name: str, responses: list[str]) -> pd.DataFrame:
    """Rows of the same queries with another model's responses; nothing of the first model's sampling stays."""
    rows = rows[[field for field in FIELDS]].copy().reset_index(drop=True)
    rows["model"], rows["response"] = name, responses
    for field in _OF_THE_SAMPLE:
        rows[field] = pd.Series([None] * len(rows), dtype=rows[field].dtype)
    return rows
