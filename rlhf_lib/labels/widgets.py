"""The labeling box: a thin ipywidgets view over a `LabelSession`. Buttons always work; keys come through anywidget.

Nothing is decided here: the session knows what is shown, answered and undone, and a simulated labeler drives the same
session without this file.
"""

import html
import os
import time
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import traitlets
from IPython import get_ipython

from rlhf_lib.errors import KitError
from rlhf_lib.labels import quality
from rlhf_lib.labels.panels import panel_for, with_class
from rlhf_lib.labels.session import LabelSession

try:
    import anywidget
except ImportError:  # buttons alone do everything
    anywidget = None

DOUBLE_CLICK_SECONDS = 0.2
QUALITY_EVERY = 5  # answers between two looks at one's own quality figures
ACTION_KEYS = [("s", "skip"), ("u", "undo"), ("f", "flag"), ("!", "stop the line")]
HERE = Path(__file__).parent

if anywidget is not None:

    class Keys(anywidget.AnyWidget):
        """Keyboard of the box around it: sends {"key", "view"} for keys pressed while that box has the focus."""

        _esm = HERE / "keys.js"
        known = traitlets.List().tag(sync=True)
        hint = traitlets.Unicode().tag(sync=True)
        view = traitlets.Int(0).tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)


def person_present() -> bool:
    """Whether this kernel belongs to a page that somebody looks at (JupyterLab, Voilà, VS Code), not to a runner."""
    if "JPY_SESSION_NAME" in os.environ or os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
        return True
    shell = get_ipython()
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns


