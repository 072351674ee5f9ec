"""House style of every figure: theme, one colour a model, units on the axes, and how a figure is saved.

A figure function takes a data frame and returns a matplotlib figure; it never computes a result, so that the numbers
beside a figure (`save_figure`) are the numbers in it. Published values are always open marks.
"""

from __future__ import annotations

import colorsys
import io
import json
import os
import tempfile
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from rlhf_lib.errors import KitError

# Okabe and Ito's colours, which stay apart for the colour-blind; one a model, the same in every figure of the kit.
MODEL_COLOURS = {
    "reference": "#000000",
    "lead-3": "#CC79A7",
    "lead-3 uncapped": "#7A3E63",  # the same hue, darker
    "zero-shot": "#8C8C8C",
    "supervised": "#56B4E9",
    "supervised + fine-tuned": "#0072B2",
    "fine-tuned": "#D55E00",
}
LABELER_COLOURS = {"hurried": "#E69F00", "careful": "#009E73"}
RUN_COLOURS = {"this run": "#D55E00", "recorded": "#0072B2", "published": "#000000"}
FIXED_COLOURS = {**RUN_COLOURS, **LABELER_COLOURS, **MODEL_COLOURS}
# For names that the kit does not know: Paul Tol's muted colours, apart from one another and from the above.
OTHER_COLOURS = ("#332288", "#E69F00", "#117733", "#882255", "#44AA99", "#999933", "#AA4499", "#661100", "#6699CC")
MODEL_ORDER = list(MODEL_COLOURS)
TASK_TITLES = {"cnndm": "articles (CNN/DM-like)", "tldr": "posts (TL;DR-like)"}
PUBLISHED_MARK = {
    "marker": "D",
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "linestyle": "none",
    "markersize": 6,
}


def colour_of(name: str) -> str:
    """The one colour of a model, labeler or run name; a name the kit does not know gets a hue from its spelling."""
    if name in FIXED_COLOURS:
        return FIXED_COLOURS[name]
    hue = zlib.crc32(str(name).encode()) / 2**32
    red, green, blue = colorsys.hls_to_rgb(hue, 0.42, 0.6)
    return matplotlib.colors.to_hex((red, green, blue))


def colours_for(names) -> dict[str, str]:
    """A colour a name of one figure: the fixed ones where a name has one, else OTHER_COLOURS in the names' order.

    Names unknown to the kit (other people's models) are taken in alphabetical order, so that figures of the same
    models agree.
    """
    unknown = sorted({str(n) for n in names if n not in FIXED_COLOURS})
    others = dict(zip(unknown, OTHER_COLOURS, strict=False))
    return {n: others.get(str(n)) or colour_of(n) for n in dict.fromkeys(names)}


def ordered(names) -> list[str]:
    """Names without repeats: the kit's models first in their fixed order, then all others as they come."""
    seen = list(dict.fromkeys(names))
    return [m for m in MODEL_ORDER if m in seen] + [m for m in seen if m not in MODEL_COLOURS]


def task_title(task: str) -> str:
    """The words over a task's panel."""
    return TASK_TITLES.get(task, str(task))


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, without pyplot's list of open figures (shown once, then let go)."""

    alt = ""  # what it shows, in words: `save_figure` sets it, and the notebook keeps it beside the picture

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
        return (buffer.getvalue(), {"alt": self.alt}) if self.alt else buffer.getvalue()


