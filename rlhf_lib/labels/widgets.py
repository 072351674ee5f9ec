"""The labeling box: a thin ipywidgets view over a `LabelSession`. Buttons always work; keys come through anywidget.

Nothing is decided here: the session knows what is shown, answered and undone, and a simulated labeler drives the same
session without this file.
"""

import html
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import traitlets
from IPython import get_ipython

from rlhf_lib.errors import KitError
from rlhf_lib.labels import quality
from rlhf_lib.labels.database import default_url, is_shared, parse_url
from rlhf_lib.labels.panels import moving, panel_for, with_class
from rlhf_lib.labels.session import Item, LabelSession
from rlhf_lib.labels.theme import themed

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
        """Keyboard of the box around it: sends {"key", "view", "age"} for keys pressed while that box has the focus."""

        _esm = HERE / "keys.js"
        known = traitlets.List().tag(sync=True)
        hint = traitlets.Unicode().tag(sync=True)
        view = traitlets.Int(0).tag(sync=True)
        heard = traitlets.Int(0).tag(sync=True)  # goes up with every key that arrived, so that the page can tell
        label = traitlets.Unicode().tag(sync=True)
        at_work = traitlets.Bool(False).tag(sync=True)  # set by the page: it sorts out double clicks itself
        at_once = traitlets.Bool(False).tag(sync=True)  # take the focus when shown


def person_present() -> bool:
    """Whether this kernel belongs to a page that somebody looks at (JupyterLab, Voilà, VS Code), not to a runner."""
    if "JPY_SESSION_NAME" in os.environ or os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
        return True
    shell = get_ipython()
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns


def name_of_labeler(asked: str) -> str:
    """Whose labels these are: the name asked for; for "auto" the person before the page, or "simulated" if nobody is.

    Raises KitError for "auto" with a team's store, where nothing tells one person from the next: all would be one.
    """
    if asked != "auto":
        return asked
    if not person_present():
        return "simulated"
    if os.environ.get("JUPYTERHUB_USER"):
        return os.environ["JUPYTERHUB_USER"]
    if is_shared(parse_url(default_url())):
        raise KitError('This label store is shared: write a name of your own into labeler = "…", and run again.')
    return "you"


