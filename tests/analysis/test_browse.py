"""The sample browser, the token inspector and the playground: what they show, what they leave out, and their static
forms, which hold the same without a widget."""

import html
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rlhf_lib import browse, plots
from rlhf_lib.browse import tokens as token_view
from rlhf_lib.browse.playground import Playground, score_table
from rlhf_lib.browse.samples import SampleBrowser, card, matching, sets_of
from rlhf_lib.browse.shown import WIDGET
from rlhf_lib.errors import KitError

SUMMARY_MODELS = ["zero-shot", "fine-tuned", "supervised", "supervised + fine-tuned"]
EVIL = "<script>window.hacked = 1</script> & $x$"


def summary_samples(count=12):
    """Both summary sets; texts that are all different, flags that are all mixed."""
    dice = np.random.default_rng(0)
    rows = []
    for task in ("cnndm", "tldr"):
        for i in range(count):
            for model in SUMMARY_MODELS:
                rows.append({
                    "task": task, "query_id": f"{task}-{i}", "query": f"Context {i} of {task} about {i % 3} horses.",
                    "reference": f"Reference {i}.", "model": model, "response": f" {model} says {i} for {task}. And on",
                    "response_truncated": f" {model} says {i} for {task}.", "penalised": bool(dice.random() < 0.1),
                    "starts_with_preamble": bool(i % 4 == 1), "seed": 1,
                })  # fmt: skip
    return pd.DataFrame(rows)


