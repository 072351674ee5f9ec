"""All analyses of one set of samples: tables, figures and analysis.json in one folder."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rlhf_lib import plots
from rlhf_lib.analysis import baselines, copying, novelty, rouge
from rlhf_lib.errors import KitError

DEFINITIONS = """\
Shares and ROUGE F1 in analysis.json and the tables are from 0 to 1 (rouge.csv: F1 × 100); null or an empty cell means
that nothing was counted. Words are lower-case and without punctuation, treebank tokens re-joined.

- `sentence_novelty`: share of summary sentences of at least 3 words whose words do not stand in the source one after
  another; `ngram_novelty`: share of n-grams (1 to 4) not in the source. Micro: all summaries of a model pooled.
- `copies_start`: share of summaries whose first sentence, of at least 5 words, is how the source starts;
  with and without a preamble by the row's `starts_with_preamble`, else by the task: articles a colon in the first
  three words, posts a first word among hi, hello, hey, ok, okay, so. Other tasks have no such rule.
- `rouge1`, `rouge2`, `rougeL`: F1 with stemming (rouge-score), `lead3_*` the same of the source's first three
  sentences. Only rows with a reference count.
- Prompt words ("Article:", "TL;DR:") are never part of the source; for articles neither is the "(CNN)" dateline.
- Intervals are 95%: bootstrap over summaries, Wilson's for shares of summaries.
"""
CONTEXTS_DRAWN = 200


class Analysis(NamedTuple):
    """Everything computed from one set of samples, as frames."""

    novelty: pd.DataFrame
    copy_start: pd.DataFrame
    positions: pd.DataFrame
    density: pd.DataFrame
    rouge: pd.DataFrame
    objects: list[dict]


def analyse(samples: pd.DataFrame, processes: int = 2) -> Analysis:
    """Novelty, copying and ROUGE of every model in `samples` (frame of sample rows), references and lead-3 beside it.

    `objects` has one dictionary a task and model of the samples, as analysis.json; the frames hold references and
    lead-3 too. A model's lead-3 ROUGE is that of lead-3 on the very queries it summarised.
    """
    # rows of one query beside one another: the work on their source is done once
    everything = baselines.with_baselines(samples).sort_values(["task", "query_id"], kind="stable", ignore_index=True)
    counts = novelty.count_novel(everything)
    copies = copying.count_copies(everything)
    positions = copying.copy_positions(everything)
    scored = everything[everything["model"] != baselines.REFERENCE]
    scores = rouge.score_samples(scored, processes)
    novelty_table, start_table = novelty.novelty_table(counts), copying.copy_start_table(copies)
    objects = [
        _object(task, model, rows, novelty_table, start_table, copies, scores)
        for (task, model), rows in samples.groupby(["task", "model"], sort=False)
    ]
    return Analysis(
        novelty_table, start_table, positions, copying.copy_density(positions), rouge.rouge_table(scores), objects
    )


def _object(task: str, model: str, rows: pd.DataFrame, novelty_table, start_table, copies, scores) -> dict:
    """What analysis.json says of one task and model; None where nothing was counted."""
    novel = _of(novelty_table, task, model).set_index("unit")["novelty"]
    start = _of(start_table, task, model).set_index("inputs")
    preamble = _of(copies, task, model)["preamble"]
    own, lead = _of(scores, task, model), _of(scores, task, baselines.LEAD3)
    lead = lead[lead["query_id"].isin(rows["query_id"])]
    return {
        "task": task,
        "model": model,
        "n": len(rows),
        "sentence_novelty": _number(novel["sentence"]),
        "ngram_novelty": {str(n): _number(novel[f"{n}-gram"]) for n in range(1, 5)},
        "copies_start": _number(start.loc["all", "share"]),
        "n_preamble": int(preamble.sum()) if preamble.notna().any() else None,
        "copies_start_without_preamble": _number(start.loc["without preamble", "share"]),
        "copies_start_with_preamble": _number(start.loc["with preamble", "share"]),
        **{metric: _number(own[metric].mean()) for metric in ("rouge1", "rouge2", "rougeL")},
        **{f"lead3_{metric}": _number(lead[metric].mean()) for metric in ("rouge1", "rouge2", "rougeL")},
    }


def _of(table: pd.DataFrame, task: str, model: str) -> pd.DataFrame:
    return table[(table["task"] == task) & (table["model"] == model)]


def _number(value: float) -> float | None:
    """A number JSON knows, or None for NaN."""
    return None if math.isnan(value) else float(value)


def write_analysis(analysis: Analysis, out: str | os.PathLike) -> Path:
    """Write analysis.json, the tables (CSV), README.md with the definitions, and the figures to a folder.

    Every file is replaced in one step. Raises KitError when the folder cannot be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, table in (
            ("novelty", analysis.novelty),
            ("copy_start", analysis.copy_start),
            ("rouge", analysis.rouge),
        ):
            _replace(out / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
        _replace(out / "README.md", f"# What the numbers here mean\n\n{DEFINITIONS}")
        _replace(
            out / "analysis.json", json.dumps(analysis.objects, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
    except OSError as error:
        raise KitError(f"{out} cannot be written ({error}): choose another folder with --out.") from error
    _write_figures(analysis, out / "figures")
    return out


def _replace(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)


def _write_figures(analysis: Analysis, folder: Path) -> None:
    """The post's figures of these samples, each with its numbers and words."""
    drawn = analysis.positions.groupby(["task", "model"], sort=False).head(CONTEXTS_DRAWN)
    models = drawn[drawn["model"] != baselines.REFERENCE]
    plots.save_figure(
        plots.novelty_figure(analysis.novelty),
        analysis.novelty,
        folder / "novelty",
        "Share of n-grams and sentences of each model's summaries that are not in the source, with 95% "
        "intervals; open marks are the blog post's. " + _spoken(analysis, "sentence_novelty"),
    )
    plots.save_figure(
        plots.copy_start_figure(analysis.copy_start),
        analysis.copy_start,
        folder / "copy_start",
        "Share of summaries that copy the start of the input, over all inputs and by preamble. "
        + _spoken(analysis, "copies_start"),
    )
    plots.save_figure(
        plots.copy_map(models),
        models,
        folder / "copy_map",
        "For each model, contexts stacked and sorted by the first place they copy from: dark marks are "
        "the source bigrams that align with the summary.",
    )
    density = analysis.density[analysis.density["model"] != baselines.REFERENCE]
    plots.save_figure(
        plots.copy_density(density),
        density,
        folder / "copy_density",
        "Density of copied bigrams over the relative position in the source, one line a model; 1 means "
        "copied from everywhere alike.",
    )
    shown = analysis.rouge[analysis.rouge["metric"].isin(["rouge1", "rouge2", "rougeL"])]
    if len(shown):
        plots.save_figure(
            plots.rouge_bars(shown),
            shown,
            folder / "rouge",
            "ROUGE F1 of each model and of lead-3, with 95% intervals. " + _spoken(analysis, "rouge1"),
        )


def _spoken(analysis: Analysis, field: str) -> str:
    """One number of every model in words, for the text beside a figure."""
    parts = [f"{o['model']} ({o['task']}) {o[field]:.1%}" for o in analysis.objects if o[field] is not None]
    return f"{field.replace('_', ' ').capitalize()}: {', '.join(parts)}." if parts else "Nothing was counted."


def summary_text(analysis: Analysis) -> str:
    """The main numbers as a table for the terminal, a dash where nothing was counted."""
    fields = ["sentence_novelty", "copies_start", "rouge1", "rouge2", "rougeL", "lead3_rouge1"]
    table = pd.DataFrame(analysis.objects)[["task", "model", "n", *fields]].astype({f: "float64" for f in fields})
    buffer = io.StringIO()
    table.to_string(buffer, index=False, na_rep="–", float_format=lambda value: f"{value:.3f}")
    return buffer.getvalue()
