"""The sample browser: one context at a time, with what every model makes of it beside one another."""

from __future__ import annotations

import html
import random
from dataclasses import dataclass

import ipywidgets as widgets
import pandas as pd

from rlhf_lib.analysis.baselines import REFERENCE
from rlhf_lib.browse.html import PROSE, prose, table
from rlhf_lib.browse.shown import Shown
from rlhf_lib.labels.shown import as_html
from rlhf_lib.plots.style import ordered, require_columns, task_title

STATIC_ENTRIES = 4  # shown of each set where nothing can be clicked
CONTEXT_CHARACTERS = 600  # of a context on a static page; the widget shows all of it


@dataclass(frozen=True)
class Entry:
    """One context and its responses.

    responses: {model: (text up to the cut, what was sampled after it, penalised)}; the reference, if there is one,
    is the first of them. The second text is empty unless the set is of raw samples.
    """

    query: str
    preamble: bool
    responses: dict[str, tuple[str, str, bool]]

    @property
    def penalised(self) -> bool:
        """Whether any model's response is."""
        return any(bad for _, _, bad in self.responses.values())


def sets_of(samples: pd.DataFrame) -> dict[str, list[Entry]]:
    """The contexts of each set of samples, by the set's name. A set has one row a context and model.

    `samples` are sample rows (`rlhf_lib.samples`); rows of several tasks or seeds, or raw ones beside those that
    labelers see (column `shown`), are sets of their own. Raises KitError without the required columns or rows.
    """
    require_columns(samples, ["query_id", "query", "model", "response"], "sample browser")
    by = [name for name in ("task", "seed", "shown") if name in samples and samples[name].nunique(dropna=False) > 1]
    if not by:
        return {"all": _entries(samples, raw=False)}
    found = {}
    for key, rows in samples.groupby(by, sort=False, dropna=False):
        named = dict(zip(by, key, strict=True))
        found[_set_name(named)] = _entries(rows, raw=named.get("shown", True) is not True and "shown" in named)
    return found


def _set_name(named: dict) -> str:
    """Words for a set: what it has of task, seed and kind."""
    words = [task_title(named["task"])] if "task" in named else []
    words += [f"seed {named['seed']}"] if "seed" in named else []
    if "shown" in named:
        words.append("as labelers see them" if named["shown"] else "raw, as sampled")
    return ", ".join(words)


def _entries(rows: pd.DataFrame, raw: bool) -> list[Entry]:
    """One entry a query, in the rows' order; models in the kit's order."""
    models, found = ordered(rows["model"]), []
    for _, group in rows.groupby("query_id", sort=False):
        first, by_model = group.iloc[0], group.drop_duplicates("model").set_index("model")
        reference = _given(first.get("reference"))
        responses = {REFERENCE: (reference, "", False)} if reference and REFERENCE not in models else {}
        for model in models:
            if model in by_model.index:
                responses[model] = _response(by_model.loc[model], raw)
        found.append(Entry(str(first["query"]), _true(first.get("starts_with_preamble")), responses))
    return found


def _response(row: pd.Series, raw: bool) -> tuple[str, str, bool]:
    whole = str(row["response"])
    cut = _given(row.get("response_truncated")) or whole
    rest = whole[len(cut) :] if raw and whole.startswith(cut) else ""
    return cut, rest, _true(row.get("penalised"))


def _given(value) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)


def _true(value) -> bool:
    """A flag that may be missing."""
    return value is not None and value is not pd.NA and value == value and bool(value)


def matching(entries: list[Entry], text: str = "", preamble: bool = False, penalised: bool = False) -> list[int]:
    """Places of the entries that fit: `text` stands in context or a response (capitals don't count), and the flags."""
    wanted = text.strip().casefold()
    return [
        place
        for place, entry in enumerate(entries)
        if (not preamble or entry.preamble)
        and (not penalised or entry.penalised)
        and (not wanted or any(wanted in said.casefold() for said in _texts(entry)))
    ]


def _texts(entry: Entry) -> list[str]:
    return [entry.query, *(cut + rest for cut, rest, _ in entry.responses.values())]


