"""The reward model's playground: type a text, and see what each token adds to its score."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import ipywidgets as widgets
import pandas as pd

from rlhf_lib.browse.html import coloured, number, table, token
from rlhf_lib.browse.shown import Shown
from rlhf_lib.errors import KitError
from rlhf_lib.labels.shown import as_html
from rlhf_lib.plots.style import require_columns

Score = Callable[[str, str], pd.DataFrame]  # (context, response) -> rows as inspect_tokens.prefix_scores makes them


def score_table(rows: pd.DataFrame) -> str:
    """HTML: the score, the text coloured by what each token adds, and the numbers, a row a token.

    rows: `token, score, added`, the context alone in the first one.
    """
    require_columns(rows, ["token", "score", "added"], "playground")
    tokens = rows.iloc[1:]
    largest = float(tokens["added"].abs().max())
    alone, whole = rows["score"].iloc[0], rows["score"].iloc[-1]
    total = f"<p>score <b>{whole:+.2f}</b> points; the context alone would get {alone:+.2f}</p>"
    text = f"<p>{coloured(tokens['token'], tokens['added'], largest)}</p>"
    heads = ["token", "score if the text ended here", "added by the token"]
    lines = [[token(row.token), number(row.score), number(row.added, largest=largest)] for row in tokens.itertuples()]
    return total + text + table(heads, lines)


def static_playground(score: Score, context: str, responses: Sequence[str]) -> str:
    """HTML of the same for some responses, one below the other."""
    parts = [f"<p><b>context:</b> {as_html(context.strip())}</p>"]
    return "\n".join(parts + [score_table(score(context, response)) for response in responses])


class Playground(widgets.VBox):
    """Two fields and a button; what is wrong with a text is said where the score would stand."""

    def __init__(self, score: Score, context: str, responses: Sequence[str]):
        self._score = score
        wide = widgets.Layout(width="95%", height="5em")
        self.context = widgets.Textarea(context, description="context", layout=wide)
        self.response = widgets.Textarea(responses[0], description="response", layout=wide)
        self.button = widgets.Button(description="Score", button_style="primary")
        self.examples = [widgets.Button(description=f"example {k + 1}") for k in range(len(responses))]
        self.result = widgets.HTML()
        self.button.on_click(lambda _: self.run())
        for button, response in zip(self.examples, responses, strict=True):
            button.on_click(lambda _, response=response: self._take(context, response))
        self.run()
        super().__init__([self.context, self.response, widgets.HBox([self.button, *self.examples]), self.result])

    def _take(self, context: str, response: str) -> None:
        self.context.value, self.response.value = context, response
        self.run()

    def run(self) -> None:
        """Score what stands in the fields."""
        try:
            self.result.value = score_table(self._score(self.context.value, self.response.value))
        except KitError as error:
            self.result.value = f"<p role='alert'>{html.escape(str(error))}</p>"


def playground(score: Score, context: str, responses: Sequence[str]) -> Shown:
    """The playground for a person; for a runner and a page that is only read, the scores of `responses`.

    score: gives the rows of a context and a response. responses: examples, the first of which is there to begin with.
    Raises KitError without an example, or if `score` refuses one.
    """
    if not responses:
        raise KitError("The playground needs an example to begin with; give it at least one response.")
    return Shown(lambda: Playground(score, context, responses), static_playground(score, context, responses))
