"""Figures of the known reward: lines in panels that share their colours, and reward against KL with its optimum."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from rlhf_lib.plots.style import (
    PUBLISHED_MARK,
    colours_for,
    error_lengths,
    figure_legend,
    new_figure,
    require_columns,
)


def lines_by_panel(data: pd.DataFrame, x: str, y: str, xlabel: str, ylabel: str, marks: bool = False) -> Figure:
    """One line a run in each panel, a run the same colour in all of them. Columns: `x`, `y`, `run`, `panel`.

    `marks` draws a point at each value and, where there are columns `low` and `high`, its 95% interval. A panel whose
    name starts with "published" has open marks.
    """
    require_columns(data, [x, y, "run", "panel"], "lines_by_panel")
    panels, colours = list(dict.fromkeys(data["panel"])), colours_for(data["run"])
    figure, axes = new_figure(1, len(panels), width=4.6, height=3.6)
    for axis, panel in zip(axes[0], panels, strict=True):
        inside = data[data["panel"] == panel]
        face = "none" if panel.startswith("published") else None
        for run, rows in inside.groupby("run", sort=False):
            rows = rows.sort_values(x)
            lengths = error_lengths(rows, y) if marks else None
            axis.errorbar(rows[x], rows[y], yerr=lengths, fmt="o-" if marks else "-", markersize=4.5, linewidth=1.4,
                          markerfacecolor=face, capsize=2, color=colours[run], label=run)  # fmt: skip
        axis.set(xlabel=xlabel, ylabel=ylabel, title=panel)
        if inside[x].max() >= 1e5:  # 2M, not 2.0 and a "1e6" in the corner
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure_legend(figure, axes)
    return figure


def reward_kl_frontier(data: pd.DataFrame, optimum: pd.DataFrame | None = None) -> Figure:
    """Mean reward against KL from the reference: one point a policy, one colour a run, the analytic optimum dashed.

    Columns: `kl` (nats a response), `reward`, `run`, optional `low, high` (95%) and `panel` (the paper's points go
    into one of their own, for its rewards and nats are another model's). `optimum` has `kl, reward` of π ∝ ρ·exp(r/β),
    and `panel` where the data has.
    """
    require_columns(data, ["kl", "reward", "run"], "reward_kl_frontier")
    data = data.assign(panel=data.get("panel", ""))
    xlabel, ylabel = "KL from the reference (nats a response)", "mean true reward"
    figure = lines_by_panel(data, "kl", "reward", xlabel, ylabel, marks=True)
    if optimum is not None:
        optimum = optimum.assign(panel=optimum.get("panel", ""))
        for axis, panel in zip(figure.axes, dict.fromkeys(data["panel"]), strict=True):
            rows = optimum[optimum["panel"] == panel].sort_values("kl")
            axis.plot(rows["kl"], rows["reward"], color="black", linestyle="--", label="analytic optimum")
            if panel.startswith("published"):
                axis.plot(rows["kl"], rows["reward"], **PUBLISHED_MARK)
    for legend in list(figure.legends):
        legend.remove()
    figure_legend(figure, figure.axes)
    return figure