def style_samples():
    rows = [
        {"task": "sentiment", "query_id": f"q{i}", "query": f"Once {i}", "reference": None, "model": model, "seed": 1,
         "response": f"{model} {i}. tail {i}", "response_truncated": f"{model} {i}.", "penalised": pd.NA if shown else
         i == 2, "starts_with_preamble": None, "shown": shown}
        for i in range(5) for model in ("zero-shot", "fine-tuned") for shown in (True, False)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def token_frame(episodes=3, length=4):
    dice = np.random.default_rng(1)
    rows = [
        {"episode": e, "position": t, "token": [" She", "\n", " ", EVIL][t], "context": f"context {e} {EVIL}",
         "score": 1.5 + e, "passes": e != 1, "read": t < 3}
        | {field.name: dice.normal() for field in token_view.FIELDS}
        for e in range(episodes) for t in range(length)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def letters(context, response):
    """A reward model whose tokens are letters, each worth its place in the alphabet."""
    if not response:
        raise KitError("Write <something>.")
    added = [float(len(context)), *(ord(letter) - 100.0 for letter in response)]
    return pd.DataFrame({"token": ["", *response], "added": added, "score": np.cumsum(added)})


@pytest.fixture
def person(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "04.ipynb")


@pytest.fixture
def nobody(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)


# ---- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "HORSES", "2 horses", "supervised says 3", "nowhere", "Reference 11"])
@pytest.mark.parametrize("preamble", [False, True])
@pytest.mark.parametrize("penalised", [False, True])
def test_filters_give_what_pandas_gives(text, preamble, penalised):
    samples = summary_samples()
    for task, entries in zip(("cnndm", "tldr"), sets_of(samples).values(), strict=True):
        rows = samples[samples.task == task]
        said = rows["query"] + "\n" + rows["reference"] + "\n" + rows["response_truncated"]
        found = said.str.contains(text, case=False, regex=False)
        wanted = rows[found].query_id.unique()
        if preamble:
            wanted = [q for q in wanted if rows[rows.query_id == q].starts_with_preamble.all()]
        if penalised:
            wanted = [q for q in wanted if rows[rows.query_id == q].penalised.any()]
        ids = list(rows.query_id.unique())
        assert [ids[place] for place in matching(entries, text, preamble, penalised)] == list(wanted)


def test_a_summary_entry_has_all_five_texts_in_the_kits_order():
    entry = sets_of(summary_samples())["posts (TL;DR-like)"][1]
    assert list(entry.responses) == ["reference", "zero-shot", "supervised", "supervised + fine-tuned", "fine-tuned"]
    assert entry.preamble and "starts with a preamble" in card(entry)


def test_raw_samples_are_a_set_of_their_own_and_show_what_was_cut():
    sets = sets_of(style_samples())
    assert list(sets) == ["as labelers see them", "raw, as sampled"]
    assert "tail" not in card(sets["as labelers see them"][2]) and "tail 2" in card(sets["raw, as sampled"][2])
    assert [entry.penalised for entry in sets["raw, as sampled"]] == [False, False, True, False, False]


def test_buttons_go_round_and_filters_count():
    browser = SampleBrowser(summary_samples())
    seen = []
    for _ in range(12):
        seen.append(browser.text.value)
        browser.buttons["next →"].click()
    assert len(set(seen)) == 12 and browser.text.value == seen[0] and "Context 0 of cnndm" in seen[0]
    browser.buttons["← previous"].click()
    assert browser.text.value == seen[-1] and browser.place.value == "12 of 12"
    browser.preamble.value = True
    assert browser.place.value == "1 of 3 (of 12)" and browser.text.value == seen[1]
    browser.search.value = "nowhere"
    assert browser.place.value == "nothing fits these filters" and browser.text.value == ""
    browser.buttons["next →"].click()  # harmless
    browser.search.value = ""
    browser.choose.value = "posts (TL;DR-like)"
    assert "Context 1 of tldr" in browser.text.value


def test_shuffle_shows_everything_once_in_another_order():
    browser = SampleBrowser(summary_samples())
    before = list(browser.order)
    browser.buttons["shuffle"].click()
    assert browser.order != before and sorted(browser.order) == before


def test_filters_that_cannot_matter_are_not_there():
    plain = SampleBrowser(style_samples().query("shown"))
    assert len(plain.children[0].children) == 1  # the search alone
    assert len(SampleBrowser(summary_samples()).children[0].children) == 4


def test_the_static_page_of_samples_holds_every_field(nobody):
    samples = summary_samples()
    page = browse.browse_samples(samples, limit=3)._repr_mimebundle_()["text/html"]
    rows = samples[samples.query_id.str.endswith(("-0", "-1", "-2"))]
    for text in [*rows["query"], *rows["reference"], *rows["response_truncated"].str.strip(), *SUMMARY_MODELS]:
        assert text in page
    assert page.count("penalised: does not end") == rows.penalised.sum()
    assert page.count("starts with a preamble") == 2 and "Context 3 of" not in page
    assert page.count("the first 3 of 12 contexts") == 2


def test_samples_without_a_column_or_a_row_are_refused():
    with pytest.raises(KitError, match="query_id"):
        browse.browse_samples(summary_samples().drop(columns="query_id"))
    with pytest.raises(KitError, match="without rows"):
        browse.browse_samples(summary_samples().head(0))


# ---- tokens ---------------------------------------------------------------------------------------------------------


def test_the_static_page_of_tokens_holds_every_number(nobody):
    rows = token_frame()
    page = browse.inspect_tokens(rows, limit=2)._repr_mimebundle_()["text/html"]
    shown = rows[rows.episode < 2]
    for field in token_view.FIELDS:
        assert field.about in html.unescape(page)
        assert all(f">{value:+.2f}</td>" in page for value in shown[field.name])
    assert page.count(">yes</td>") == shown.read.sum()
    assert "score +1.50 points" in page and "does not end in time" in page and "context 2" not in page
    assert f"KL {rows[rows.episode == 0].kl.sum():.2f} nats" in page
    assert "<script" not in page


def test_the_page_gets_every_token_its_numbers_and_colours():
    rows = token_frame()
    episodes = token_view.for_the_page(rows)
    for e, episode in enumerate(episodes):
        mine = rows[rows.episode == e]
        for name in (field.name for field in token_view.FIELDS):
            assert [float(t["numbers"][name]) for t in episode["tokens"]] == pytest.approx(list(mine[name]), abs=6e-4)
        assert [t["text"] for t in episode["tokens"]] == [" She", "\n", " ", EVIL]
    most = rows.loc[rows.kl.abs().idxmax()]
    assert episodes[most.episode]["tokens"][most.position]["colours"]["kl"] in ("#56b4e9", "#e69f00")


def test_tokens_without_a_column_are_refused():
    with pytest.raises(KitError, match="logprob"):
        browse.inspect_tokens(token_frame().drop(columns="logprob"))


# ---- playground -----------------------------------------------------------------------------------------------------


def test_the_table_of_a_text_holds_every_prefix():
    rows = letters("ctx", "abz")
    page = score_table(rows)
    assert all(f">{value:+.2f}</td>" in page for value in [*rows.score[1:], *rows.added[1:]])
    assert f"<b>{rows.score.iloc[-1]:+.2f}</b>" in page


def test_the_playground_scores_what_is_typed_and_says_what_is_wrong():
    box = Playground(letters, "ctx", ["ab", "zz"])
    first = box.result.value
    box.response.value = "q"
    assert box.result.value == first  # not before the button
    box.button.click()
    assert ">q</code></td>" in box.result.value
    box.response.value = ""
    box.button.click()
    assert "Write &lt;something&gt;." in box.result.value
    box.examples[1].click()
    assert box.response.value == "zz" and box.result.value.count(">z</code></td>") == 2


def test_the_static_playground_scores_every_example(nobody):
    page = browse.playground(letters, "ctx", ["ab", "q"])._repr_mimebundle_()["text/html"]
    assert all(f">{letter}</code></td>" in page for letter in "abq") and page.count("<table") == 2
    with pytest.raises(KitError, match="example"):
        browse.playground(letters, "ctx", [])


# ---- both forms -----------------------------------------------------------------------------------------------------

MAKERS = {
    "samples": lambda: browse.browse_samples(summary_samples()),
    "tokens": lambda: browse.inspect_tokens(token_frame()),
    "playground": lambda: browse.playground(letters, "ctx", ["ab"]),
}


@pytest.mark.parametrize("name", MAKERS)
def test_nobody_gets_html_and_a_person_both(name, monkeypatch, nobody):
    static = MAKERS[name]()._repr_mimebundle_()
    assert set(static) == {"text/plain", "text/html"} and "<table" in static["text/html"]
    monkeypatch.setenv("JPY_SESSION_NAME", "04.ipynb")
    both = MAKERS[name]()._repr_mimebundle_()
    assert both["text/html"] == static["text/html"] and both[WIDGET]["model_id"]


def test_without_anywidget_the_inspector_is_its_table(monkeypatch, person):
    monkeypatch.setattr(token_view, "anywidget", None)
    shown = browse.inspect_tokens(token_frame())
    assert shown.widget.value == shown.static and WIDGET in shown._repr_mimebundle_()


@pytest.mark.parametrize("name", MAKERS)
def test_markup_in_a_text_stays_text(name, nobody):
    samples = summary_samples(1).assign(query=EVIL, reference=EVIL, response_truncated=EVIL)
    makers = MAKERS | {
        "samples": lambda: browse.browse_samples(samples),
        "playground": lambda: browse.playground(letters, EVIL, [EVIL]),
    }
    assert "<script" not in makers[name]()._repr_mimebundle_()["text/html"]


def test_nothing_here_imports_torch():
    heavy = "{'torch', 'transformers'}"
    code = f"import sys, rlhf_lib.browse, rlhf_lib.plots; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- pictures -------------------------------------------------------------------------------------------------------


def credit():
    names = ["She", "was", "glad", "."]
    return pd.DataFrame({"token": names, "reward": [-0.1, 0, 0.2, 2], "value": [0.5, 1, -1, 0], "advantage": 1.0})


def test_credit_stands_under_its_token():
    figure = plots.credit_under_tokens(credit())
    rewards, values, advantages = figure.axes
    assert [label.get_text() for label in rewards.get_xticklabels()] == list(credit().token)
    assert np.allclose([bar.get_height() for bar in rewards.patches], credit().reward)
    assert np.allclose([bar.get_height() for bar in advantages.patches], credit().advantage)
    assert np.allclose(values.lines[1].get_ydata(), credit().value)
    assert values.lines[0].get_ydata()[-1] == 0  # after the last token nothing comes


def test_a_text_is_coloured_by_its_numbers():
    rows = token_frame(1, 3).assign(kl=[-2.0, 0.0, 1.0])
    figure = plots.tokens_on_text(rows, {"kl": "KL (nats)", "reward": "reward (points)"})
    boxes = figure.axes[0].patches
    assert [tuple(round(x, 2) for x in box.get_facecolor()[:3]) for box in boxes[:2]] == [(0.34, 0.71, 0.91), (1, 1, 1)]
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["She", "-2.00", "⏎", "+0.00", "␣", "+1.00"]
    figure._repr_png_()  # a dollar is no mathematics, and all of it can be drawn
    plots.tokens_on_text(token_frame(1), {"kl": "KL"})._repr_png_()


def test_samples_along_training_stand_below_one_another():
    rows = pd.DataFrame(
        {"episodes": e, "kl": e / 10, "score": None if e == 0 else 0.5, "query_id": f"q{q}", "query": f"prompt {q} <b>",
         "response_truncated": f"text {e} of {q}", "penalised": e == 20 and q == 1}
        for e in (0, 10, 20) for q in range(2)
    )  # fmt: skip
    page = plots.tables.samples_along_training(rows)
    places = [page.index(f"text {e} of {q}") for e in (0, 10, 20) for q in range(2)]
    assert places == sorted(places) and page.count("[penalised") == 1 and "<b>" not in page
    assert page.count("<tr>") == 4 and ">–<" in page and ">+0.50<" in page
