"""The labeling page that `make label` serves: closed without the token, on loopback only, and usable with it."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from rlhf_lib.errors import KitError
from rlhf_lib.labels import page
from rlhf_lib.labels.store import LabelStore

KERNEL = "api/kernels/11111111-1111-1111-1111-111111111111"


def fetch(url):
    """(status, where it ended) without cookies; a redirect to the login form is followed."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.url, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.url, ""


@pytest.mark.parametrize("path", ["", "?token=wrong", "label.ipynb", KERNEL, f"{KERNEL}/channels", "voila/files/a.png"])
def test_nobody_gets_in_without_the_token(page_alone, path):
    address, _, _ = page_alone
    status, where, text = fetch(f"{address}/{path}")
    assert status in (403, 404) or "/login" in where
    assert "widget" not in text and "Which is the best" not in text


def test_the_token_opens_it_and_only_this_machine_can_ask(page_alone):
    address, token, _ = page_alone
    status, where, text = fetch(f"{address}/?token={token}")
    assert status == 200 and "/login" not in where and "Which is the best" in text
    port = f"{int(address.rsplit(':', 1)[1]):04X}"
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port}")]
    assert set(listening) <= {f"0100007F:{port}"}, "it listens on more than 127.0.0.1"


def test_a_taken_port_and_an_empty_token_are_refused(page_alone):
    address, _, _ = page_alone
    with pytest.raises(KitError, match="--port"):
        page.serve(port=int(address.rsplit(":", 1)[1]), token="x")
    with pytest.raises(KitError, match="token"):
        page.serve(token=" ")


def test_an_empty_queue_is_filled_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RLHF_LABELS_URL", f"sqlite:///{tmp_path / 'labels.sqlite'}")
    for _ in range(2):
        page.fill("new", n=20)
    assert capsys.readouterr().out.count("was empty") == 1
    store = LabelStore()
    assert store.count_items("new") == 20
    store.close()


def test_another_instruction_is_read_from_a_file(tmp_path):
    (tmp_path / "say.md").write_text("# Which is *true*?", encoding="utf-8")
    assert page.page_notebook("q", page.instruction_of(tmp_path / "say.md")).cells[0].source == "# Which is *true*?"
    assert page.instruction_of(None) == page.INSTRUCTION
    with pytest.raises(KitError, match="Markdown"):
        page.instruction_of(tmp_path / "none.md")


@pytest.mark.browser
def test_label_on_the_page(page_alone, chromium):
    address, token, folder = page_alone
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    view = context.new_page()
    elsewhere = []
    view.on("response", lambda answer: elsewhere.append(answer.url) if not answer.url.startswith(address) else None)
    view.goto(f"{address}/?token={token}", timeout=120_000)
    view.get_by_placeholder("Your name").wait_for(timeout=120_000)
    assert "import" not in view.locator("body").inner_text(), "code is shown"
    view.get_by_role("button", name="Start labeling").click()
    view.get_by_text("Please write your name first.").wait_for()
    view.get_by_placeholder("Your name").fill("<i>Ana</i>")
    view.get_by_role("button", name="Start labeling").click()
    view.locator(".rlhf-keys-live").wait_for(timeout=60_000)  # on a page that is all box, the keys are on at once
    view.wait_for_timeout(300)  # an answer within 200 ms of the item's appearance would be taken for a double click
    view.keyboard.press("3")
    view.get_by_text("1 of ").wait_for()
    assert "<i>Ana</i>" in view.locator(".rlhf-labeler").inner_text()
    context.close()
    store = LabelStore(folder / "labels.sqlite")
    frame = store.labels_frame(page.QUEUE)
    store.close()
    frame = frame[frame.labeler == "<i>Ana</i>"]
    assert list(frame.best_shown) == [2]
    assert not [url for url in elsewhere if not url.startswith(("blob:", "data:"))]


