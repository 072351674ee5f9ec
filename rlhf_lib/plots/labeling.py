"""Figures of label quality: a `rlhf_lib.labels.quality.Reading` (or a labels frame) in, a matplotlib figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlhf_lib.errors import KitError
from rlhf_lib.labels.quality import CHANCE, FLOOR_SECONDS, PUBLISHED, Reading
from rlhf_lib.plots.style import colours_for, new_figure, percent_axis, require_columns

PEOPLE = "#999999"
ALARM = "#D55E00"
CALM = "#0072B2"


def agreement_by_labeler(reading: Reading) -> Figure:
    """Each labeler's agreement with the others (95%), beside what the paper reports of people, and chance."""
    figure = _shares(reading, "agrees with the others")
    axis, published = figure.axes[0], reading.numbers.get("published")  # known of four-way comparisons alone
    if published:
        low, high = published["authors with labelers"]
        axis.axvspan(low, high, color=PEOPLE, alpha=0.25, lw=0, label="people: authors with labelers")
        among = published["authors with each other"][0]
        axis.axvline(among, color=PEOPLE, ls="--", label="people: authors among themselves")
    return _with_legend(figure)


def gold_by_labeler(reading: Reading) -> Figure:
    """Share of gold items that each labeler answered right (95%), and chance."""
    return _with_legend(_shares(reading, "gold items right"))


def repeats_by_labeler(reading: Reading) -> Figure:
    """Share of repeated items that each labeler answered as before (95%), and chance."""
    return _with_legend(_shares(reading, "same answer when shown again"))


def copying_by_labeler(reading: Reading) -> Figure:
    """How often each labeler picked the candidate that copies most (95%), and chance."""
    return _with_legend(_shares(reading, "picked the one that copies most"))


def positions_by_labeler(reading: Reading) -> Figure:
    """Share of each labeler's picks at each position shown, and the uniform share."""
    counts = reading.table.filter(like="position ")
    _refuse_empty(counts, reading)
    shares = counts.div(counts.sum(axis=1), axis=0)
    figure, axes = new_figure(width=6.0, height=0.9 + 0.45 * len(shares))
    axis, left = axes[0, 0], np.zeros(len(shares))
    for shade, name in zip(("#08306b", "#2171b5", "#6baed6", "#c6dbef"), shares.columns, strict=False):
        axis.barh(shares.index.astype(str), shares[name], left=left, color=shade, label=name, height=0.7)
        left += shares[name].to_numpy()
    for edge in range(1, shares.shape[1]):
        axis.axvline(edge / shares.shape[1], color="black", lw=0.8, ls=":")
    axis.invert_yaxis()
    axis.set_xlabel("share of picks (dotted: uniform)")
    percent_axis(axis, "x")
    return _with_legend(figure)


def seconds_by_labeler(labels: pd.DataFrame, floor: float = FLOOR_SECONDS) -> Figure:
    """Seconds of every answer by labeler (log scale), and the floor under which four texts cannot be read."""
    require_columns(labels, ["labeler", "seconds"], "seconds_by_labeler")
    rows = labels.dropna(subset=["seconds"])
    if rows.empty:
        raise KitError("There is nothing to draw for speed: no answer has a time.")
    names = sorted(rows["labeler"].unique())
    figure, axes = new_figure(width=6.0, height=0.9 + 0.45 * len(names))
    axis = axes[0, 0]
    seconds = [rows.loc[rows["labeler"] == name, "seconds"].clip(lower=0.05) for name in names]
    axis.boxplot(
        seconds, orientation="horizontal", tick_labels=names, showfliers=False, widths=0.6, medianprops={"color": ALARM}
    )
    axis.set_xscale("log")
    axis.set_xticks([0.1, 0.3, 1, 3, 10, 30, 100], ["0.1", "0.3", "1", "3", "10", "30", "100"], minor=False)
    axis.minorticks_off()
    axis.set_xlim(min(s.min() for s in seconds) / 1.2, max(s.max() for s in seconds) * 1.2)
    axis.axvline(floor, color=ALARM, ls="--", label=f"floor: {floor:g} s")
    axis.invert_yaxis()
    axis.set_xlabel("seconds an answer (box: middle half)")
    return _with_legend(figure)