def new_figure(rows: int = 1, columns: int = 1, width: float = 4.4, height: float = 3.3, **subplots):
    """An empty house-style figure and its `[rows, columns]` array of axes; sizes are inches a panel."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    figure = NotebookFigure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def require_columns(data: pd.DataFrame, columns, figure_name: str) -> None:
    """Raise KitError when the frame of a figure lacks a column or has no row."""
    missing = [c for c in columns if c not in data.columns]
    if missing:
        raise KitError(
            f"The figure {figure_name} needs the column(s) {', '.join(missing)}; the data frame has "
            f"{', '.join(map(str, data.columns)) or 'none'}."
        )
    if data.empty:
        raise KitError(f"The figure {figure_name} got a data frame without rows: there is nothing to draw.")


def error_lengths(data: pd.DataFrame, value: str) -> np.ndarray | None:
    """[2, N] distances below and above `value` from the columns low and high, or None where there are none."""
    if not {"low", "high"} <= set(data.columns) or data[["low", "high"]].isna().all(axis=None):
        return None
    below = (data[value] - data["low"]).clip(lower=0)
    above = (data["high"] - data[value]).clip(lower=0)
    return np.nan_to_num(np.vstack([below, above]).astype(float))


def percent_axis(axis, which: str = "y", low: float = 0.0, high: float = 1.0) -> None:
    """Show shares from 0 to 1 as per cent on one axis."""
    formatter = matplotlib.ticker.PercentFormatter(xmax=1.0, decimals=0)
    (axis.yaxis if which == "y" else axis.xaxis).set_major_formatter(formatter)
    (axis.set_ylim if which == "y" else axis.set_xlim)(low, high)


def figure_legend(figure: Figure, axes, **options) -> None:
    """One legend for all panels, below them, with each label once."""
    entries = {}
    for axis in np.ravel(axes):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
        if axis.get_legend():
            axis.get_legend().remove()
    if entries:
        options = {"loc": "outside lower center", "ncols": min(len(entries), 6), "frameon": False} | options
        figure.legend(list(entries.values()), list(entries), **options)


def save_figure(figure: Figure, data, path_stem: str | os.PathLike, alt: str) -> dict[str, Path]:
    """Write PATH_STEM.png, .svg, .alt.txt and the numbers behind them (.csv for a flat frame, else .json).

    `alt` says in words what the figure shows, for readers who cannot see it. Every file is replaced atomically and
    holds no date, so that the same figure gives the same files. Returns the paths by kind.
    Raises KitError when `alt` is empty or the folder cannot be written.
    """
    if not alt.strip():
        raise KitError(f"The figure {path_stem} has no alt text: say in a sentence what it shows.")
    stem, figure.alt = Path(path_stem), alt.strip()
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "path"}):
            paths = {
                "png": _replace(
                    stem, ".png", lambda f: figure.savefig(f, format="png", dpi=130, metadata={"Software": None})
                ),
                "svg": _replace(
                    stem, ".svg", lambda f: figure.savefig(f, format="svg", metadata={"Date": None, "Description": alt})
                ),
            }
        suffix, content = _numbers(data)
        paths["data"] = _replace(stem, suffix, lambda f: f.write(content.encode()))
        paths["alt"] = _replace(stem, ".alt.txt", lambda f: f.write((alt.strip() + "\n").encode()))
    except OSError as error:
        raise KitError(f"The figure {path_stem} cannot be written ({error}): choose a folder you may write.") from error
    return paths


def keeper(folder: Path):
    """What a notebook calls `keep`: saves a figure with its numbers and words in a run's `figures`, and returns it."""

    def keep(figure: Figure, data, name: str, alt: str) -> Figure:
        save_figure(figure, data, Path(folder) / "figures" / name, alt)
        return figure

    return keep


def _numbers(data) -> tuple[str, str]:
    """File ending and text of the numbers behind a figure."""
    if isinstance(data, pd.DataFrame):
        nested = any(isinstance(v, (list, tuple, dict, np.ndarray)) for v in data.head(1).to_numpy().ravel())
        if not nested:
            return ".csv", data.to_csv(index=False, float_format="%.6g")
        data = json.loads(data.to_json(orient="records"))
    return ".json", json.dumps(data, indent=1, ensure_ascii=False, default=_plain) + "\n"


def _plain(value):
    """A NumPy or pandas value as JSON knows it."""
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records"))
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _replace(stem: Path, suffix: str, write) -> Path:
    """Write one file beside its final name and move it there in one step."""
    target = stem.with_name(stem.name + suffix)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target
