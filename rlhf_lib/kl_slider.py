"""Samples of policies at growing KL: a slider where somebody looks at the page, a plain table where nobody does.

Everything is sampled beforehand, so that moving the slider shows other text at once.
"""

import html

import ipywidgets as widgets
import pandas as pd
from IPython.display import HTML

from rlhf_lib.errors import KitError
from rlhf_lib.labels.widgets import person_present

STATIC_PROMPTS = 2  # shown of each policy where there is no slider


def by_kl(samples: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """(mean KL in nats, its rows) of every policy, nearest to the base first.

    `samples`: `policy` (any name), `policy_kl`, `query_id, query, response_truncated, true`. Raises KitError without
    these columns or rows.
    """
    wanted = ["policy", "policy_kl", "query_id", "query", "response_truncated", "true"]
    missing = [name for name in wanted if name not in samples]
    if missing or samples.empty:
        raise KitError(f"Samples by KL need rows with the columns {', '.join(wanted)}; missing: {missing}.")
    groups = [(float(rows["policy_kl"].iloc[0]), rows) for _, rows in samples.groupby("policy", sort=False)]
    return sorted(groups, key=lambda group: group[0])


def table_at(rows: pd.DataFrame, limit: int | None = None) -> str:
    """HTML of one policy's samples: prompt (its end), response, true reward (log-odds). Every text is escaped."""
    cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px;border-bottom:1px solid #ddd">'
    lines = ['<table style="width:100%"><tr><th>prompt ends</th><th>response</th><th>true reward</th></tr>']
    for row in rows.head(len(rows) if limit is None else limit).itertuples():
        end = "… " + " ".join(row.query.split()[-10:])
        texts = (html.escape(end), html.escape(row.response_truncated.strip()), f"{row.true:+.2f}")
        lines.append("<tr>" + "".join(f"{cell}{text}</td>" for text in texts) + "</tr>")
    return "\n".join([*lines, "</table>"])


def heading(kl: float, rows: pd.DataFrame) -> str:
    """One line over a policy's samples."""
    name = html.escape(str(rows["policy"].iloc[0]))
    return f"<b>{name}: KL {kl:.1f} nats</b>, mean true reward of these {rows['true'].mean():+.2f}"


def static_table(samples: pd.DataFrame) -> HTML:
    """The same without a slider: the first samples of every policy, one below the other."""
    parts = [f"<p>{heading(kl, rows)}</p>{table_at(rows, STATIC_PROMPTS)}" for kl, rows in by_kl(samples)]
    return HTML("\n".join(parts))


def slider(samples: pd.DataFrame) -> widgets.VBox:
    """A slider over the policies' KL, with the samples of the chosen one under it."""
    groups = by_kl(samples)
    names = [f"{kl:.1f} nats" for kl, _ in groups]
    options = [(name if names.count(name) == 1 else f"{name} ({i})", i) for i, name in enumerate(names)]
    choose = widgets.SelectionSlider(options=options, value=0, description="KL", continuous_update=True)
    choose.layout.width = "90%"
    shown = [f"<p>{heading(kl, rows)}</p>{table_at(rows)}" for kl, rows in groups]  # made once: moving is a look-up
    text = widgets.HTML(shown[0])
    choose.observe(lambda change: setattr(text, "value", shown[change["new"]]), names="value")
    return widgets.VBox([choose, text])


def samples_by_kl(samples: pd.DataFrame) -> widgets.VBox | HTML:
    """The slider for a person, the table for a runner or a page that is only read."""
    return slider(samples) if person_present() else static_table(samples)
