"""Labels for elsewhere, and labels made ready for fitting. Everything starts from `LabelStore.labels_frame`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_lib.errors import KitError
from rlhf_lib.labels.frames import LABEL_COLUMNS, SAMPLE_COLUMNS
from rlhf_lib.labels.importing import PAD_ID
from rlhf_lib.labels.schema import SAMPLES_PER_KIND

if TYPE_CHECKING:
    import datasets
    import pandas as pd

Encode = Callable[[str], list[int]]
FORMATS = ("original", "jsonl", "pairs")


def for_fitting(labels: pd.DataFrame, drop_duplicates: bool = True, drop_equal: bool = True) -> pd.DataFrame:
    """The four-way labels that a reward model should be fitted to, in their order.

    Repeats (asked for self-agreement only) go. The released files hold duplicates and rows whose four samples are
    equal (reference 1.4); left in, the first leak into a held-out split and the second teach nothing.

    Args:
        labels: rows of `LabelStore.labels_frame`.
        drop_duplicates: keep one of the rows in which a labeler picked the same sample of the same four for the
            same query. Labels of the same item by several labelers are no duplicates.
        drop_equal: drop rows whose four samples are the same text.
    """
    rows = labels[(labels["kind"] == "best_of_4") & ~labels["is_repeat"]]
    if drop_equal:
        rows = rows[rows[list(SAMPLE_COLUMNS)].nunique(axis=1) > 1]
    if drop_duplicates:
        rows = rows.drop_duplicates(["labeler", "query", *SAMPLE_COLUMNS, "best"])
    return rows.reset_index(drop=True)


def label_rows(labels: pd.DataFrame) -> list[dict[str, Any]]:
    """Every label with all that it carries, as JSON values; `importing.import_labels` reads them back unchanged."""
    skip = {"event_id", "gold_best", "queue"}
    rows = []
    for row in labels.to_dict("records"):
        kept = {name: _plain(row[name]) for name in LABEL_COLUMNS if name not in skip}
        kept["at"] = row["at"].isoformat()
        rows.append({name: value for name, value in kept.items() if value is not None})
    return rows


def original_rows(
    labels: pd.DataFrame, encode: Encode | None = None, query_length: int = 0, response_length: int = 0
) -> list[dict[str, Any]]:
    """The four-way labels in the original's layout, `query, sample0..3, best`.

    Args:
        encode: text to token ids; None leaves text. Ids are padded on the right with 50259, queries to
            `query_length` and samples to `response_length` tokens, or to the longest there is.

    Raises:
        KitError: a text is longer than the length asked for (it is never cut silently).
    """
    names = ("query", *SAMPLE_COLUMNS)
    chosen = labels[labels["kind"] == "best_of_4"]
    rows = [{**{n: row[n] for n in names}, "best": int(row["best"])} for row in chosen.to_dict("records")]
    if encode is None:
        return rows
    tokens = [{**row, **{name: list(encode(row[name])) for name in names}} for row in rows]
    _pad(tokens, ("query",), query_length)
    _pad(tokens, SAMPLE_COLUMNS, response_length)
    return tokens


def pair_rows(labels: pd.DataFrame) -> list[dict[str, str]]:
    """TRL's preference rows (`prompt, chosen, rejected`): three a four-way label, one a preference.

    Pairs of equal texts are left out: there is nothing to prefer in them.
    """
    pairs = []
    for row in labels[labels["kind"].isin(("best_of_4", "preference"))].to_dict("records"):
        texts = [row[name] for name in SAMPLE_COLUMNS[: SAMPLES_PER_KIND[row["kind"]]]]
        best = texts[int(row["best"])]
        pairs += [{"prompt": row["query"], "chosen": best, "rejected": other} for other in texts if other != best]
    return pairs


def write_labels(
    labels: pd.DataFrame,
    path: str | Path,
    form: str = "jsonl",
    encode: Encode | None = None,
    query_length: int = 0,
    response_length: int = 0,
) -> int:
    """Write labels to a file, which appears whole or not at all; gives the number of rows.

    Args:
        form: "jsonl" (everything), "original" (a JSON list of `original_rows`) or "pairs" (lines of `pair_rows`).

    Raises:
        KitError: an unknown form, no rows, a text too long, or a place that cannot be written to.
    """
    if form not in FORMATS:
        raise KitError(f"Unknown form of labels {form!r}: use one of {', '.join(FORMATS)}.")
    if form == "original":
        rows: list[dict] = original_rows(labels, encode, query_length, response_length)
    else:
        rows = pair_rows(labels) if form == "pairs" else label_rows(labels)
    if not rows:
        raise KitError(f"There are no labels to write to {path}.")
    lines = [json.dumps(row) for row in rows]
    text = "[" + ",\n".join(lines) + "]\n" if form == "original" else "\n".join(lines) + "\n"
    _write_whole(Path(path), text)
    return len(rows)


def to_dataset(labels: pd.DataFrame, form: str = "jsonl") -> datasets.Dataset:
    """The same rows as a Hugging Face `Dataset`; `meta` and `gold` become text, since their types differ by row."""
    import datasets  # slow to import, and needed by few

    if form not in FORMATS:
        raise KitError(f"Unknown form of labels {form!r}: use one of {', '.join(FORMATS)}.")
    make = {"original": original_rows, "pairs": pair_rows, "jsonl": label_rows}[form]
    as_text = {"meta": json.dumps, "gold": str}
    rows = [{name: as_text.get(name, _same)(value) for name, value in row.items()} for row in make(labels)]
    if not rows:
        raise KitError("There are no labels to make a data set of.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return datasets.Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})


def _same(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    """A cell as a JSON value; None for pandas' many ways of saying that there is nothing."""
    if value is None or isinstance(value, str | list | dict | bool):
        return value
    if value != value or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.item() if hasattr(value, "item") else value


def _pad(rows: list[dict[str, Any]], names: tuple[str, ...], length: int) -> None:
    longest = max((len(row[name]) for row in rows for name in names), default=0)
    if length and longest > length:
        raise KitError(f"A {names[0]} is {longest} tokens long, more than the {length} asked for; ask for more.")
    for row in rows:
        for name in names:
            row[name] += [PAD_ID] * ((length or longest) - len(row[name]))


def _write_whole(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as error:
        raise KitError(f"Cannot write {path}: {error.strerror}; choose another place.") from error
