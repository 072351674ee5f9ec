"""Small pieces of HTML that the widgets and their static forms share. Every text is escaped and kept as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from rlhf_lib.labels.shown import as_html
from rlhf_lib.plots.tokens import shade, token_label

PROSE = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], fixed: bool = False) -> str:
    """An HTML table. `heads` are plain words; a cell of `rows` is a finished `<td>`.

    Its looks are attributes as far as they can be: a style at each of some hundred cells would swell a notebook.
    """
    layout = ' style="table-layout:fixed;width:100%"' if fixed else ""
    side = "left" if fixed else "right"  # over texts or over numbers
    top = "".join(f'<th scope="col" style="text-align:{side}">{html.escape(head)}</th>' for head in heads)
    lines = ["<tr>" + "".join(row) + "</tr>" for row in rows]
    return f'<table cellpadding="4"{layout}><tr>{top}</tr>\n' + "\n".join(lines) + "\n</table>"


def prose(text: str) -> str:
    """A cell that shows exactly this text, line breaks kept."""
    return f'<td style="{PROSE}">{as_html(text)}</td>'


def number(value: float, digits: int = 2, largest: float | None = None) -> str:
    """A cell with a signed number, coloured around 0 if `largest` says what full colour is."""
    colour = "" if largest is None else f' style="background:{shade(value, largest)};color:#000"'
    return f'<td align="right"{colour}>{value:+z.{digits}f}</td>'


def token(text: str) -> str:
    """A cell with one token, as it can be read alone."""
    return f'<td style="text-align:left"><code>{html.escape(token_label(text))}</code></td>'


def coloured(texts: Sequence[str], values: Sequence[float], largest: float) -> str:
    """A text whose tokens are coloured by a number each, the number in its tooltip."""
    spans = [
        f'<span style="background:{shade(value, largest)};color:#000" title="{value:+z.2f}">{as_html(text)}</span>'
        for text, value in zip(texts, values, strict=True)
    ]
    return f'<span style="white-space:pre-wrap;line-height:1.8">{"".join(spans)}</span>'
