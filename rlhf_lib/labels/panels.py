"""What a labeler sees of one item: a panel for each type of label, made of plain ipywidgets.

A panel has `box` (the widget), `keys` and a `hint` on what they mean, `show(item)` and `press(key)`. It calls `answer`
with a function that takes the session, so that the labeler around it deals with double clicks, errors, the next item.
"""

from collections.abc import Callable

import ipywidgets as widgets

from rlhf_lib.errors import KitError
from rlhf_lib.labels.session import Item, LabelSession
from rlhf_lib.labels.shown import as_html, highlighted

Answer = Callable[[Callable[[LabelSession], object]], None]
TAGS = ("untrue", "misses the point", "hard to read", "repeats itself", "off topic", "harmful")
SAVE_KEY, SAVE_HINT = "enter", "Enter saves (Ctrl+Enter while typing)"
VERDICTS = (("1", "True", "true"), ("2", "False", "false"), ("3", "Can't tell", "cant_tell"))


def with_class(widget: widgets.Widget, name: str) -> widgets.Widget:
    """The widget, carrying one CSS class of labeler.css."""
    widget.add_class(name)
    return widget


def moving(button: widgets.Button) -> widgets.Button:
    """A button that leaves the item shown; keys.js lets one click through for each item."""
    return with_class(button, "rlhf-moves")


def text_block(name: str, text_html: str) -> str:
    """A named piece of text as HTML; `text_html` comes from `as_html` or `highlighted`."""
    # In the order of Tab, because a long text is scrolled, and must be without a mouse too.
    region = f'<div class="rlhf-context" tabindex="0" role="region" aria-label="{name}">{text_html}</div>'
    return f'<div class="rlhf-name" aria-hidden="true">{name}</div>{region}'


def text_field(name: str, rows: int) -> widgets.Textarea:
    """A field for text of one's own. It is sent as a whole when it is left: key by key, the last ones of somebody who
    types and saves at once could come after the saving."""
    return widgets.Textarea(placeholder=name, rows=rows, continuous_update=False)


class PickPanel:
    """Best of four, or the better of two: the context and one card a response, in the order shown."""

    def __init__(self, n: int, answer: Answer):
        self.n, self._answer = n, answer
        word = "best" if n > 2 else "better"
        self.keys, self.hint = [str(i + 1) for i in range(n)], f"1–{n} pick the {word}"
        self.context = widgets.HTML()
        self.texts = [widgets.HTML() for _ in range(n)]
        self.buttons = [
            moving(widgets.Button(description=f"{i + 1}  is {word}", tooltip=f"Key {i + 1}")) for i in range(n)
        ]
        for i, button in enumerate(self.buttons):
            button.on_click(lambda _, i=i: self.press(str(i + 1)))
        cards = [
            with_class(widgets.VBox([text, button]), "rlhf-card")
            for text, button in zip(self.texts, self.buttons, strict=True)
        ]
        self.box = widgets.VBox([self.context, with_class(widgets.Box(cards), "rlhf-cards")])

    def show(self, item: Item) -> None:
        self.context.value = text_block("Context", as_html(item.context))
        for i, (widget, text) in enumerate(zip(self.texts, item.texts, strict=True)):
            widget.value = f'<div class="rlhf-name">Response {i + 1}</div>{as_html(text)}'

    def press(self, key: str) -> None:
        position = int(key) - 1
        if self.n == 4:
            self._answer(lambda session: session.answer(position))
        else:
            self._answer(lambda session: session.answer_preference(position))


