"""The labeling box without a browser: buttons, keys, double clicks, every label type, and text that stays text."""

import html
import re
import threading

import pytest

from rlhf_lib.errors import KitError
from rlhf_lib.labels import shown
from rlhf_lib.labels import widgets as labeling
from rlhf_lib.labels.panels import TAGS, panel_for
from rlhf_lib.labels.session import LabelSession
from rlhf_lib.labels.simulated import SimulatedClock, SimulatedLabeler, label_all, on_response
from rlhf_lib.labels.store import LabelStore

NASTY = [
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "# Title\n\n**bold** [link](javascript:alert(1)) `code`",
    "\x1b[31mred\x1b[0m and a bell\x07, a return\rover",
    "‮desrever‬ שלום עולם",
    "zero\u200bwidth\u200djoin\ufeff soft\u00adhyphen",
    "</bdi></div><style>*{display:none}</style>&lt;b&gt;",
]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path):
    store = LabelStore(tmp_path / "labels.sqlite")
    yield store
    store.close()


def four_way(n):
    return [{"query": f"query {i}", "samples": [f"{i} sample {k}" for k in range(4)]} for i in range(n)]


def labeler_for(store, queue="q", labeler="ana", **options):
    clock = Clock()
    box = labeling.Labeler(LabelSession(store, labeler, queue, **options), clock=clock)
    clock.now += 1
    return box, clock


def act(box, clock, key):
    box.press(key)
    clock.now += 1


@pytest.mark.parametrize("way", ["button", "key", "message"])
def test_four_ways_to_pick_store_what_was_shown(store, way):
    store.add_items("q", four_way(4))
    box, clock = labeler_for(store)
    wanted = []
    for position in range(4):
        item = box.session.current()
        wanted.append((item.id, item.order[position], position))
        if way == "button":
            box._panel.buttons[position].click()
        elif way == "key":
            box.press(str(position + 1))
        else:
            box.keys._handle_custom_msg({"key": str(position + 1), "view": box.number, "age": 1.0}, [])
        clock.now += 1
    frame = store.labels_frame("q")
    assert list(zip(frame.comparison_id, frame.best, frame.best_shown, strict=True)) == wanted
    assert "Nothing is left" in box.body.children[0].value


def test_cards_show_the_texts_in_the_sessions_order(store):
    store.add_items("q", four_way(1))
    box, _ = labeler_for(store)
    item = box.session.current()
    for i, (text, card) in enumerate(zip(item.texts, box._panel.texts, strict=True)):
        assert html.escape(text) in card.value and f"Response {i + 1}" in card.value
    assert item.context in box._panel.context.value


def test_double_click_counts_once_and_stale_keys_not_at_all(store):
    store.add_items("q", four_way(5))
    box, clock = labeler_for(store)
    seen = box.number

    def said(n, **what):
        box.keys._handle_custom_msg(what, [])
        assert len(store.labels_frame("q")) == n

    said(1, key="1", view=seen, age=2.0)
    clock.now += 0.15
    box._panel.buttons[0].click()  # within 200 ms
    said(1, key="u", view=box.number, age=0.15)
    clock.now += 1
    said(1, key="1", view=seen, age=1.1)  # pressed while the item before was on the screen
    said(2, key="1", view=box.number, age=1.1)


def test_where_the_page_sorts_out_double_clicks_the_kernels_time_does_not_count(store):
    """A click on what is shown counts, though the kernel has only just come to it."""
    store.add_items("q", four_way(5))
    box, clock = labeler_for(store)
    box.keys.at_work = True
    for n in (1, 2):
        clock.now += 0.01
        box._panel.buttons[0].click()
        assert len(store.labels_frame("q")) == n