class Labeler:
    """The box for one session: context, cards, buttons, keys, progress, and one's own quality figures.

    Args:
        session: what to label, by whom.
        clock: seconds for telling a double click; any monotonic clock.
        everybody: whether there is a button for the figures of all labelers, by name. None: unless the store is a
            team's, because nobody should read about a classmate's answers here (`python -m rlhf_lib quality` tells).
        focus: whether the box takes the focus when shown, so that its keys are on; for a page that is all box.
    """

    def __init__(
        self,
        session: LabelSession,
        clock: Callable[[], float] = time.monotonic,
        everybody: bool | None = None,
        focus: bool = False,
    ):
        self.session, self._clock = session, clock
        self._everybody = not session.store.shared if everybody is None else everybody
        self._panel, self._kind, self._answers = None, None, 0
        self._seen: tuple[int, float] | None = None  # what the page said of the key being handled
        self._one_at_a_time = threading.RLock()  # JupyterLab runs keys and buttons in two threads of the kernel
        self._ready_at = self._aside_at = float("-inf")  # when the item shown was ready; when the last aside was made
        self._since = time.time()
        self._make_widgets()
        if self.keys is not None:
            self.keys.at_once = focus
        self._next()
        self._ready_at = self._clock()
        done = self._show_progress()
        if done:
            self._say(f"Welcome back: {done} labels so far; going on where you stopped.")

    def _repr_mimebundle_(self, **kwargs):
        return self.view._repr_mimebundle_(**kwargs)

    def press(self, key: str) -> None:
        """What a key does."""
        actions = {"s": self.skip, "u": self.undo, "f": self.flag, "!": self.andon}
        if key in actions:
            actions[key]()
        elif self._panel is not None and key in self._panel.keys:
            self._panel.press(key)

    def skip(self) -> None:
        """Leave the item to others, and show the next one; where none is shown, look for one."""
        if self._panel is None:
            self.look_again()
        else:
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
            "You pulled the cord: trainings stop at their next update. By mistake? `python -m rlhf_lib andon release`.",
        )

    def check_all(self) -> list[quality.Reading]:
        """The whole quality panel on every label of this queue, shown below the box."""
        return self._show_quality("All labels of this queue", self._labels())

    def look_again(self) -> None:
        """Ask the store once more for something to label, after the queue ran dry or could not be reached."""
        self._move(lambda session: session.current(), "")

    # ---- from here on: how it is done --------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        style = widgets.HTML(f"<style>{themed(HERE / 'labeler.css')}</style>")
        style.layout.display = "none"
        self.number = 0
        self.progress = widgets.HTML()
        self.said = with_class(widgets.HTML(), "rlhf-said")
        self.quality = with_class(widgets.HTML(), "rlhf-quality")
        self.body = widgets.VBox()
        note = "A note for a flag or the cord"
        self.note = widgets.Text(placeholder=note, continuous_update=False)
        self.note.layout.flex = "1 1 14rem"
        names = {"undo": "Undo (u)", "skip": "Skip (s)", "flag": "Flag (f)", "andon": "Stop the line (!)"}
        self.buttons = {name: widgets.Button(description=text) for name, text in names.items()}
        if self._everybody:
            self.buttons["check_all"] = widgets.Button(description="Check all labels")
        self.again = moving(widgets.Button(description="Look again"))
        for name in ("undo", "skip"):
            moving(self.buttons[name])
        for name, button in [*self.buttons.items(), ("look_again", self.again)]:
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
        """A key from the page, which says on which item it was pressed and for how many seconds that had been shown."""
        if not isinstance(content, dict) or not isinstance(content.get("key"), str):
            return
        with self._one_at_a_time:
            self._seen = (content.get("view"), content.get("age", 0.0))
            self.press(content["key"])
            self._seen = None
            self.keys.heard += 1

    def _answer(self, act: Callable[[LabelSession], object]) -> None:
        self._move(act, "", is_answer=True)

    def _move(
        self, act: Callable[[LabelSession], object], said: str, nothing: str = "", is_answer: bool = False
    ) -> None:
        """Do something that leaves the item shown, and show the next one."""
        with self._one_at_a_time:
            if not self._is_double():
                self._move_on(act, said, nothing, is_answer)

    def _move_on(self, act: Callable[[LabelSession], object], said: str, nothing: str, is_answer: bool) -> None:
        done = False
        with self._saying_errors():
            done = act(self.session) is not False
            self._say(said if done else nothing)
            self.note.value = ""  # it was about the item that is gone
        self._next()
        labels = self._show_progress()
        if is_answer and done:
            self._say(f"Saved: {labels} so far.")
            self._answers += 1
            if self._answers % QUALITY_EVERY == 0:
                self._show_own_quality()
        # A second click that came in while all this was worked out has waited, and is told by this moment.
        self._ready_at = self._clock()

    def _is_double(self) -> bool:
        """Whether this click or key belongs to an item that is gone, or comes sooner than anybody could have read.

        The page knows exactly: it says so of a key, and lets no such click through. Where anywidget is not at work
        there, the time between two answers has to do.
        """
        if self._seen is not None:
            view, age = self._seen
            return view != self.number or age < DOUBLE_CLICK_SECONDS
        if self.keys is not None and self.keys.at_work:
            return False
        return self._clock() - self._ready_at < DOUBLE_CLICK_SECONDS

    def _aside(self, act: Callable[[LabelSession], object], said: str) -> None:
        """Say something beside the item shown; it stays, so that only time tells a double click."""
        with self._one_at_a_time:
            if self._clock() - self._aside_at < DOUBLE_CLICK_SECONDS:
                return
            with self._saying_errors():
                act(self.session)
                self._say(said)
                self.note.value = ""
            self._aside_at = self._clock()

    @contextmanager
    def _saying_errors(self) -> Iterator[None]:
        """What goes wrong is said in the box, where the labeler looks, and ends there."""
        try:
            yield
        except KitError as error:
            self._say(str(error), alarm=True)

    def _next(self) -> None:
        """Show the session's item, or say why there is none."""
        try:
            item = self.session.current()
        except KitError as error:
            # The panel stays, with what was written into it, until its item can be shown again.
            self._say(str(error), alarm=True)
            self.body.children = [
                widgets.HTML("<p>No item can be shown just now. What was saved is safe.</p>"),
                self.again,
            ]
        else:
            self._show(item)
        self.number += 1
        if self.keys is not None:
            self.keys.view = self.number

    def _show(self, item: Item | None) -> None:
        kind = None if item is None else item.kind
        if kind != self._kind or self.number == 0:
            self._kind, self._panel = kind, None if kind is None else panel_for(kind, self._answer)
            if self.keys is not None:
                self._set_keys()
        if self._panel is None:
            self.body.children = [widgets.HTML("<p>Nothing is left to label in this queue. Thank you!</p>"), self.again]
        else:
            self.body.children = [self._panel.box]
            self._panel.show(item)

    def _show_progress(self) -> int:
        """Write the progress line, and give the number of labels so far (0 if they cannot be counted just now)."""
        try:
            stats = self.session.stats()
        except KitError:
            return 0  # what is wrong has been said where the item should be
        done, total = stats["done"], stats["done"] + stats["left"]
        pieces = [f"<b>{html.escape(self.session.labeler)}</b>: {done} of {total} labeled"]
        if stats["pace_per_minute"]:
            pieces.append(f"{stats['pace_per_minute']:.0f} a minute")
            pieces.append(f"about {duration(stats['seconds_left'])} left")
        bar = f'<progress max="{max(total, 1)}" value="{done}" aria-label="Progress"></progress>'
        self.progress.value = f"{bar} {' · '.join(pieces)}"
        return done

    def _show_own_quality(self) -> None:
        """A few readings of this sitting's own labels: cheap, however large the store is."""
        labels = self._labels(since=self._since)
        mine = labels[labels["labeler"] == self.session.labeler]
        asked = (quality.speed, quality.position_bias, quality.copy_preference, quality.self_agreement)
        self._show_quality("Your labels of this sitting", mine, asked)

    def _labels(self, since: float | None = None) -> pd.DataFrame:
        """The queue's labels; none, and why is said, if the store cannot be read."""
        labels = pd.DataFrame(columns=["kind", "labeler"])
        with self._saying_errors():
            labels = self.session.store.labels_frame(queue=self.session.queue, since=since)
        return labels

    def _show_quality(self, title: str, labels: pd.DataFrame, asked=None) -> list[quality.Reading]:
        """The readings (None asked: all there are) for each kind of item that was answered, below the box."""
        readings = {
            kind: [ask(labels, kind=kind) for ask in asks if asked is None or ask in asked]
            for kind, asks in quality.QUESTIONS.items()
            if (labels["kind"] == kind).any()
        }
        words = {kind: kind.replace("_", " ") for kind in readings}
        titles = {kind: f"{title}: {words[kind]}" if len(readings) > 1 else title for kind in readings}
        self.quality.value = "".join(readings_html(found, titles[kind]) for kind, found in readings.items())
        return [reading for found in readings.values() for reading in found]

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