def drift_by_labeler(reading: Reading) -> Figure:
    """Agreement with the others and median seconds in consecutive slices of each labeler's work."""
    _refuse_empty(reading.table, reading)
    table = reading.table.reset_index()
    figure, axes = new_figure(columns=2, width=4.2)
    colours = colours_for(table["labeler"])
    for name, mine in table.groupby("labeler"):
        for axis, column in zip(axes[0], ("agrees", "seconds"), strict=True):
            axis.plot(
                mine["slice"],
                mine[column],
                marker="o",
                ms=4,
                color=colours[name],
                label=str(name) if column == "agrees" else None,
            )
    axes[0, 0].axhline(reading.numbers["chance"], color="black", lw=0.8, ls=":")
    axes[0, 0].set(xlabel="slice of a labeler's work", ylabel="agrees with the others")
    axes[0, 1].set(xlabel="slice of a labeler's work", ylabel="median seconds an answer", ylim=(0, None))
    percent_axis(axes[0, 0], "y")
    for axis in axes[0]:
        axis.set_xticks(sorted(table["slice"].unique()))
    return _with_legend(figure)


def guessing_signs(reading: Reading) -> Figure:
    """How surprising each labeler's answers are for somebody who reads (p, corrected), the suspects marked."""
    _refuse_empty(reading.table, reading)
    table = reading.table
    figure, axes = new_figure(width=6.0, height=0.9 + 0.4 * len(table))
    axis = axes[0, 0]
    colours = [ALARM if suspect else CALM for suspect in table["suspect"]]
    strength = -np.log10(table["p"].astype(float).clip(lower=1e-12))
    axis.barh(table.index.astype(str), strength, color=colours, height=0.6)
    axis.axvline(-np.log10(reading.numbers["level"]), color="black", lw=0.8, ls=":")
    axis.text(
        -np.log10(reading.numbers["level"]),
        1.01,
        "alarm",
        transform=axis.get_xaxis_transform(),
        ha="center",
        va="bottom",
        fontsize="small",
    )
    axis.invert_yaxis()
    axis.set_xlabel("evidence of guessing, −log10(p)")
    return figure


def agreement_by_noise(curve: pd.DataFrame, chosen: float) -> Figure:
    """How often two simulated labelers agree (`agreement`) against their `noise`, in score points; one is `chosen`."""
    require_columns(curve, ["noise", "agreement"], "agreement_by_noise")
    figure, axes = new_figure(width=5.6)
    axis = axes[0, 0]
    axis.plot(curve["noise"], curve["agreement"], color=CALM)
    low, high = PUBLISHED["authors with labelers"]
    axis.axhspan(low, high, color=PEOPLE, alpha=0.25, lw=0, label="people: authors with labelers")
    axis.axhline(CHANCE, color="black", lw=0.8, ls=":", label="chance")
    axis.plot([chosen], [np.interp(chosen, curve["noise"], curve["agreement"])], "o", color=ALARM, label="chosen")
    axis.set(xlabel="noise (score points, standard deviation)", ylabel="two labelers agree", xlim=(0, None))
    percent_axis(axis, "y")
    axis.legend(frameon=False)
    return figure


def _shares(reading: Reading, xlabel: str) -> Figure:
    """One horizontal point with its interval a labeler, from the table's columns share, low, high."""
    table = reading.table
    _refuse_empty(table, reading)
    figure, axes = new_figure(width=6.0, height=1.0 + 0.4 * len(table))
    axis, rows = axes[0, 0], np.arange(len(table))
    spread = np.vstack([table["share"] - table["low"], table["high"] - table["share"]]).astype(float).clip(min=0)
    axis.errorbar(table["share"], rows, xerr=spread, fmt="o", color=CALM, capsize=3, label="a labeler (95%)")
    axis.axvline(reading.numbers["chance"], color="black", lw=0.8, ls=":", label="chance")
    axis.set_yticks(rows, [f"{name} (n={n})" for name, n in zip(table.index, table["n"], strict=True)])
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_xlabel(xlabel)
    percent_axis(axis, "x")
    return figure


def _with_legend(figure: Figure) -> Figure:
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=2 if max(map(len, names)) > 20 else 5, frameon=False
    )
    return figure


def _refuse_empty(table: pd.DataFrame, reading: Reading) -> None:
    if table.empty:
        raise KitError(f"There is nothing to draw for {reading.name}: {reading.sentence}")