# What a labeler presses for the first item of each kind: no mouse anywhere.
PRESSED = {
    "best_of_4": ["3"],
    "accuracy": ["2"],
    "description": ["1", "4", "Tab to In your own words: what is wrong?", "type dds1! it repeats", "Control+Enter"],
    "correction": ["Tab to The response as it should be", "Control+a", "type The bridge, 1 s!", "Escape", "Enter"],
    "preference": ["2"],
}
# Stands for a notebook around the box that has shortcuts of its own (VS Code listens on the window in this way).
AROUND = """() => {
  window.leaked = [];
  for (const above of [document.querySelector(".rlhf-labeler").parentElement, document, window])
    above.addEventListener("keydown", (event) => { if (event.key !== "Tab") window.leaked.push(event.key); });
}"""


def press_all(view, keys):
    for key in keys:
        if key.startswith("Tab to "):
            for _ in range(20):
                view.keyboard.press("Tab")
                if view.evaluate("document.activeElement.placeholder") == key[7:]:
                    break
            view.locator(".rlhf-keys-typing").wait_for()
            assert not view.locator(".rlhf-keys-live").is_visible(), "keys are said to be on while they type"
        elif key.startswith("type "):
            view.keyboard.type(key[5:])
        else:
            view.keyboard.press(key)


@pytest.mark.browser
def test_all_label_types_by_keyboard_alone_and_no_key_leaves_the_box(page_alone, chromium):
    address, token, folder = page_alone
    context = chromium.new_context(viewport={"width": 640, "height": 450}, device_scale_factor=2)  # 200% zoom
    view = context.new_page()
    view.goto(f"{address}/?token={token}&theme=dark", timeout=120_000)
    view.get_by_placeholder("Your name").wait_for(timeout=120_000)
    view.get_by_placeholder("Your name").focus()
    view.keyboard.type("Bea")
    view.keyboard.press("Enter")
    box = view.locator(".rlhf-labeler")
    box.locator(".rlhf-keys-live").wait_for(timeout=60_000)
    view.evaluate(AROUND)
    assert box.get_attribute("data-lm-suppress-shortcuts") == "true"  # what JupyterLab's own listener asks for
    done = 0
    for kind, keys in PRESSED.items():
        for _ in range(2):
            box.get_by_text(f"Bea: {done} of 10").wait_for()
            view.wait_for_timeout(300)
            named = box.aria_snapshot()
            assert "- button\n" not in named and "- textbox\n" not in named, "a control without a name"
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the window"
            screenshot(view, f"page_{kind}_dark_200")
            if kind == "accuracy":
                assert box.locator("mark").inner_text().strip() == "The mayor opened a bridge."
                scrolls_with_the_keyboard(view, box)
            press_all(view, keys)
            done += 1
    box.get_by_text("Nothing is left").wait_for()
    for key in ("Enter", "Escape", "ArrowDown", "Home", "d", "x", "Delete", "Space"):
        view.keyboard.press(key)
    assert view.evaluate("window.leaked") == []
    context.close()
    store = LabelStore(folder / "labels.sqlite")
    frame = store.labels_frame(page.QUEUE)
    store.close()
    frame = frame[frame.labeler == "Bea"].groupby("kind").head(1).set_index("kind")
    assert frame.best_shown["best_of_4"] == 2 and frame.best_shown["preference"] == 1
    assert frame.verdict["accuracy"] == "false" and frame.text["correction"] == "The bridge, 1 s!"
    assert frame.tags["description"] == ["untrue", "repeats itself"] and frame.text["description"] == "dds1! it repeats"


def scrolls_with_the_keyboard(view, box):
    """The end of a long source, where the matching sentence stands, can be reached without a mouse."""
    view.keyboard.press("Tab")
    assert view.evaluate("document.activeElement.className") == "rlhf-context"
    view.keyboard.press("End")
    source = box.locator(".rlhf-context")
    view.wait_for_function("(e) => e.scrollTop > 0 && e.scrollTop + e.clientHeight + 2 >= e.scrollHeight",
                           arg=source.element_handle())  # fmt: skip


def screenshot(view, name):
    if shots := os.environ.get("RLHF_SCREENSHOTS"):
        view.screenshot(path=str(Path(shots) / f"{name}.png"), full_page=True)
