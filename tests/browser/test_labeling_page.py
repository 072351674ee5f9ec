"""Notebook 02 in a real JupyterLab: keys, clicks, undo, reload, and texts that try to be markup."""

import os
import re
import statistics
import time
from pathlib import Path

import pytest

from rlhf_lib.labels.importing import import_labels
from rlhf_lib.labels.shown import visible
from rlhf_lib.labels.store import LabelStore

pytestmark = pytest.mark.browser

QUEUE = "notebook-02"
STORED = 20_000
PATIENCE = 60  # seconds for the next item: others may hold the cores, and speed is measured apart
NASTY = [
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "**bold** [link](javascript:window.hacked=1) $x^2$",
    "\x1b[31mred\x1b[0m \u202eright to left\u202c zero\u200bwidth שלום",
]
# Records when a key went down, and when the first card's text next changed (after the frame that draws it).
WATCH = """() => {
  const box = document.querySelector(".rlhf-labeler"), card = box.querySelector(".rlhf-card");
  window.pressed = 0; window.waits = [];
  window.addEventListener("keydown", () => { window.pressed = performance.now(); }, true);
  new MutationObserver(() => {
    if (!window.pressed) return;
    const began = window.pressed;
    window.pressed = 0;
    requestAnimationFrame(() => window.waits.push(performance.now() - began));
  }).observe(card, { childList: true, subtree: true, characterData: true });
}"""


# What JupyterLab's shortcuts would change: cells, their types and which one is active, the mode, a dialog.
NOTEBOOK = """() => {
  const cells = [...document.querySelectorAll(".jp-Cell")];
  return [
    cells.map((cell) => /jp-(Code|Markdown|Raw)Cell/.exec(cell.className)?.[1]).join(),
    cells.findIndex((cell) => cell.classList.contains("jp-mod-active")),
    document.querySelectorAll(".jp-Notebook .jp-mod-selected").length,
    /jp-mod-(command|edit)Mode/.exec(document.querySelector(".jp-Notebook").className)[1],
    document.querySelectorAll(".jp-Dialog").length,
  ];
}"""
# Delete, insert, cut, paste, merge, to Markdown, restart, move, select, edit, run: JupyterLab's in command mode.
SHORTCUTS = ["d", "d", "a", "b", "x", "v", "Shift+M", "m", "r", "y", "0", "0", "j", "k", "ArrowDown", "ArrowUp"]
SHORTCUTS += ["Shift+ArrowDown", "Enter", "Escape", "Home", "End", "z", "Shift+Enter"]


def at_rest(page) -> list:
    """What NOTEBOOK says once a second has changed nothing: JupyterLab draws a notebook's last cells late."""
    seen = None
    while seen != (now := page.evaluate(NOTEBOOK)):
        seen = now
        page.wait_for_timeout(1000)
    return now


@pytest.fixture
def filled(tmp_path):
    """A store with 20,000 labels of others and 26 open items, one of them full of markup, in the notebook's queue."""
    store = LabelStore(tmp_path / "labels.sqlite")
    rows = (
        {"id": f"old-{i}", "query": f"old {i}", "best": i % 4, "labeler": f"p{i % 9}", "seconds": 5.0}
        | {f"sample{k}": f"text {i} {k}" for k in range(4)}
        for i in range(STORED)
    )
    import_labels(store, rows, QUEUE)
    items = [
        {"id": f"new-{i}", "query": f"item {i} of the test", "samples": [f"text {k} of item {i}" for k in range(4)]}
        for i in range(26)
    ]
    items[3] |= {"query": f"item 3 of the test {NASTY[0]}", "samples": NASTY}
    store.add_items(QUEUE, items)
    yield store
    store.close()


def run_all(page):
    """Run all cells from the menu, and bring the labeling box into view."""
    page.locator(".jp-Notebook").wait_for()
    idle = page.get_by_text("Python 3 (ipykernel) | Idle")
    idle.wait_for(timeout=120_000)  # before, Run would ask for a kernel
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    heading(page)
    page.locator(".rlhf-labeler").first.wait_for(timeout=120_000)
    still = 0
    while still < 8:  # idle for two seconds on end, not only between two cells; answers wait behind running cells
        time.sleep(0.25)
        still = still + 1 if idle.is_visible() else 0
    heading(page)  # the notebook may have moved on with the cells that ran


def heading(page):
    """Scroll to the box with the table of contents, as a reader would, and close the side bar again."""
    page.locator("li[data-id=table-of-contents]").click()
    page.locator(".jp-TableOfContents-content").get_by_text("Your first twenty labels").click()
    page.locator("li[data-id=table-of-contents]").click()


