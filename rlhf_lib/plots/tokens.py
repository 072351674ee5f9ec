"""Numbers of tokens, drawn on or under the tokens of the text."""

from __future__ import annotations

import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rlhf_lib.labels.shown import visible
from rlhf_lib.plots.style import new_figure, require_columns

# blue below 0, white at 0, orange above: told apart by the colour-blind, and in grey by the number beside the colour
DIVERGING = LinearSegmentedColormap.from_list("below and above", ["#56B4E9", "#FFFFFF", "#E69F00"])
LINE = 84  # characters of text on one line of a figure
NARROWEST = 6  # characters that a token takes at least, so that its number fits under it
CREDIT = {  # column: (words on the axis, colour)
    "reward": ("reward\n(points)", "#8C8C8C"),
    "value": ("value before\nthe token", "#56B4E9"),
    "advantage": ("advantage", "#D55E00"),
}


def shade(value: float, largest: float) -> str:
    """The colour (#rrggbb) of a number: white at 0, full at +-largest and beyond; white for what is no number."""
    if not largest > 0 or value != value:
        return "#ffffff"
    return to_hex(DIVERGING(0.5 + 0.5 * max(-1.0, min(1.0, value / largest))))


def token_label(text: str) -> str:
    """A token as it can be read alone: hidden characters and line breaks visible, an empty one marked."""
    return visible(text).replace("\n", "⏎").replace("\t", "⇥").strip(" ") or ("␣" if text else "∅")


def tokens_on_text(rows: pd.DataFrame, columns: dict[str, str]) -> Figure:
    """The text of one response, each token coloured by a number that is written under it; a panel a number.

    rows: one a token, in order: `token`, and the named columns. columns: {column: words and unit of its colour bar}.
    Colours are symmetric around 0. Where `read` (optional) is false, the token is slanted and its box dotted: the
    reward model has not seen it.
    """
    require_columns(rows, ["token", *columns], "tokens_on_text")
    labels = [token_label(text) for text in rows["token"]]
    places = _places([max(NARROWEST, len(label) + 1) for label in labels])
    lines = 1 + max(line for line, _, _ in places)
    read = rows.get("read", pd.Series(True, index=rows.index))
    figure, axes = new_figure(len(columns), 1, width=9.0, height=0.35 + 0.5 * lines)
    for axis, (column, words) in zip(axes[:, 0], columns.items(), strict=True):
        axis.set(xlim=(0, LINE), ylim=(lines - 0.2, -0.5))
        axis.axis("off")
        largest = float(rows[column].abs().max())
        for label, value, place, known in zip(labels, rows[column], places, read, strict=True):
            _token(axis, label, value, largest, place, bool(known))
        norm = Normalize(-largest or -1.0, largest or 1.0)
        figure.colorbar(ScalarMappable(norm, DIVERGING), ax=axis, label=words, pad=0.01, aspect=8, shrink=0.95)
    return figure


def _places(widths: list[int]) -> list[tuple[int, int, int]]:
    """(line, first character, width) of each token, wrapped like words."""
    places, line, at = [], 0, 0
    for width in widths:
        if at and at + width > LINE:
            line, at = line + 1, 0
        places.append((line, at, width))
        at += width
    return places


def _token(axis, label: str, value: float, largest: float, place: tuple[int, int, int], read: bool) -> None:
    """One token in its box, its number below."""
    line, at, width = place
    edge = {"edgecolor": "#bbbbbb"} if read else {"edgecolor": "black", "linestyle": ":"}
    axis.add_patch(Rectangle((at, line - 0.4), width - 0.3, 0.48, facecolor=shade(value, largest), **edge))
    middle = at + (width - 0.3) / 2
    words = {"ha": "center", "va": "center", "color": "black", "parse_math": False}  # a $ is a dollar here
    axis.text(
        middle, line - 0.16, label, fontsize=8.5, family="monospace", style="normal" if read else "italic", **words
    )
    axis.text(middle, line + 0.26, f"{value:+z.2f}", fontsize=7, **words)


def credit_under_tokens(rows: pd.DataFrame) -> Figure:
    """One short response: its tokens on top, and under each its reward, the value before it, and its advantage.

    rows: one a token, in order: `token, reward, value, advantage`, all numbers in one unit (points).
    """
    require_columns(rows, ["token", *CREDIT], "credit_under_tokens")
    place = range(len(rows))
    figure, axes = new_figure(3, 1, width=max(4.0, 1.0 + 0.9 * len(rows)), height=1.15, sharex=True)
    for axis, (column, (words, colour)) in zip(axes[:, 0], CREDIT.items(), strict=True):
        if column == "value":  # a guess is a level that lasts until the next one, not an amount
            axis.step([*place, len(rows)], [*rows[column], 0.0], where="post", color=colour, lw=2)
            axis.plot(place, rows[column], "o", color=colour)
        else:
            axis.bar(place, rows[column], width=0.7, color=colour)
        away = 6 if column == "value" else 3  # points, beyond the mark
        for x, value in zip(place, rows[column], strict=True):
            axis.annotate(
                f"{value:+.2f}", (x, value), xytext=(0, away if value >= 0 else -away), textcoords="offset points",
                ha="center", va="bottom" if value >= 0 else "top", fontsize=8,
            )  # fmt: skip
        axis.axhline(0, color="black", lw=0.8)
        axis.set_ylabel(words, fontsize=9)
        axis.margins(y=0.35)
        axis.set_xlim(-0.6, len(rows) - 0.4)
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_xticks(place, [token_label(text) for text in rows["token"]])
    axes[0, 0].tick_params(axis="x", labeltop=True, labelbottom=False, labelsize=12)
    axes[1, 0].tick_params(axis="x", labelbottom=False)
    axes[2, 0].tick_params(axis="x", labelbottom=False)
    axes[2, 0].set_xlabel("time: one token after the other →")
    return figure
