"""Figures of the trainings: losses, PPO's curves, the reward model, preference by labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from rlhf_lib.errors import KitError
from rlhf_lib.plots.style import (
    PUBLISHED_MARK,
    colour_of,
    colours_for,
    error_lengths,
    figure_legend,
    new_figure,
    ordered,
    percent_axis,
    require_columns,
    task_title,
)

# metric name -> words and unit on the axis; the names are those of the metrics table (design.md, "Metrics").
PPO_PANELS = {
    "objective/score": "score (reward-model units)",
    "objective/kl": "KL from the reference\n(nats a response)",
    "objective/kl_coef": "KL coefficient β",
    "objective/entropy": "entropy (nats a response)",
    "objective/penalised": "share penalised",
}


def learning_curve(
    data: pd.DataFrame, xlabel: str = "optimizer step", ylabel: str = "cross-entropy (nats a token)"
) -> Figure:
    """Loss against steps. Columns: `step, loss`, and where there are several curves `split` and/or `model`.

    Models differ in colour, splits in line style (train thin, anything else heavy with marks).
    """
    require_columns(data, ["step", "loss"], "learning_curve")
    data = data.assign(model=data.get("model", "model"), split=data.get("split", "train"))
    figure, axes = new_figure(width=5.6)
    axis = axes[0, 0]
    several = data["model"].nunique() > 1
    for (model, split), rows in data.dropna(subset=["loss"]).groupby(["model", "split"], sort=False):
        rows = rows.sort_values("step")
        train = split == "train"
        axis.plot(
            rows["step"],
            rows["loss"],
            label=f"{model}, {split}" if several else split,
            color=colour_of(model) if several else ("#8C8C8C" if train else "#D55E00"),
            linewidth=1.2 if train else 2.0,
            marker=None if train else "o",
            markersize=4,
        )
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False)
    return figure


def ppo_curves(metrics: pd.DataFrame, kl_target: float | None = None, kl_band: float = 0.2) -> Figure:
    """Score, KL (with the target band), KL coefficient, entropy and penalised share of one or more PPO runs.

    Columns: `episodes` (or `update`), any of PPO_PANELS, and `run` where there are several. The band is
    target * (1 ± kl_band): outside of it the adaptive controller moves by its full step (paper section 2.2).
    Raises KitError when no panel of the table can be drawn.
    """
    x = "episodes" if "episodes" in metrics.columns else "update"
    require_columns(metrics, [x], "ppo_curves")
    panels = [name for name in PPO_PANELS if name in metrics.columns]
    if not panels:
        raise KitError(f"The figure ppo_curves needs at least one of the columns {', '.join(PPO_PANELS)}.")
    figure, axes = _wrapped_panels(len(panels))
    runs = metrics.assign(run=metrics.get("run", "this run"))
    colours = colours_for(runs["run"])
    for axis, name in zip(axes, panels, strict=True):
        for run, rows in runs.groupby("run", sort=False):
            axis.plot(rows[x], rows[name], color=colours[run], label=run, linewidth=1.5)
        axis.set(xlabel=x, ylabel=PPO_PANELS[name])
        if name == "objective/penalised":
            percent_axis(axis, "y", 0, 1)
        if name == "objective/kl" and kl_target is not None:
            axis.axhspan(
                kl_target * (1 - kl_band),
                kl_target * (1 + kl_band),
                color="#009E73",
                alpha=0.15,
                label=f"target {kl_target:g} ± {kl_band:.0%}",
            )
    figure_legend(figure, axes)
    return figure


def reward_accuracy_by_labels(data: pd.DataFrame, chance: float = 0.25, ceiling=None) -> Figure:
    """Held-out four-way accuracy of reward models against the number of labels they were fitted to.

    Columns: `labels, accuracy`, optional `low, high` (95%), `task`, `run`. `chance` is the share right by guessing;
    `ceiling` the share right of the best possible guesser under the labels' noise: a number, or one a task in a dict.
    """
    require_columns(data, ["labels", "accuracy"], "reward_accuracy_by_labels")
    figure, axes = _panels_by_task(data)
    for axis, (task, rows) in zip(axes[0], _by_task(data), strict=True):
        _run_lines(axis, rows, "labels", "accuracy")
        axis.axhline(chance, color="black", linewidth=1, linestyle=":", label=f"guessing, {chance:.0%}")
        limit = ceiling.get(task) if isinstance(ceiling, dict) else ceiling
        if limit is not None:
            axis.axhline(limit, color="#009E73", linewidth=1.2, linestyle="--", label="ceiling: label noise")
        _label_axis(axis, rows["labels"])
        percent_axis(axis)
        axis.set(ylabel="held-out four-way accuracy", title=task_title(task))
    figure_legend(figure, axes)
    return figure


def preference_by_labels(data: pd.DataFrame, noise_ceiling=None) -> Figure:
    """Share preferred to zero-shot against labels: this run, recorded runs, published values as open marks.

    Columns: `labels, preference` (0 to 1), `run` ("this run", "recorded" or "published"), optional `low, high`
    (95% interval) and `task`. `noise_ceiling`: the preference that the same labelers give a perfect policy, a number
    or one a task in a dict. Published points: paper figure, digitised (original-system.md section 5.2).
    """
    require_columns(data, ["labels", "preference", "run"], "preference_by_labels")
    figure, axes = _panels_by_task(data)
    for axis, (task, rows) in zip(axes[0], _by_task(data), strict=True):
        published = rows[rows["run"] == "published"].sort_values("labels")
        _run_lines(axis, rows[rows["run"] != "published"], "labels", "preference")
        if len(published):
            axis.plot(published["labels"], published["preference"], label="published", **PUBLISHED_MARK)
        limit = noise_ceiling.get(task) if isinstance(noise_ceiling, dict) else noise_ceiling
        if limit is not None:
            axis.axhline(limit, color="#009E73", linewidth=1.2, linestyle="--", label="ceiling: label noise")
        axis.axhline(0.5, color="black", linewidth=1, linestyle=":", label="no preference")
        _label_axis(axis, rows["labels"])
        percent_axis(axis)
        axis.set(ylabel="preferred to zero-shot", title=task_title(task))
    figure_legend(figure, axes)
    return figure


def strategies_by_budget(data: pd.DataFrame) -> Figure:
    """What each way of collecting labels reaches with a budget: a panel a metric, a line a strategy.

    Columns: `labels` (the budget), `run` ("offline", "batched, recorded", "online, this run", …: a strategy keeps its
    colour, and this run's marks are open), `metric` (its panel's axis label, with the unit), `value`, optional
    `low, high`. `published` in the run's name draws published marks.
    """
    require_columns(data, ["labels", "run", "metric", "value"], "strategies_by_budget")
    metrics = list(dict.fromkeys(data["metric"]))
    figure, axes = new_figure(1, len(metrics), width=4.6, height=3.6)
    published = data["run"].astype(str).str.startswith("published")
    runs = list(dict.fromkeys(data["run"]))
    steps = data["run"].map(runs.index) - (len(runs) - 1) / 2
    data = data.assign(drawn_at=data["labels"] * 1.05**steps)  # beside one another, or intervals hide intervals
    strategies = {run: run.split(",")[0] for run in runs}
    of_strategy = colours_for(sorted(strategies.values()))
    colours = {run: of_strategy[strategy] for run, strategy in strategies.items()}
    for axis, metric in zip(axes[0], metrics, strict=True):
        of_metric = data["metric"] == metric
        _run_lines(axis, data[of_metric & ~published], "drawn_at", "value", colours)
        for run, rows in data[of_metric & published].groupby("run", sort=False):
            axis.plot(rows["drawn_at"], rows["value"], label=run, **PUBLISHED_MARK)
        _label_axis(axis, data.loc[of_metric, "labels"])
        axis.set_ylabel(metric)
    figure_legend(figure, axes, ncols=3)
    return figure


def calibration_plot(data: pd.DataFrame) -> Figure:
    """Reliability of a reward model: observed share of "best" against its predicted probability.

    Columns: `predicted, observed` (0 to 1) and `count` a bin, optional `low, high` (95%) and `run`; such bins come
    from `rlhf_lib.analysis.stats.calibration_bins`. On the diagonal the model is calibrated.
    """
    require_columns(data, ["predicted", "observed", "count"], "calibration_plot")
    figure, axes = new_figure(width=4.6, height=4.2)
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":", label="calibrated")
    for run, rows in data.assign(run=data.get("run", "this run")).groupby("run", sort=False):
        axis.errorbar(
            rows["predicted"],
            rows["observed"],
            yerr=error_lengths(rows, "observed"),
            fmt="-",
            color=colour_of(run),
            label=run,
            linewidth=1.2,
            capsize=2,
        )
        areas = 10 + 90 * rows["count"] / data["count"].max()
        axis.scatter(rows["predicted"], rows["observed"], s=areas, color=colour_of(run), zorder=3)
    percent_axis(axis, "x")
    percent_axis(axis, "y")
    axis.set(xlabel="predicted probability of being best", ylabel="share that was best (mark area: count)")
    axis.legend(frameon=False, loc="upper left")
    return figure


def scores_on_a_line(points: pd.DataFrame, best: int) -> Figure:
    """The responses of one comparison on the line of scores, each with its push, the picked one (`best`) in colour.

    Columns: `response, score`, `p` (chance of being picked, the mark's area), `push` (where a gradient step moves it).
    """
    require_columns(points, ["response", "score", "p", "push"], "scores_on_a_line")
    figure, axes = new_figure(width=6.8, height=2.2)
    axis = axes[0, 0]
    for row in points.itertuples():
        colour = "#D55E00" if row.response == best else "#8C8C8C"
        axis.scatter(row.score, 0, s=900 * row.p, color=colour, zorder=3)
        arrow, height = {"arrowstyle": "->", "color": colour, "lw": 2}, 0.25 + 0.12 * row.response
        axis.annotate("", (row.score + row.push, height), (row.score, height), arrowprops=arrow)
        axis.text(row.score, -0.4, f"$y_{row.response}$\np = {row.p:.2f}", ha="center", va="top", fontsize=9)
    axis.axhline(0, color="black", lw=1)
    axis.set(xlabel="score (area: chance of being picked; arrow: one gradient step)", ylim=(-1.2, 0.8), yticks=[])
    ends = pd.concat([points.score, points.score + points.push])
    axis.set_xlim(ends.min() - 0.6, ends.max() + 0.6)  # room for the words
    return figure


def cost_by_position(costs: pd.DataFrame, half: int, vocabulary: int) -> Figure:
    """What each position of a stretch of `half` random tokens said twice costs a model, and what knowing nothing costs.

    Columns: `position` (1 is the second token), `nats`.
    """
    require_columns(costs, ["position", "nats"], "cost_by_position")
    figure, axes = new_figure(width=6.4, height=3.2)
    axis = axes[0, 0]
    axis.plot(costs["position"], costs["nats"], "o-", color="#D55E00", ms=4)
    axis.axhline(np.log(vocabulary), color="black", ls=":", lw=1, label="knowing nothing: ln(vocabulary)")
    axis.axvspan(half, 2 * half - 1, color="#009E73", alpha=0.12, label="second time")
    axis.set(xlabel="position in the sequence", ylabel="cost (nats a token)", ylim=(0, None))
    figure_legend(figure, axes)
    return figure


def sign_flip(data: pd.DataFrame, pulls: pd.DataFrame | None = None, colours: dict | None = None) -> Figure:
    """The sign-flip bug: each metric against episodes for the right and the flipped run, and where a cord was pulled.

    Columns: `episodes, metric, value, run`; `metric` is the axis label of its panel, with the unit. `pulls` has
    `episodes, reason`, drawn as upright lines. `colours`: one a run, where several runs are of one kind; a run whose
    name ends in "recorded" is drawn dashed.
    """
    require_columns(data, ["episodes", "metric", "value", "run"], "sign_flip")
    metrics = list(dict.fromkeys(data["metric"]))
    figure, axes = _wrapped_panels(len(metrics), width=4.2, height=3.3)
    reasons = [] if pulls is None else list(dict.fromkeys(pulls["reason"]))
    colours = colours_for(data["run"]) | (colours or {})
    styles = dict(zip(reasons, sns.color_palette("dark", max(len(reasons), 1)), strict=False))
    for axis, metric in zip(axes, metrics, strict=True):
        for run, rows in data[data["metric"] == metric].groupby("run", sort=False):
            old = run.endswith("recorded")
            axis.plot(rows["episodes"], rows["value"], color=colours[run], label=run,
                      linestyle="--" if old else "-", linewidth=1.4 if old else 2.4)  # fmt: skip
        for row in [] if pulls is None else pulls.itertuples():
            axis.axvline(
                row.episodes, color=styles[row.reason], linestyle="--", linewidth=1.2, label=f"pulled: {row.reason}"
            )
        axis.set(xlabel="episodes", ylabel=metric)
    figure_legend(figure, axes, ncols=3)
    return figure


def _wrapped_panels(count: int, width: float = 3.3, height: float = 2.8):
    """A figure and its `count` axes, two or three a row: in one row of five the words get too small."""
    columns = count if count <= 3 else 2 if count == 4 else 3
    figure, axes = new_figure(-(-count // columns), columns, width=width, height=height)
    for axis in axes.ravel()[count:]:
        axis.remove()
    return figure, axes.ravel()[:count]


def _by_task(data: pd.DataFrame):
    """(task, rows) pairs in the order in which tasks first appear; one unnamed task where there is no column."""
    return list(data.assign(task=data.get("task", "")).groupby("task", sort=False))


def _panels_by_task(data: pd.DataFrame):
    """An empty figure with one panel a task."""
    return new_figure(1, len(_by_task(data)), width=4.6, height=3.6)


def _run_lines(axis, rows: pd.DataFrame, x: str, y: str, colours: dict[str, str] | None = None) -> None:
    """One line with intervals a run; of one or two points the points alone, for nothing was measured between.

    Where runs share `colours`, the marks of this run are open.
    """
    runs = rows.assign(run=rows.get("run", "this run"))
    own = colours or colours_for(runs["run"])
    for run in ordered(runs["run"]):
        points = runs[runs["run"] == run].sort_values(x)
        is_open = colours is not None and run.endswith("this run")
        axis.errorbar(
            points[x],
            points[y],
            yerr=error_lengths(points, y),
            fmt="o-" if len(points) > 2 else "o",
            markersize=4,
            capsize=2.5,
            linewidth=1.4,
            color=own[run],
            markerfacecolor="white" if is_open else own[run],
            label=run,
        )


def _label_axis(axis, labels: pd.Series) -> None:
    """A label-count axis that shows small and large counts alike: logarithmic above 0, with plain numbers."""
    counts = np.unique(labels.to_numpy(float))
    smallest = counts[counts > 0].min() if (counts > 0).any() else 1.0
    axis.set_xscale("symlog", linthresh=smallest)
    axis.set_xlim(-0.15 * smallest if counts[0] <= 0 else counts[0] / 1.3, max(counts[-1], smallest) * 1.4)
    ticks: list[float] = []
    for count in counts:
        if not ticks or (count >= 1.5 * ticks[-1] and count > 0):
            ticks.append(count)
    axis.set_xticks(ticks, [f"{t / 1000:g}k" if t >= 1000 and t % 100 == 0 else f"{t:,.0f}" for t in ticks])
    axis.tick_params(axis="x", labelsize=8)
    axis.minorticks_off()
    axis.set_xlabel("four-way labels (comparisons)")