def test_keys_and_buttons_of_two_threads_take_turns(store):
    """JupyterLab handles the keys' messages in another thread of the kernel than the buttons'.

    A click on a panel that a key has just answered counts for nothing; what counts, counts once.
    """
    store.add_items("q", four_way(60))
    box, _ = labeler_for(store)
    box.keys.at_work = True
    wrong = []

    def keys():
        try:
            while (view := box.number) <= 40:  # twenty items are left for the buttons, however late they come
                box.keys._handle_custom_msg({"key": "1", "view": view, "age": 1.0}, [])
        except Exception as error:
            wrong.append(error)

    presser = threading.Thread(target=keys)
    presser.start()
    while (store.labels_frame("q").best_shown == 1).sum() < 10:  # a click that came too late is made again
        box._panel.buttons[1].click()
    presser.join()
    frame = store.labels_frame("q")
    assert wrong == [] and len(frame) == box.number - 1 >= 40 and frame.comparison_id.is_unique
    assert (frame.best_shown == 1).sum() == 10


@pytest.mark.parametrize("slow", ["_show_own_quality", "_show_progress", "_next"])
def test_a_double_click_counts_once_however_long_the_first_click_took(store, monkeypatch, slow):
    """The second click waits in line while the first one is worked out; it must not count for the next item."""
    store.add_items("q", four_way(20))
    box, clock = labeler_for(store)
    as_it_was = getattr(box, slow)

    def slowly():
        clock.now += 0.7
        return as_it_was()

    for _ in range(labeling.QUALITY_EVERY - 1):
        act(box, clock, "1")
    monkeypatch.setattr(box, slow, slowly)
    box._panel.buttons[0].click()
    box._panel.buttons[0].click()
    assert len(store.labels_frame("q")) == labeling.QUALITY_EVERY


def test_a_double_click_on_flag_or_cord_counts_once_and_the_cord_is_never_too_early(store):
    store.add_items("q", four_way(2))
    box, clock = labeler_for(store)
    box.press("1")
    box.buttons["andon"].click()  # at once after an answer: no double click, and too important to lose
    clock.now += 0.1
    box.buttons["andon"].click()
    clock.now += 1
    box.buttons["flag"].click()
    box.buttons["flag"].click()
    assert len(store.events("andon")) == 1 and len(store.events("flag")) == 1


def test_a_note_does_not_stay_for_the_next_item(store):
    store.add_items("q", four_way(3))
    box, clock = labeler_for(store)
    box.note.value = "about the first one"
    act(box, clock, "1")
    act(box, clock, "f")
    assert store.events("flag")[0].data["note"] == ""


def test_a_store_that_cannot_be_reached_is_said_and_what_was_written_stays(store, monkeypatch):
    store.add_items("q", [{"query": "q", "samples": ["Teh end."]}] * 2, kind="correction")
    box, clock = labeler_for(store)
    box._panel.edited.value = "The end."

    def gone(*_args, **_options):
        raise KitError("Could not write to the label store: the server is gone.")

    with monkeypatch.context() as broken:
        for name in ("write", "read"):
            broken.setattr(store, name, gone)
        act(box, clock, "enter")
        assert "server is gone" in box.said.value and "rlhf-alarm" in box.said.value
        assert "cannot" not in box.body.children[0].value and "What was saved is safe" in box.body.children[0].value
        act(box, clock, "f")
        box.check_all()
    box.again.click()
    clock.now += 1
    assert box._panel.edited.value == "The end." and box.body.children == (box._panel.box,)
    act(box, clock, "enter")
    assert store.labels_frame("q").text.tolist() == ["The end."]
    assert box._panel.edited.value == "Teh end."


def test_an_empty_queue_can_be_looked_at_again(store):
    box, clock = labeler_for(store)
    assert "Nothing is left" in box.body.children[0].value
    store.add_items("q", four_way(2))
    box.again.click()
    clock.now += 1
    act(box, clock, "2")
    assert len(store.labels_frame("q")) == 1
    act(box, clock, "2")
    store.add_items("q", four_way(1))
    act(box, clock, "s")  # with nothing shown, skipping is looking again
    assert box._panel is not None and store.events("skip") == []