class AccuracyPanel:
    """Is the summary true? The source beside it, the sentences that say the same marked."""

    def __init__(self, answer: Answer):
        self._answer = answer
        self.keys = [key for key, _, _ in VERDICTS]
        self.hint = " · ".join(f"{key} {name.lower()}" for key, name, _ in VERDICTS)
        self.source, self.summary = widgets.HTML(), widgets.HTML()
        self.buttons = [
            moving(widgets.Button(description=f"{key}  {name}", tooltip=f"Key {key}")) for key, name, _ in VERDICTS
        ]
        for (key, _, _), button in zip(VERDICTS, self.buttons, strict=True):
            button.on_click(lambda _, key=key: self.press(key))
        row = with_class(widgets.Box(self.buttons), "rlhf-row")
        card = with_class(with_class(widgets.VBox([self.summary, row]), "rlhf-card"), "rlhf-beside")
        self.box = with_class(widgets.Box([self.source, card]), "rlhf-cards")

    def show(self, item: Item) -> None:
        source = item.source if item.source is not None else item.context
        self.source.value = text_block(
            "Source (sentences that match the summary are marked)", highlighted(source, item.texts[0])
        )
        self.summary.value = f'<div class="rlhf-name">Is this summary true?</div>{as_html(item.texts[0])}'

    def press(self, key: str) -> None:
        verdict = dict((shortcut, value) for shortcut, _, value in VERDICTS)[key]
        self._answer(lambda session: session.answer_accuracy(verdict))


class DescribePanel:
    """What is wrong with the response: tags to switch on, and words of one's own."""

    def __init__(self, answer: Answer):
        self._answer = answer
        self.keys, self.hint = [*(str(i + 1) for i in range(len(TAGS))), SAVE_KEY], f"1–{len(TAGS)} tags · {SAVE_HINT}"
        self._slot = None
        self.context, self.response = widgets.HTML(), widgets.HTML()
        self.tags = [widgets.ToggleButton(description=f"{i + 1}  {tag}") for i, tag in enumerate(TAGS)]
        self.words = text_field("In your own words: what is wrong?", rows=3)
        self.save = moving(widgets.Button(description="Save the description"))
        self.save.on_click(lambda _: self._save())
        row = with_class(widgets.Box(self.tags), "rlhf-row")
        card = with_class(widgets.VBox([self.response, row, self.words, self.save]), "rlhf-card")
        self.box = widgets.VBox([self.context, card])

    def show(self, item: Item) -> None:
        self.context.value = text_block("Context", as_html(item.context))
        self.response.value = f'<div class="rlhf-name">What is wrong with this response?</div>{as_html(item.texts[0])}'
        if item.slot_id != self._slot:  # shown again after a failed attempt to save, it keeps what was written
            self._slot, self.words.value = item.slot_id, ""
            for tag in self.tags:
                tag.value = False

    def press(self, key: str) -> None:
        if key == SAVE_KEY:
            self._save()
            return
        tag = self.tags[int(key) - 1]
        tag.value = not tag.value

    def _save(self) -> None:
        tags = [name for name, button in zip(TAGS, self.tags, strict=True) if button.value]
        self._answer(lambda session: session.describe(tags, self.words.value))


class CorrectPanel:
    """The response in a text field, to be edited until it is as it should be."""

    def __init__(self, answer: Answer):
        self._answer = answer
        self.keys, self.hint = [SAVE_KEY], SAVE_HINT
        self._slot = None
        self.context = widgets.HTML()
        self.edited = text_field("The response as it should be", rows=5)
        self.save = moving(widgets.Button(description="Save the correction"))
        self.save.on_click(lambda _: self.press(SAVE_KEY))
        name = widgets.HTML('<div class="rlhf-name">Edit the response until it is as it should be</div>')
        card = with_class(widgets.VBox([name, self.edited, self.save]), "rlhf-card")
        self.box = widgets.VBox([self.context, card])

    def show(self, item: Item) -> None:
        self.context.value = text_block("Context", as_html(item.context))
        if item.slot_id != self._slot:
            self._slot, self.edited.value = item.slot_id, item.texts[0]

    def press(self, key: str) -> None:
        self._answer(lambda session: session.correct(self.edited.value))


def panel_for(kind: str, answer: Answer):
    """A new panel for one kind of item. Raises KitError for a kind that has none."""
    makers = {
        "best_of_4": lambda: PickPanel(4, answer),
        "preference": lambda: PickPanel(2, answer),
        "accuracy": lambda: AccuracyPanel(answer),
        "description": lambda: DescribePanel(answer),
        "correction": lambda: CorrectPanel(answer),
    }
    if kind not in makers:
        raise KitError(f"There is no panel for items of kind {kind!r}; use one of {', '.join(makers)}.")
    return makers[kind]()