def box_of(page):
    return page.locator(".rlhf-labeler").first


def shown_item(page, not_this=None) -> int:
    """Number of the item on the screen, once it is another than `not_this`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        text = box_of(page).locator(".rlhf-context").first.inner_text()
        number = re.search(r"item (\d+) of the test", text)
        if number and int(number[1]) != not_this:
            return int(number[1])
        time.sleep(0.01)
    raise AssertionError(f"item {not_this} is still shown after {PATIENCE} seconds: {box_of(page).inner_text()}")


def settle():
    """Wait until an answer is no longer taken for a double click."""
    time.sleep(0.25)


def press(page, key, item):
    return after(page, item, lambda: page.keyboard.press(key))


def click(page, position, item):
    return after(page, item, box_of(page).get_by_role("button", name=f"{position + 1} is best").click)


def after(page, item, act) -> int:
    """Act, and give the next item's number, once the page counts it as shown and a moment to read it has passed."""
    view = box_of(page).get_attribute("data-view")
    act()
    following = shown_item(page, not_this=item)
    box_of(page).and_(page.locator(f'.rlhf-labeler:not([data-view="{view}"])')).wait_for()
    settle()
    return following


def assert_plain(page):
    """The nasty item is on the screen: as text, and nothing of it has run."""
    cards = box_of(page).locator(".rlhf-card .rlhf-text").all_inner_texts()
    assert sorted(cards) == sorted(visible(text) for text in NASTY)
    assert box_of(page).locator("script, img, .rlhf-card a, .rlhf-card strong").count() == 0
    assert page.evaluate("window.hacked") is None


def labels_of(store):
    frame = store.labels_frame(QUEUE)
    frame = frame[frame.labeler == "you"]
    return list(zip(frame.comparison_id, frame.best_shown, strict=True))


def test_label_with_keys_and_clicks_undo_reload_and_go_on(chromium, lab, filled, record_property):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(lab)
    run_all(page)
    item = shown_item(page)
    box_of(page).locator(".rlhf-context").first.click()
    assert "Keys are on" in box_of(page).locator(".rlhf-keys-live").inner_text()
    before = at_rest(page)
    for key in SHORTCUTS:
        page.keyboard.press(key)
        assert page.evaluate(NOTEBOOK) == before, f"{key} went to JupyterLab"
    assert shown_item(page) == item and labels_of(filled) == []
    page.evaluate(WATCH)
    wanted = []
    for i in range(10):
        if item == 3:
            assert_plain(page)
        wanted.append((f"new-{item}", i % 4))
        item = press(page, str(i % 4 + 1), item)
    waits = page.evaluate("window.waits")
    for i in range(10):
        wanted.append((f"new-{item}", (i + 1) % 4))
        item = click(page, (i + 1) % 4, item)
    assert page.evaluate("window.hacked") is None and "new-3" in dict(wanted)
    assert labels_of(filled) == wanted
    taken_back = wanted.pop()[0]
    page.keyboard.press("u")
    item = shown_item(page, not_this=item)
    assert f"new-{item}" == taken_back and labels_of(filled) == wanted
    screenshot(page, "labeling_light")

    page.goto("about:blank")
    page.goto(lab)
    run_all(page)
    assert shown_item(page) == item and "Welcome back: 19 labels" in box_of(page).inner_text()
    settle()
    wanted.append((f"new-{item}", 2))
    item = click(page, 2, item)
    box_of(page).get_by_role("button", name="2 is best").dblclick()  # counts once
    wanted.append((f"new-{item}", 1))
    shown_item(page, not_this=item)
    settle()
    assert labels_of(filled) == wanted
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("4")  # the box has not the focus
    settle()
    assert labels_of(filled) == wanted and len(filled.labels_frame(QUEUE)) == STORED + len(wanted)
    report(waits, record_property)
    page.close()


def report(waits, record_property):
    """Keep the time from keystroke to next item: under 100 ms at the median, longer only as others hold the cores."""
    assert len(waits) == 10
    crowding = max(1.0, os.getloadavg()[0] / os.cpu_count())
    row = {
        "median_ms": round(statistics.median(waits), 1),
        "max_ms": round(max(waits), 1),
        "keystrokes": len(waits),
        "labels_in_store": STORED,
        "load_per_core": round(os.getloadavg()[0] / os.cpu_count(), 2),
    }
    print("keystroke to next item:", row)
    for name, value in row.items():
        record_property(name, value)
    assert row["median_ms"] < 100 * crowding


def screenshot(page, name):
    if folder := os.environ.get("RLHF_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