def card(entry: Entry, characters: int | None = None) -> str:
    """HTML of one entry: the context (its first `characters`), then a column for each response. Texts are escaped."""
    context = entry.query.strip()
    over = len(context) - characters if characters else 0
    context = context if over <= 0 else f"{context[:characters]} … ({over} more characters)"
    said = " (starts with a preamble)" if entry.preamble else ""
    cells = []
    for cut, rest, bad in entry.responses.values():
        cell = prose(cut.strip()).removesuffix("</td>")
        cell += f'<span style="color:#888" title="after the cut">{as_html(rest)}</span>' if rest else ""
        cells.append(cell + ("<br><i>penalised: does not end in time</i></td>" if bad else "</td>"))
    head = f'<p style="{PROSE}"><b>context{said}:</b> {as_html(context)}</p>'
    return head + table(list(entry.responses), [cells], fixed=True)


def static_samples(samples: pd.DataFrame, limit: int = STATIC_ENTRIES) -> str:
    """The first `limit` contexts of each set below one another, and how many there are."""
    parts = []
    for name, entries in sets_of(samples).items():
        title = "" if name == "all" else f"<b>{html.escape(name)}</b>: "
        parts.append(f"<p>{title}the first {min(limit, len(entries))} of {len(entries)} contexts, not chosen ones</p>")
        parts += [card(entry, CONTEXT_CHARACTERS) for entry in entries[:limit]]
    return "\n".join(parts)


class SampleBrowser(widgets.VBox):
    """Previous, next, shuffle, and filters, over the sets of `sets_of`; starts at the first context."""

    def __init__(self, samples: pd.DataFrame, seed: int = 1):
        self.sets = sets_of(samples)
        self._random = random.Random(seed)
        self.order: list[int] = []  # places in the set, of what passes the filters
        self.at = 0  # in that order
        self.choose = widgets.Dropdown(options=list(self.sets), description="set")
        self.search = widgets.Text(placeholder="only texts with …", description="search")
        self.preamble = widgets.Checkbox(description="with a preamble", indent=False)
        self.penalised = widgets.Checkbox(description="penalised", indent=False)
        self.buttons = {what: widgets.Button(description=what) for what in ("← previous", "next →", "shuffle")}
        self.place, self.text = widgets.HTML(), widgets.HTML()
        for button, act in zip(self.buttons.values(), (self.previous, self.next, self.shuffle), strict=True):
            button.on_click(lambda _, act=act: act())
        for filter_ in (self.choose, self.search, self.preamble, self.penalised):
            filter_.observe(lambda _: self._filter(), names="value")
        self._filter()
        super().__init__([self._row(), widgets.HBox([*self.buttons.values(), self.place]), self.text])

    def _row(self) -> widgets.Box:
        """The filters that can make a difference in these samples."""
        entries = [entry for each in self.sets.values() for entry in each]
        row = [self.choose] if len(self.sets) > 1 else []
        row.append(self.search)
        row += [self.preamble] if any(entry.preamble for entry in entries) else []
        row += [self.penalised] if any(entry.penalised for entry in entries) else []
        box = widgets.HBox(row)
        box.layout.flex_flow = "row wrap"
        for checkbox in (self.preamble, self.penalised):
            checkbox.layout.width = "auto"
        return box

    @property
    def entries(self) -> list[Entry]:
        """All entries of the chosen set."""
        return self.sets[self.choose.value]

    def previous(self) -> None:
        """The entry before; the last one before the first."""
        self._go(self.at - 1)

    def next(self) -> None:
        """The entry after; the first one after the last."""
        self._go(self.at + 1)

    def shuffle(self) -> None:
        """Those that pass the filters, in a new order."""
        self._random.shuffle(self.order)
        self._go(0)

    def _filter(self) -> None:
        self.order = matching(self.entries, self.search.value, self.preamble.value, self.penalised.value)
        self._go(0)

    def _go(self, at: int) -> None:
        """Show the entry at a place of the order, which goes round."""
        self.at = at % len(self.order) if self.order else 0
        among = "" if len(self.order) == len(self.entries) else f" (of {len(self.entries)})"
        self.place.value = f"{self.at + 1} of {len(self.order)}{among}" if self.order else "nothing fits these filters"
        self.text.value = card(self.entries[self.order[self.at]]) if self.order else ""


def browse_samples(samples: pd.DataFrame, limit: int = STATIC_ENTRIES) -> Shown:
    """The browser for a person; for a runner and a page that is only read, the first `limit` contexts of each set.

    samples: sample rows; sets are tasks, seeds, and raw samples beside those that labelers see. Raises KitError
    without `query_id, query, model, response` or rows.
    """
    return Shown(lambda: SampleBrowser(samples), static_samples(samples, limit))