def test_whose_labels_these_are(store, monkeypatch):
    monkeypatch.delenv("JUPYTERHUB_USER", raising=False)
    monkeypatch.setattr(labeling, "person_present", lambda: False)
    assert labeling.name_of_labeler("auto") == "simulated"
    monkeypatch.setattr(labeling, "person_present", lambda: True)
    assert labeling.name_of_labeler("auto") == "you" and labeling.name_of_labeler("ana") == "ana"
    monkeypatch.setattr(type(store), "shared", True)
    monkeypatch.setenv("RLHF_LABELS_URL", "postgresql+psycopg://class@school/labels")
    with pytest.raises(KitError, match="name of your own"):
        labeling.name_of_labeler("auto")
    store.add_items("q", four_way(1))
    assert "check_all" not in labeling.Labeler(LabelSession(store, "ana", "q")).buttons
    assert "check_all" in labeling.Labeler(LabelSession(store, "ana", "q"), everybody=True).buttons
    monkeypatch.setenv("JUPYTERHUB_USER", "h.muster")
    assert labeling.name_of_labeler("auto") == "h.muster"


def test_undo_skip_flag_and_cord(store):
    store.add_items("q", four_way(3))
    box, clock = labeler_for(store)
    first = box.session.current().id
    act(box, clock, "u")
    assert "nothing to take back" in box.said.value
    act(box, clock, "2")
    act(box, clock, "u")
    assert box.session.current().id == first and store.labels_frame("q").empty
    box.note.value = "two <b>equal</b> texts"
    act(box, clock, "f")
    assert store.events("flag")[0].data["note"] == "two <b>equal</b> texts" and box.note.value == ""
    act(box, clock, "s")
    assert box.session.current().id != first and store.events("skip")[0].item_id == first
    act(box, clock, "!")
    assert len(store.events("andon")) == 1 and "pulled the cord" in box.said.value
    act(box, clock, "x")
    box.keys._handle_custom_msg({"key": 7}, [])
    box.keys._handle_custom_msg({"key": "1"}, [])
    box.keys._handle_custom_msg("rubbish", [])
    assert store.labels_frame("q").empty


def test_a_new_box_goes_on_where_the_old_one_stopped(store):
    store.add_items("q", four_way(6))
    box, clock = labeler_for(store)
    act(box, clock, "1")
    act(box, clock, "1")
    shown_before = box.session.current().texts
    again, _ = labeler_for(store)
    assert again.session.current().texts == shown_before
    assert "Welcome back: 2 labels" in again.said.value and "2 of 6" in again.progress.value


def test_an_item_lost_to_somebody_else_is_said_and_passed(store):
    store.add_items("q", four_way(2))
    box, clock = labeler_for(store)
    other = LabelSession(store, "ana", "q")  # a second window of the same labeler
    other.current()
    other.answer(0)
    act(box, clock, "1")
    assert "another window" in box.said.value and "rlhf-alarm" in box.said.value
    act(box, clock, "1")
    assert len(store.labels_frame("q")) == 2


def test_accuracy_panel(store):
    source = "The mayor opened a bridge. Nobody was hurt. It rained all day."
    item = {"query": "q", "source": source, "samples": ["A bridge was opened by the mayor."]}
    store.add_items("q", [item] * 3, kind="accuracy")
    box, clock = labeler_for(store)
    assert box._panel.source.value.count("<mark>") == 1
    assert "<mark>" + shown.as_html("The mayor opened a bridge.") in box._panel.source.value
    for key in "123":
        act(box, clock, key)
    assert list(store.labels_frame("q").verdict) == ["true", "false", "cant_tell"]


def test_description_panel(store):
    store.add_items("q", [{"query": "q", "samples": ["It is."]}] * 2, kind="description")
    box, clock = labeler_for(store)
    box._panel.save.click()
    clock.now += 1
    assert "at least one tag" in box.said.value and store.labels_frame("q").empty
    act(box, clock, "1")
    act(box, clock, "3")
    act(box, clock, "3")
    box._panel.words.value = "says nothing"
    act(box, clock, "enter")
    row = store.labels_frame("q").iloc[0]
    assert list(row.tags) == [TAGS[0]] and row.text == "says nothing"
    assert box._panel.words.value == "" and not any(tag.value for tag in box._panel.tags)


def test_correction_panel(store):
    store.add_items("q", [{"query": "q", "samples": ["Teh end."]}], kind="correction")
    box, clock = labeler_for(store)
    assert box._panel.edited.value == "Teh end."
    box._panel.save.click()
    clock.now += 1
    assert "changes nothing" in box.said.value
    box._panel.edited.value = "The end."
    box._panel.save.click()
    assert store.labels_frame("q").iloc[0].text == "The end."


