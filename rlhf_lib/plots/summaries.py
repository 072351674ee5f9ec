"""Figures of the summary analyses: novelty, where copies come from, ROUGE, who prefers what."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure

from rlhf_lib.plots.style import (
    LABELER_COLOURS,
    PUBLISHED_MARK,
    colours_for,
    error_lengths,
    figure_legend,
    new_figure,
    ordered,
    percent_axis,
    require_columns,
    task_title,
)

METRIC_TITLES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}


def novelty_figure(data: pd.DataFrame) -> Figure:
    """Share of n-grams and sentences that are not in the source, a panel a task, a colour a model.

    Columns: `task, model, unit` ("1-gram" … "4-gram", "sentence"), `novelty` (0 to 1), optional `low, high` (95%)
    and `published` (0 to 1, drawn as open marks) or `recorded` (pale squares), in this and the figures like it.
    """
    require_columns(data, ["task", "model", "unit", "novelty"], "novelty_figure")
    return _dots_by_unit(data, "unit", "novelty", "share not in the source")


def rouge_bars(data: pd.DataFrame) -> Figure:
    """ROUGE F1 of every model, a panel a task. Columns: `task, model, metric, score` (0 to 100), optional `low, high`
    (95%), `published`, and `recorded`: pale squares with a dark edge, before the bars."""
    require_columns(data, ["task", "model", "metric", "score"], "rouge_bars")
    tasks, colours = list(dict.fromkeys(data["task"])), colours_for(data["model"])
    metrics = list(dict.fromkeys(data["metric"]))
    figure, axes = new_figure(1, len(tasks), width=5.2, height=3.6, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        of_task = data[data["task"] == task]
        width = 0.8 / of_task["model"].nunique()
        for model, rows, places in _beside(of_task, "metric", metrics):
            axis.bar(places, rows["score"], width, color=colours[model], label=model,
                     yerr=error_lengths(rows, "score"), error_kw={"linewidth": 1, "ecolor": "#555555"})  # fmt: skip
            _beside_dots(axis, places, rows, colours[model], _square(colours[model]))
        axis.set(title=task_title(task), xlabel="", ylabel="F1 × 100" if task == tasks[0] else "")
        axis.set_xticks(range(len(metrics)), [METRIC_TITLES.get(m, m) for m in metrics])
        axis.grid(visible=False, axis="x")
    if "recorded" in data and data["recorded"].notna().any():
        # the squares' key is of no model, so grey; empty error bars, for these come after the bars in a legend
        axes[0][0].errorbar([], [], fmt="s", label="recorded", **_square("#8C8C8C"))
    figure_legend(figure, axes, ncols=8, columnspacing=1.4)  # all models and the square in one row
    return figure


def copy_map(data: pd.DataFrame, max_position: int = 500, contexts: int = 200) -> Figure:
    """The post's picture: where in the source each summary's bigrams come from. A row of panels a task.

    Columns: `task, model, source_length` (bigrams) and `positions` (source indices of the bigrams of a longest common
    subsequence). Contexts are stacked, one line each, sorted by their first matched position, so that copying of the
    start stands as a block at the upper left; white is source, dark is matched, grey is past the end of the source.
    """
    require_columns(data, ["task", "model", "source_length", "positions"], "copy_map")
    tasks, colours = list(dict.fromkeys(data["task"])), colours_for(data["model"])
    widest = data.groupby("task")["model"].nunique().max()
    figure, axes = new_figure(len(tasks), widest, width=2.1, height=2.9)
    for row, task in zip(axes, tasks, strict=True):
        of_task = data[data["task"] == task]
        width = int(min(of_task["source_length"].max(), max_position))
        for axis in row[of_task["model"].nunique() :]:
            axis.set_axis_off()
        for axis, model in zip(row, ordered(of_task["model"]), strict=False):
            rows = of_task[of_task["model"] == model].head(contexts)
            axis.imshow(
                stacked_contexts(rows, width),
                aspect="auto",
                vmin=0,
                vmax=2,
                interpolation="nearest",
                cmap=ListedColormap(["white", colours[model], "#E4E4E4"]),
                extent=(0, width, len(rows), 0),
            )
            axis.set_title(model, fontsize=9)
            axis.tick_params(labelsize=7)
            axis.yaxis.get_major_locator().set_params(integer=True)
            axis.set_xlabel("source position (bigrams)", fontsize=8)
            axis.grid(visible=False)
        row[0].set_ylabel(f"{task_title(task)}\ncontexts, sorted")
    return figure


def stacked_contexts(rows: pd.DataFrame, width: int) -> np.ndarray:
    """[contexts, width] picture: 0 source, 1 matched, 2 past the source's end; sorted for `copy_map`."""

    def key(row):
        positions = list(row.positions)
        # unmatched contexts last; then by first match, then by how far down the matches reach
        return (len(positions) == 0, min(positions, default=0), float(np.mean(positions)) if positions else 0.0)

    picture = np.zeros((len(rows), width), dtype=np.int8)
    for line, row in zip(picture, sorted(rows.itertuples(), key=key), strict=True):
        line[int(row.source_length) :] = 2
        line[[p for p in row.positions if p < width]] = 1
    return picture