class Labeler:
    """The box for one session: context, cards, buttons, keys, progress, and one's own quality figures.

    Args:
        session: what to label, by whom.
        clock: seconds for telling a double click; any monotonic clock.
    """

    def __init__(self, session: LabelSession, clock: Callable[[], float] = time.monotonic):
        self.session, self._clock = session, clock
        self._panel, self._kind, self._answers = None, None, 0
        self._since = time.time()
        self._make_widgets()
        self._next()
        done = self.session.stats()["done"]
        if done:
            self._say(f"Welcome back: {done} labels so far; going on where you stopped.")

    def _repr_mimebundle_(self, **kwargs):
        return self.view._repr_mimebundle_(**kwargs)

    def press(self, key: str, view: int | None = None) -> None:
        """What a key does; `view` is the item number on the screen when it was pressed (None: the one shown now)."""
        if view is not None and view != self.number:
            return  # pressed on an item that was answered meanwhile
        actions = {"s": self.skip, "u": self.undo, "f": self.flag, "!": self.andon}
        if key in actions:
            actions[key]()
        elif self._panel is not None and key in self._panel.keys:
            self._panel.press(key)

    def skip(self) -> None:
        """Leave the item to others, and show the next one."""
        self._move(lambda session: session.skip(), "Skipped.")

    def undo(self) -> None:
        """Take back the last answer or skip, and show its item again."""
        self._move(lambda session: session.undo(), "Taken back; here it is again.", "There is nothing to take back.")

    def flag(self) -> None:
        """Say that something is wrong with the item shown (with the note, if one is written)."""
        self._aside(lambda session: session.flag(self.note.value), "Flagged. It is still yours to answer or skip.")

    def andon(self) -> None:
        """Pull the cord: trainings that listen to this store stop at their next update."""
        reason = self.note.value or "pulled from the labeling box"
        self._aside(
            lambda session: session.andon(reason),
            "You pulled the cord: trainings stop at their next update until somebody releases it.",
        )

    def check_all(self) -> list[quality.Reading]:
        """The whole quality panel on every label of this queue, shown below the box."""
        readings = quality.panel(self.session.store.labels_frame(queue=self.session.queue))
        self.quality.value = readings_html(readings, "All labels of this queue")
        return readings

    # ---- from here on: how it is done --------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        style = widgets.HTML(f"<style>{(HERE / 'labeler.css').read_text(encoding='utf-8')}</style>")
        style.layout.display = "none"
        self.number = 0
        self.progress = widgets.HTML()
        self.said = with_class(widgets.HTML(), "rlhf-said")
        self.quality = with_class(widgets.HTML(), "rlhf-quality")
        self.body = widgets.VBox()
        self.note = widgets.Text(placeholder="A note, for the flag or the cord (may stay empty)")
        self.note.layout.flex = "1 1 14rem"
        names = {"undo": "Undo (u)", "skip": "Skip (s)", "flag": "Flag (f)", "andon": "Stop the line (!)"}
        self.buttons = {name: widgets.Button(description=text) for name, text in names.items()}
        self.buttons["check_all"] = widgets.Button(description="Check all labels")
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: getattr(self, name)())
        row = with_class(widgets.Box([*self.buttons.values(), self.note]), "rlhf-row")
        self.keys = self._make_keys()
        keys = [] if self.keys is None else [self.keys]
        parts = [style, self.progress, *keys, self.body, row, self.said, self.quality]
        self.view = with_class(widgets.VBox(parts), "rlhf-labeler")

    def _make_keys(self):
        if anywidget is None:
            return None
        keys = Keys(label=f"Labeling as {self.session.labeler}")
        keys.on_msg(self._on_message)
        return keys

    def _set_keys(self) -> None:
        """Tell the page which keys mean something for this kind of item."""
        own, hint = ([], "") if self._panel is None else (self._panel.keys, self._panel.hint)
        self.keys.known = [*own, *(key for key, _ in ACTION_KEYS)]
        self.keys.hint = " · ".join(filter(None, [hint, *(f"{key} {what}" for key, what in ACTION_KEYS)]))

    def _on_message(self, _widget, content, _buffers) -> None:
        if isinstance(content, dict) and isinstance(content.get("key"), str):
            self.press(content["key"], content.get("view"))

    def _answer(self, act: Callable[[LabelSession], object]) -> None:
        if self._move(act, ""):
            self._answers += 1
            if self._answers % QUALITY_EVERY == 0:
                self._show_own_quality()

    def _move(self, act: Callable[[LabelSession], object], said: str, nothing: str = "") -> bool:
        """Do something that leaves the item shown; True if it was done."""
        if self._clock() - self._shown_at < DOUBLE_CLICK_SECONDS:
            return False  # a double click: nobody reads four texts in this time
        try:
            done = act(self.session) is not False
            self._say(said if done else nothing)
        except KitError as error:
            done = False
            self._say(str(error), alarm=True)
        self._next()
        return done

    def _aside(self, act: Callable[[LabelSession], object], said: str) -> None:
        try:
            act(self.session)
            self._say(said)
            self.note.value = ""
        except KitError as error:
            self._say(str(error), alarm=True)

    def _next(self) -> None:
        """Show the session's item; first the texts, then the figures, which may take longer."""
        try:
            item = self.session.current()
        except KitError as error:
            self._say(str(error), alarm=True)
            item = None
        self._show(item)
        self._shown_at = self._clock()
        self._show_progress()

    def _show(self, item) -> None:
        kind = item.kind if item is not None else None
        if kind != self._kind or self.number == 0:
            self._kind = kind
            self._panel = None if kind is None else panel_for(kind, self._answer)
            empty = widgets.HTML("<p>Nothing is left to label in this queue. Thank you!</p>")
            self.body.children = [empty if self._panel is None else self._panel.box]
            if self.keys is not None:
                self._set_keys()
        if item is not None:
            self._panel.show(item)
        self.number += 1
        if self.keys is not None:
            self.keys.view = self.number

    def _show_progress(self) -> None:
        stats = self.session.stats()
        done, total = stats["done"], stats["done"] + stats["left"]
        pieces = [f"<b>{html.escape(self.session.labeler)}</b>: {done} of {total} labeled"]
        if stats["pace_per_minute"]:
            pieces.append(f"{stats['pace_per_minute']:.0f} a minute")
            pieces.append(f"about {duration(stats['seconds_left'])} left")
        bar = f'<progress max="{max(total, 1)}" value="{done}" aria-label="Progress"></progress>'
        self.progress.value = f"{bar} {' · '.join(pieces)}"

    def _show_own_quality(self) -> None:
        """A few readings of this sitting's own labels: cheap, however large the store is."""
        labels = self.session.store.labels_frame(queue=self.session.queue, since=self._since)
        mine = labels[labels["labeler"] == self.session.labeler]
        asked = (quality.speed, quality.position_bias, quality.copy_preference, quality.self_agreement)
        self.quality.value = readings_html([question(mine) for question in asked], "Your labels of this sitting")

    def _say(self, text: str, alarm: bool = False) -> None:
        self.said.value = f'<span class="{"rlhf-alarm" if alarm else ""}">{html.escape(text)}</span>'


def readings_html(readings: list[quality.Reading], title: str) -> str:
    """The readings' sentences as a list, alarms in bold."""
    lines = [
        f'<li class="{"rlhf-alarm" if reading.alarm else ""}">{html.escape(reading.sentence)}</li>'
        for reading in readings
    ]
    return f"<b>{html.escape(title)}</b><ul>{''.join(lines)}</ul>"


def duration(seconds: float) -> str:
    """A length of time as one reads it: 40 s, 12 min, 3 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
