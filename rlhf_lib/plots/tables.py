"""Samples beside or below one another, as HTML tables for a notebook."""

from __future__ import annotations

import html

import pandas as pd

from rlhf_lib.plots.style import colours_for, ordered, require_columns


def samples_side_by_side(samples: pd.DataFrame, limit: int = 5, query_characters: int = 600) -> str:
    """HTML table: one row a query, one column a model, the prompt and (where given) the reference beside them.

    `samples` are sample rows (`rlhf_lib.samples`): `query_id, query, model, response`, optional `reference`. Long
    prompts are cut to `query_characters` and say so; `response_truncated` is shown where there is one. Every text is
    escaped: samples are never read as HTML. A reference that stands among the models gets no second column.
    Show it with `IPython.display.HTML(...)`.
    """
    require_columns(samples, ["query_id", "query", "model", "response"], "samples_side_by_side")
    if "response_truncated" in samples:
        samples = samples.assign(response=samples["response_truncated"].fillna(samples["response"]))
    models = ordered(samples["model"])
    has_reference = "reference" not in models and "reference" in samples and samples["reference"].notna().any()
    heads = ["prompt"] + (["reference"] if has_reference else []) + models
    lines = ['<table style="table-layout:fixed;width:100%;border-collapse:collapse">', "<thead><tr>"]
    colours = colours_for(models) | {"prompt": "#ffffff", "reference": "#000000"}
    lines += [_head_cell(head, colours[head]) for head in heads]
    lines.append("</tr></thead><tbody>")
    for _, rows in list(samples.groupby("query_id", sort=False))[:limit]:
        first = rows.iloc[0]
        cells = [_shortened(str(first["query"]).strip(), query_characters)]
        cells += [_text(first["reference"])] if has_reference else []
        by_model = rows.drop_duplicates("model").set_index("model")["response"]
        cells += [_text(by_model.get(model)) for model in models]
        lines.append("<tr>" + "".join(_body_cell(cell) for cell in cells) + "</tr>")
    lines.append("</tbody></table>")
    return "\n".join(lines)


def text_table(frame: pd.DataFrame) -> str:
    """HTML table of a frame with its texts at the left, as words are read; values are escaped, floats have 2 digits.

    The alignment stands in the cells, because Jupyter takes a Styler's own style sheet out of notebooks it did not run.
    Show it with `IPython.display.HTML(...)`.
    """
    lines = ['<table style="table-layout:auto;width:100%;border-collapse:collapse"><thead><tr>']
    lines += [_head_cell(str(head), "#bbbbbb") for head in (frame.index.name or "", *frame.columns)]
    lines.append("</tr></thead><tbody>")
    for row in frame.itertuples():
        cells = [f"{value:.2f}" if isinstance(value, float) and value == value else _text(value) for value in row]
        lines.append("<tr>" + "".join(_body_cell(cell, "break-word") for cell in cells) + "</tr>")
    lines.append("</tbody></table>")
    return "\n".join(lines)


def samples_along_training(rows: pd.DataFrame, prompt_words: int = 10) -> str:
    """HTML table of the same prompts' responses while a policy is trained: a row a look, a column a prompt.

    rows: `episodes, kl` (nats), `score` (points, may be missing at the start), `query_id, query, response_truncated,
    penalised`. Over each column stands the end of its prompt. Every text is escaped.
    """
    needed = ["episodes", "kl", "score", "query_id", "query", "response_truncated", "penalised"]
    require_columns(rows, needed, "samples_along_training")
    ends = [" ".join(text.split()[-prompt_words:]) for text in rows.drop_duplicates("query_id")["query"]]
    heads = ["episodes", "KL (nats)", "score", *(f"… {end}" for end in ends)]
    narrow = 3 * '<col style="width:6em">'  # the numbers; what is left is the texts'
    lines = [f'<table style="table-layout:fixed;width:100%;border-collapse:collapse">{narrow}<thead><tr>']
    lines += [_head_cell(head, "#bbbbbb") for head in heads]
    lines.append("</tr></thead><tbody>")
    for episodes, look in rows.groupby("episodes", sort=True):
        first = look.iloc[0]
        cells = [f"{episodes:.0f}", f"{first['kl']:z.2f}", "–" if pd.isna(first["score"]) else f"{first['score']:+.2f}"]
        for row in look.to_dict("records"):
            cells.append(row["response_truncated"].strip() + (" [penalised: does not end]" if row["penalised"] else ""))
        lines.append("<tr>" + "".join(_body_cell(cell) for cell in cells) + "</tr>")
    lines.append("</tbody></table>")
    return "\n".join(lines)


def _text(value) -> str:
    """A cell's text without the blanks around it, which are a token's and no reader's; a dash where there is none."""
    return "–" if value is None or value != value else str(value).strip()


def _shortened(text: str, characters: int) -> str:
    """The first characters of a text, saying how many more there are."""
    return text if len(text) <= characters else f"{text[:characters]} … ({len(text) - characters} more characters)"


def _head_cell(name: str, colour: str) -> str:
    """A column's name over a bar in its model's colour."""
    return (
        f'<th scope="col" style="text-align:left;vertical-align:bottom;border-bottom:3px solid {colour}">'
        f"{html.escape(name)}</th>"
    )


def _body_cell(text: str, wrap: str = "anywhere") -> str:
    """One escaped text with its line breaks kept."""
    return (
        f'<td style="text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:{wrap};'
        f'border-bottom:1px solid #ddd">{html.escape(text)}</td>'
    )
