"""The benchmark's figure: ratios to the peers, shares of the floor, and growth."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rlhf_lib.plots.style import OTHER_COLOURS, figure_legend, new_figure, save_figure

WORDS = {"score": "scoring", "sample": "sampling", "four": "sampling fours", "fit": "reward fit", "phases": "PPO"}


def save(found: dict, stem: Path) -> None:
    """Draw what `bench.py` found and write it beside its numbers (`stem`.growth.csv holds the growth's)."""
    figure, axes = new_figure(2, 3)
    compared, growth = pd.DataFrame(found["compared"]), pd.DataFrame(found["growth"])
    _ratios(axes[0, 0], compared)
    _shares(axes[0, 1], compared)
    _memory(axes[0, 2], pd.DataFrame(found["memory"]))
    for axis, along in zip(axes[1], ("batch", "length", "width"), strict=True):
        _growth(axis, growth[growth.along == along], along)
    figure_legend(figure, axes[1])
    machine = found["machine"]
    ratios = (
        "no peers were run"
        if "ratio" not in compared
        else "; ".join(
            f"{WORDS[r.what]} at {r['size']} {r.ratio:.2f} times the peer's rate" for _, r in compared.iterrows()
        )
    )
    save_figure(figure, growth, stem.with_name(f"{stem.name}_growth"),
                f"Speed of the kit on {machine['cpu']}, {machine['threads']} thread(s): {ratios}. Below, seconds "
                "against batch, response length and width on logarithmic axes, beside a line of slope 1.")  # fmt: skip


def _ratios(axis, compared: pd.DataFrame) -> None:
    axis.set(title="rate over the peer's (median, range)", xlabel="times as fast")
    if "ratio" not in compared:
        axis.text(0.5, 0.5, "no peers were run", ha="center", transform=axis.transAxes)
        return
    names = [f"{WORDS[what]} {size}" for what, size in zip(compared.what, compared["size"], strict=True)]
    reach = [compared.ratio - compared.lowest, compared.highest - compared.ratio]
    axis.errorbar(compared.ratio, names, xerr=reach, fmt="o", color=OTHER_COLOURS[0])
    axis.axvline(1, color="black", linewidth=0.8)
    axis.invert_yaxis()
    axis.set_xlim(left=0)


def _shares(axis, compared: pd.DataFrame) -> None:
    names, shares = [], []
    for row in compared.to_dict("records"):
        for phase, share in row["share_of_floor"].items():
            names.append(f"{WORDS[row['what']]} {row['size']}" + ("" if phase == "all" else f": {phase}"))
            shares.append(share)
    axis.barh(names, shares, color=OTHER_COLOURS[4])
    axis.set(title="floor's share of the time", xlabel="1: arithmetic and nothing else", xlim=(0, 1))
    axis.tick_params(axis="y", labelsize=6)
    axis.invert_yaxis()


def _memory(axis, memory: pd.DataFrame) -> None:
    axis.bar(memory.batch.astype(str), memory.peak - memory.before, color=OTHER_COLOURS[1])
    axis.set(title="memory of one update", xlabel="batch (micro-batch stays)", ylabel="MiB above the models")


def _growth(axis, rows: pd.DataFrame, along: str) -> None:
    axis.set(title=f"growth with {along}", xlabel=along, ylabel="seconds", xscale="log", yscale="log")
    if rows.empty:
        axis.text(0.5, 0.5, "not in the quick version", ha="center", transform=axis.transAxes)
        return
    places = rows["size"].str.split("x").str[1].astype(int) if along == "width" else rows[along]
    for colour, (what, part) in zip(OTHER_COLOURS, rows.assign(place=places).groupby("what"), strict=False):
        axis.plot(part.place, part.seconds, "o-", color=colour, label=WORDS[what])
        first = part.iloc[0]
        axis.plot(part.place, first.seconds * part.place / first.place, ":", color=colour, linewidth=0.8)
    axis.set_xticks(sorted(set(places)), sorted(set(places)))
    axis.xaxis.minorticks_off()
