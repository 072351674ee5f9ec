"""Figures of the sign flip and the monitors: likelihood against score, the probe's effect, sick runs' curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlhf_lib.plots.style import colours_for, figure_legend, new_figure, require_columns

CONDITION_COLOURS = {
    "base": "#8C8C8C", "control": "#0072B2", "both_flipped": "#D55E00", "total_flipped": "#CC79A7",
    "kl_flipped": "#E69F00",
}  # fmt: skip
CASE_COLOUR, HEALTHY_COLOUR = "#D55E00", "#8C8C8C"


def likelihood_against_score(data: pd.DataFrame, names: dict[str, str] | None = None) -> Figure:
    """Log-likelihood a token under the base against the score, one mark a training: coherent is up, liked is right.

    Columns: `condition, score, loglik, run` ("this run" has filled marks, "recorded" open ones); rows of condition
    "base" are where all began. names: what the legend calls a condition.
    """
    require_columns(data, ["condition", "score", "loglik", "run"], "likelihood_against_score")
    figure, axes = new_figure(width=6.2, height=4.0)
    axis = axes[0, 0]
    for (condition, run), rows in data.groupby(["condition", "run"], sort=False):
        colour = CONDITION_COLOURS.get(condition) or colours_for([condition])[condition]
        label = f"{(names or {}).get(condition, condition)}, {run}"
        axis.plot(rows["score"], rows["loglik"], linestyle="none", markersize=9, markeredgecolor=colour, label=label,
                  marker="s" if condition == "base" else "o",
                  markerfacecolor=colour if run == "this run" else "none")  # fmt: skip
    axis.set(
        xlabel="score as the labelers were told to (log-odds)", ylabel="log-likelihood under the base\n(nats a token)"
    )
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def probe_effect(data: pd.DataFrame, bound: float, sick: str) -> Figure:
    """How the policy moves between labeled pairs, update by update: healthy runs, one sick kind, and the bound.

    Columns: `step, kind, seed, value`, where value is minus the effect size: above 0 is towards the worse responses.
    """
    require_columns(data, ["step", "kind", "seed", "value"], "probe_effect")
    figure, axes = new_figure(width=6.0, height=3.4)
    axis = axes[0, 0]
    for (kind, _), rows in data.dropna(subset=["value"]).groupby(["kind", "seed"], sort=False):
        ill = kind == sick
        axis.plot(rows["step"], rows["value"], "o-", markersize=3, linewidth=1.3,
                  color=CASE_COLOUR if ill else HEALTHY_COLOUR, label="sign flipped" if ill else "healthy")  # fmt: skip
    axis.axhline(bound, color="black", linestyle="--", linewidth=1.2, label="bound")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(xlabel="update", ylabel="towards the worse responses\n(effect size, standard deviations)")
    figure_legend(figure, axes)
    return figure


def casebook_curves(data: pd.DataFrame, columns: int = 3) -> Figure:
    """One panel a case: the number that gives it away in the sick runs, beside healthy ones, and its bound.

    Columns: `case` (panel title), `label` (axis), `step, value, bound, kind` ("sick" or "healthy"), `seed`.
    """
    require_columns(data, ["case", "label", "step", "value", "bound", "kind", "seed"], "casebook_curves")
    cases = list(dict.fromkeys(data["case"]))
    rows = -(-len(cases) // columns)
    figure, axes = new_figure(rows, columns, width=3.4, height=2.6)
    for axis, case in zip(axes.flat, cases, strict=False):
        mine = data[data["case"] == case]
        for (kind, _), run in mine.dropna(subset=["value"]).groupby(["kind", "seed"], sort=False):
            axis.plot(run["step"], run["value"], linewidth=1.4, marker="o", markersize=2.5, label=kind,
                      color=CASE_COLOUR if kind == "sick" else HEALTHY_COLOUR)  # fmt: skip
        axis.axhline(mine["bound"].iloc[0], color="black", linestyle="--", linewidth=1.2, label="bound")
        axis.set(title=case, xlabel="update", ylabel=mine["label"].iloc[0])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no update 2.5
    for axis in axes.flat[len(cases) :]:
        axis.set_visible(False)
    figure_legend(figure, axes)
    return figure


def collapse_curves(data: pd.DataFrame) -> Figure:
    """The same training, as it was and changed: a panel a quantity, a line a training, logarithmic upwards.

    Columns: `step, value, panel` (its name with the unit), `run` (what was changed; one colour each), `seed`. What is
    not above 0 has no place on such an axis and is left out.
    """
    require_columns(data, ["step", "value", "panel", "run", "seed"], "collapse_curves")
    panels, colours = list(dict.fromkeys(data["panel"])), colours_for(data["run"])
    figure, axes = new_figure(1, len(panels), width=3.2, height=3.0)
    for axis, panel in zip(axes[0], panels, strict=True):
        inside = data[(data["panel"] == panel) & (data["value"] > 0)]
        for (run, _), rows in inside.groupby(["run", "seed"], sort=False):
            axis.plot(rows["step"], rows["value"], linewidth=1.2, color=colours[run], label=run)
        axis.set(title=panel, xlabel="update", yscale="log")
    figure_legend(figure, axes)
    return figure
