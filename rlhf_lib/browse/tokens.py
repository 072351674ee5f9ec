"""The token inspector: point at a token of a response and read all that PPO knows about it."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import traitlets

from rlhf_lib.browse.html import number, table, token
from rlhf_lib.browse.shown import Shown
from rlhf_lib.labels.shown import as_html, visible
from rlhf_lib.labels.theme import themed
from rlhf_lib.plots.style import require_columns
from rlhf_lib.plots.tokens import shade

try:
    import anywidget
except ImportError:  # the table says the same
    anywidget = None

HERE = Path(__file__).parent
STATIC_EPISODES = 2


@dataclass(frozen=True)
class Field:
    """A number of a token: its column, a short name, and what it is."""

    name: str
    label: str
    about: str


FIELDS = (
    Field("logprob", "log π", "log-probability under the policy, nats"),
    Field("ref_logprob", "log ρ", "log-probability under the reference (the base), nats"),
    Field("kl", "log π − log ρ", "what this token adds to the KL of the response, nats"),
    Field("reward", "reward", "−β · (log π − log ρ), and the score at the last token; points"),
    Field(
        "reward_scaled",
        "scaled",
        "the reward as PPO takes it: (reward − mean) / standard deviation + mean, over the batch",
    ),
    Field("value", "value", "what the value head expected before this token, scaled points"),
    Field("advantage", "advantage", "GAE of the scaled rewards and the values, scaled points"),
    Field("push", "whitened", "the advantage as the loss takes it: mean 0 and variance 1 in the batch"),
)


def heading(rows: pd.DataFrame) -> str:
    """One line over an episode, as plain text."""
    first = rows.iloc[0]
    ended = "ends in time" if first["passes"] else "does not end in time: penalised"
    return f"episode {first['episode']}: score {first['score']:+.2f} points, KL {rows['kl'].sum():.2f} nats; {ended}"


def episodes_of(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each episode, tokens in order. Raises KitError without the columns of `inspect_tokens`."""
    names = ["episode", "position", "token", "context", "score", "passes", "read", *(field.name for field in FIELDS)]
    require_columns(rows, names, "token inspector")
    return [group.sort_values("position") for _, group in rows.groupby("episode", sort=False)]


def _largest(rows: pd.DataFrame) -> dict[str, float]:
    """What counts as full colour for each number: the largest of all tokens shown."""
    return {field.name: float(rows[field.name].abs().max()) for field in FIELDS}


def static_tokens(rows: pd.DataFrame, limit: int = STATIC_EPISODES) -> str:
    """HTML: what each column is, and for the first `limit` episodes a table with a row a token."""
    episodes, largest = episodes_of(rows), _largest(rows)
    meant = "; ".join(f"<b>{html.escape(field.label)}</b>: {html.escape(field.about)}" for field in FIELDS)
    parts = [f"<p>{meant}; <b>read</b>: whether the reward model read it (– after the cut)</p>"]
    heads = ["token", *(field.label for field in FIELDS), "read"]
    for group in episodes[:limit]:
        lines = [
            [token(row["token"]), *(number(row[f.name], 2, largest[f.name]) for f in FIELDS),
             f"<td>{'yes' if row['read'] else '–'}</td>"]
            for row in group.to_dict("records")
        ]  # fmt: skip
        parts.append(f"<p><b>{html.escape(heading(group))}</b><br>{as_html(group['context'].iloc[0].strip())}</p>")
        parts.append(table(heads, lines))
    return "\n".join(parts)


def for_the_page(rows: pd.DataFrame) -> list[dict]:
    """Episodes as the page's script takes them: `title, context, tokens`, each with its numbers and colours."""
    largest = _largest(rows)
    return [
        {
            "title": heading(group),
            "context": visible(group["context"].iloc[0]),
            "tokens": [
                {
                    "text": visible(row["token"]),
                    "read": bool(row["read"]),
                    "numbers": {field.name: f"{row[field.name]:+z.3f}" for field in FIELDS},
                    "colours": {field.name: shade(row[field.name], largest[field.name]) for field in FIELDS},
                }
                for row in group.to_dict("records")
            ],
        }
        for group in episodes_of(rows)
    ]


if anywidget is not None:

    class TokenInspector(anywidget.AnyWidget):
        """Tokens coloured by one number; pointing at one (mouse, touch, Tab, arrow keys) shows all of its numbers.

        Everything happens on the page, so that it stays quick while the kernel is busy.
        """

        _esm = HERE / "tokens.js"
        _css = themed(HERE / "tokens.css")
        episodes = traitlets.List().tag(sync=True)
        fields = traitlets.List().tag(sync=True)
        colour = traitlets.Unicode("advantage").tag(sync=True)  # the number that colours the tokens
        episode = traitlets.Int(0).tag(sync=True)
        position = traitlets.Int(-1).tag(sync=True)  # of the token looked at; -1: none


def inspector(rows: pd.DataFrame) -> object:
    """The widget; where anywidget is not installed, the table."""
    if anywidget is None:
        return widgets.HTML(static_tokens(rows))
    return TokenInspector(episodes=for_the_page(rows), fields=[asdict(field) for field in FIELDS])


def inspect_tokens(rows: pd.DataFrame, limit: int = STATIC_EPISODES) -> Shown:
    """The inspector for a person; for a runner and a page that is only read, tables of the first `limit` episodes.

    rows: one a token, as `rlhf_lib.inspect_tokens.token_rows` makes them. Raises KitError without its columns or rows.
    """
    return Shown(lambda: inspector(rows), static_tokens(rows, limit))
