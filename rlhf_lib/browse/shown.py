"""One output, two forms: a widget where somebody can use it, plain HTML everywhere else."""

from __future__ import annotations

from collections.abc import Callable

from rlhf_lib.labels.widgets import person_present

WIDGET = "application/vnd.jupyter.widget-view+json"


class Shown:
    """What a cell ends in. A person gets the widget; a runner, and a page without a kernel, the static HTML.

    widget: makes the ipywidgets widget; called only if a person is present. static: HTML with the same content.
    The static form is in the output in both cases, so that a notebook which a person saves can still be read on a
    page that knows no widgets: such pages take the richest form that they know.
    """

    def __init__(self, widget: Callable[[], object], static: str):
        self.static = static
        self.widget = widget() if person_present() else None

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        plain = {"text/plain": "<a table, or a widget where there is a kernel>", "text/html": self.static}
        if self.widget is None:
            return plain
        bundle = self.widget._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle  # anywidget adds metadata
        return plain | {WIDGET: data[WIDGET]}