def copy_density(data: pd.DataFrame) -> Figure:
    """Where copies come from on average: density of matched bigrams over relative position in the source.

    Columns: `task, model, position` (middle of a bin, 0 is the start and 1 the end of the source) and `density`
    (1 everywhere: copied from everywhere alike).
    """
    require_columns(data, ["task", "model", "position", "density"], "copy_density")
    tasks, colours = list(dict.fromkeys(data["task"])), colours_for(data["model"])
    figure, axes = new_figure(1, len(tasks), width=4.8, height=3.4, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        of_task = data[data["task"] == task]
        for model in ordered(of_task["model"]):
            rows = of_task[of_task["model"] == model].sort_values("position")
            axis.plot(rows["position"], rows["density"], color=colours[model], label=model, linewidth=1.6)
        axis.axhline(1, color="black", linestyle=":", linewidth=1)
        percent_axis(axis, "x")
        axis.set(
            title=task_title(task),
            xlabel="relative position in the source",
            ylabel="density of matched bigrams" if task == tasks[0] else "",
        )
    axes[0, 0].set_ylim(bottom=0)
    figure_legend(figure, axes)
    return figure


def copy_start_figure(data: pd.DataFrame) -> Figure:
    """Share of summaries that copy the start of the input, by whether it has a preamble.

    Columns: `task, model, inputs` ("all", "without preamble", "with preamble"), `share` (0 to 1), optional `low, high`
    and `published`.
    """
    require_columns(data, ["task", "model", "inputs", "share"], "copy_start_figure")
    return _dots_by_unit(data, "inputs", "share", "summaries that copy the start")


def copied_sentence_figure(data: pd.DataFrame) -> Figure:
    """From which of the source's sentences whole sentences are copied: columns `task, model, place, share` (0 to 1)."""
    require_columns(data, ["task", "model", "place", "share"], "copied_sentence_figure")
    figure = _dots_by_unit(data, "place", "share", "summary's sentences")
    for axis in figure.axes:
        axis.set_xlabel("which sentence of the source it is, word for word")
    return figure


def opening_figure(data: pd.DataFrame) -> Figure:
    """What it is worth to begin as a sentence of the source does, above; how often models do, below; a column a task.

    Columns: `task, model, place, share` (0 to 1), `points, low, high` (of which the first model's are drawn).
    """
    require_columns(data, ["task", "model", "place", "share", "points"], "opening_figure")
    tasks, models, colours = list(dict.fromkeys(data["task"])), ordered(data["model"]), colours_for(data["model"])
    figure, axes = new_figure(2, len(tasks), width=5.2, height=2.6, sharex=True, sharey="row")
    for task, worth, often in zip(tasks, *axes, strict=True):
        for model in models:
            rows = data[(data["task"] == task) & (data["model"] == model)]
            often.plot("place", "share", "o", data=rows, color=colours[model], label=model)
        rows, colour = data[(data["task"] == task) & (data["model"] == models[0])], colours[models[0]]
        lengths = error_lengths(rows, "points")
        worth.errorbar(rows["place"], rows["points"], lengths, fmt="o", capsize=2, color=colour)
        percent_axis(often, "y", -0.03, min(1.03, 1.15 * data["share"].max()))
        often.set(xlabel="which sentence of the source they begin like", xticks=sorted(set(data["place"])))
        worth.set_title(task_title(task))
    axes[0][0].set_ylabel("labelers' points (mean)")
    axes[1][0].set_ylabel("summaries that begin so")
    figure_legend(figure, axes)
    return figure


def accuracy_figure(data: pd.DataFrame) -> Figure:
    """Share of accurate summaries, a group of dots a judge, so that no two judges are mixed; a panel a task.

    Columns: `task, model, judge` ("world's fact checker", "people", "automatic estimate"), `accurate` (0 to 1),
    optional `low, high` (95%) and `published` (the authors' 30 a model, as open marks).
    """
    require_columns(data, ["task", "model", "judge", "accurate"], "accuracy_figure")
    return _dots_by_unit(data, "judge", "accurate", "accurate summaries")


def rouge_against_preference(data: pd.DataFrame) -> Figure:
    """What ROUGE rewards beside what labelers reward: a mark a model, a panel a labeler; off the rising line they part.

    Columns: `model`, `rouge` (mean F1 × 100), `share` (0 to 1, preferred over the references), `labeler`, optional
    `low, high` of the share.
    """
    require_columns(data, ["model", "rouge", "share", "labeler"], "rouge_against_preference")
    labelers, colours = list(dict.fromkeys(data["labeler"])), colours_for(data["model"])
    figure, axes = new_figure(1, len(labelers), width=4.4, height=3.6, sharey=True)
    for axis, labeler in zip(axes[0], labelers, strict=True):
        for model in ordered(data["model"]):
            rows = data[(data["labeler"] == labeler) & (data["model"] == model)]
            lengths, colour = error_lengths(rows, "share"), colours[model]
            axis.errorbar("rouge", "share", lengths, data=rows, fmt="o", capsize=2.5, color=colour, label=model)
        axis.axhline(0.5, color="black", linewidth=1, linestyle=":")
        percent_axis(axis, "y", -0.04, 1.04)
        axis.set(
            title=labeler_title(labeler),
            xlabel="mean of ROUGE-1, -2, -L (F1 × 100)",
            ylabel="preferred to the reference" if labeler == labelers[0] else "",
        )
    figure_legend(figure, axes)
    _head_with_task(figure, data)
    return figure


def _head_with_task(figure: Figure, data: pd.DataFrame) -> None:
    """The task over all panels, where the rows are of a single one and say so."""
    tasks = list(dict.fromkeys(data.get("task", [])))
    if len(tasks) == 1:
        figure.suptitle(task_title(tasks[0]))


def labeler_title(labeler: str) -> str:
    """The words over a labeler's panel: the kit's own labelers are simulated, and said to be."""
    return f"{labeler} labelers (simulated)" if labeler in LABELER_COLOURS else labeler


def preference_matrix(data: pd.DataFrame) -> Figure:
    """Who is preferred to whom: share of comparisons in which the row is chosen over the column, ties counted half.

    Columns: `a, b, share` (0 to 1), optional `labeler` (a panel each). Blue: the row wins; red: the column does.
    """
    require_columns(data, ["a", "b", "share"], "preference_matrix")
    data = data.assign(labeler=data.get("labeler", ""))
    labelers, models = list(dict.fromkeys(data["labeler"])), ordered([*data["a"], *data["b"]])
    figure, axes = new_figure(
        1, len(labelers), width=0.62 * len(models) + 1.2, height=0.55 * len(models) + 1.5, sharey=True
    )
    for axis, labeler in zip(axes[0], labelers, strict=True):
        rows = data[data["labeler"] == labeler]
        table = rows.pivot_table(index="a", columns="b", values="share").reindex(index=models, columns=models)
        sns.heatmap(
            table * 100,
            ax=axis,
            cmap="RdBu",
            vmin=0,
            vmax=100,
            center=50,
            annot=True,
            fmt=".0f",
            square=True,
            linewidths=0.5,
            cbar=labeler == labelers[-1],
            cbar_kws={"label": "row preferred to column (%)", "shrink": 0.7},
        )
        axis.set(title=labeler_title(labeler), xlabel="", ylabel="")
        axis.grid(visible=False)
        axis.set_xticks(axis.get_xticks(), models, rotation=40, ha="right", rotation_mode="anchor")
        axis.tick_params(axis="y", rotation=0)
    _head_with_task(figure, data)
    return figure


LABEL_KINDS = {"best_of_4": "best of four", "description": "problem tags", "correction": "corrections"}


def agreement_by_kind(data: pd.DataFrame) -> Figure:
    """Do two labelers agree? A bar a kind of label, raw at the left with its chance marked, beyond chance at the right.

    Columns: `kind`, `agreement`, `chance`, `beyond_chance` (shares, 1: always); optional `low, high` of the agreement,
    `beyond_low, beyond_high` of what is beyond chance, which may lie below 0.
    """
    require_columns(data, ["kind", "agreement", "chance", "beyond_chance"], "agreement_by_kind")
    figure, axes = new_figure(1, 2, width=4.2, height=3.0, sharey=True)
    names, places = [LABEL_KINDS.get(kind, kind) for kind in data["kind"]], np.arange(len(data))
    raw, beyond = axes[0]
    raw.bar(places, data["agreement"], 0.6, color="#56B4E9", yerr=error_lengths(data, "agreement"), capsize=3)
    raw.plot(places, data["chance"], "_", color="black", markersize=26, markeredgewidth=2, label="chance")
    around = data[["beyond_chance"]].assign(low=data.get("beyond_low"), high=data.get("beyond_high"))
    spread = error_lengths(around, "beyond_chance") if around.notna().all(axis=None) else None
    beyond.bar(places, data["beyond_chance"], 0.6, color="#0072B2", yerr=spread, capsize=3)
    lowest = min(0.0, around["low"].min()) if spread is not None else 0.0
    lowest -= 0.05 if lowest < 0 else 0.0  # room for the cap of the lowest whisker
    for axis, title in ((raw, "two labelers agree"), (beyond, "… beyond chance")):
        axis.set_xticks(places, names)
        axis.set(title=title, xlabel="")
        axis.grid(visible=False, axis="x")
        percent_axis(axis, low=lowest)
    raw.set_ylabel("share of pairs")
    beyond.set_ylabel("share of what chance leaves")
    raw.legend(frameon=False, loc="upper left")
    return figure


def _dots_by_unit(data: pd.DataFrame, unit: str, value: str, ylabel: str) -> Figure:
    """Shares with intervals, a group of dots a unit, a colour a model, a panel a task.

    `published`, where given, as open marks; `recorded` as pale squares behind the dots.
    """
    tasks, colours = list(dict.fromkeys(data["task"])), colours_for(data["model"])
    units = list(dict.fromkeys(data[unit]))
    figure, axes = new_figure(1, len(tasks), width=5.2, height=3.6, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        for model, rows, places in _beside(data[data["task"] == task], unit, units):
            axis.errorbar(
                places,
                rows[value],
                yerr=error_lengths(rows, value),
                fmt="o",
                markersize=5,
                capsize=2,
                color=colours[model],
                label=model,
            )
            _beside_dots(axis, places, rows, colours[model])
        for edge in np.arange(len(units) - 1) + 0.5:
            axis.axvline(edge, color="#DDDDDD", linewidth=0.8)
        percent_axis(axis, "y", -0.03, 1.03)
        axis.set_xticks(range(len(units)), units)
        axis.set_xlim(-0.5, len(units) - 0.5)
        axis.grid(visible=False, axis="x")
        axis.set(title=task_title(task), xlabel="", ylabel=ylabel if task == tasks[0] else "")
    figure_legend(figure, axes)
    return figure


def _beside_dots(axis, places: np.ndarray, rows: pd.DataFrame, colour: str, square: dict | None = None) -> None:
    """What a dot is held against, at its own place: the recorded sweep (`square`: how it looks) and the published."""
    if "recorded" in rows and rows["recorded"].notna().any():
        pale = {"color": colour, "alpha": 0.35, "markersize": 9, "zorder": 1, "label": "recorded"}
        axis.plot(places, rows["recorded"], "s", **(square or pale))
    if "published" in rows and rows["published"].notna().any():
        axis.plot(places, rows["published"], label="published", **PUBLISHED_MARK)


def _square(colour: str) -> dict:
    """A pale square with a dark edge before a bar of this colour, where one without could not be seen."""
    pale = tuple(0.35 * part + 0.65 for part in to_rgb(colour))
    return {"markersize": 7, "markerfacecolor": pale, "markeredgecolor": "#222222", "markeredgewidth": 1.2, "zorder": 3}


def _beside(data: pd.DataFrame, unit: str, units: list) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """(model, its rows in the order of `units`, their places) so that a group's models stand beside one another."""
    models = ordered(data["model"])
    for i, model in enumerate(models):
        rows = data[data["model"] == model].set_index(unit).reindex(units)
        yield model, rows, np.arange(len(units)) + (i - (len(models) - 1) / 2) * 0.8 / len(models)