def test_preference_panel_and_kinds_mixed_in_one_queue(store):
    store.add_items("q", [{"query": "q", "samples": ["left", "right"]}], kind="preference")
    store.add_items("q", four_way(1))
    box, clock = labeler_for(store)
    order = box.session.current().order
    assert box.keys.known == ["1", "2", "s", "u", "f", "!"] and "1–2 pick the better" in box.keys.hint
    act(box, clock, "3")  # no such card here
    act(box, clock, "2")
    assert store.labels_frame("q").iloc[0].best == order[1]
    assert box.keys.known[:4] == ["1", "2", "3", "4"] and "1–4 pick" in box.keys.hint
    with pytest.raises(KitError, match="no panel"):
        panel_for("ranking", None)


def test_buttons_do_everything_without_anywidget(store, monkeypatch):
    monkeypatch.setattr(labeling, "anywidget", None)
    store.add_items("q", four_way(2))
    box, clock = labeler_for(store)
    assert box.keys is None
    box._panel.buttons[0].click()
    clock.now += 1
    box.buttons["undo"].click()
    clock.now += 1
    box.buttons["skip"].click()
    clock.now += 1
    box._panel.buttons[3].click()
    assert len(store.labels_frame("q")) == 1 and len(store.events("skip")) == 1


def test_own_quality_figures_appear_and_all_labels_can_be_checked(store):
    store.add_items("q", four_way(8))
    box, clock = labeler_for(store)
    for _ in range(labeling.QUALITY_EVERY):
        act(box, clock, "1")
    assert "Your labels of this sitting" in box.quality.value and "Median" in box.quality.value
    assert len(box.check_all()) == 8 and "All labels of this queue" in box.quality.value
    store.add_items("pairs", [{"query": "q", "samples": ["left", "right"]}] * 5, kind="preference")
    box, clock = labeler_for(store, "pairs")
    for _ in range(labeling.QUALITY_EVERY):
        act(box, clock, "1")
    assert "Picks by position shown: 100%, 0%" in box.quality.value and "Saved: 5 so far" in box.said.value


@pytest.mark.parametrize("text", NASTY)
def test_model_text_stays_text(text):
    shown_html = shown.as_html(text)
    tags = set(re.findall(r"<(/?\w+)", shown_html))
    assert tags <= {"bdi", "/bdi", "span", "/span"}
    plain = html.unescape(re.sub(r"<[^>]+>", "", shown_html))
    assert plain == shown.visible(text)
    assert not any(shown.is_hidden(character) for character in plain)
    if not any(shown.is_hidden(character) for character in text):
        assert plain == text


def test_hidden_characters_are_named():
    assert shown.visible("a\u200bb\x1b[0m\u202ec\n\td") == "a⟨U+200B⟩b⟨ESC⟩[0m⟨U+202E⟩c\n\td"
    assert shown.visible("naïve — “quotes” שלום 你好 🙂") == "naïve — “quotes” שלום 你好 🙂"


def test_sentences_join_to_the_text():
    for text in [*NASTY, "", "A. B! C?\nD", "no end", "...\n\n", '"Quote." He left.']:
        assert "".join(shown.sentences_of(text)) == text


def test_labeler_and_queue_names_are_text_too(store):
    store.add_items("<b>q</b>", four_way(1))
    box, _ = labeler_for(store, queue="<b>q</b>", labeler="<i>ana</i>")
    assert "<i>" not in box.progress.value


def test_simulated_labeler_goes_through_the_same_session(store):
    store.add_items("q", four_way(30), repeats=0.2, repeat_gap=3)
    clock = SimulatedClock()
    session = LabelSession(store, "sim-0", "q", clock=clock)
    longest = SimulatedLabeler(on_response(lambda text: float(text[-1])), noise=0.0, seed=0)
    assert label_all(session, longest, limit=10, clock=clock) == 10
    assert label_all(session, longest, clock=clock) == 26
    frame = store.labels_frame("q")
    assert (frame.best == 3).all() and frame.is_repeat.sum() == 6
    assert frame.seconds.median() > 1 and frame.seconds.nunique() > 10
