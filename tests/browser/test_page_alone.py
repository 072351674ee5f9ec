"""The labeling page that `make label` serves: closed without the token, on loopback only, and usable with it."""

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
    view.locator(".rlhf-keys-off").wait_for(timeout=60_000)
    view.locator(".rlhf-context").first.click()
    view.wait_for_timeout(300)  # an answer within 200 ms of the item's appearance would be taken for a double click
    view.keyboard.press("3")
    view.get_by_text("1 of ").wait_for()
    assert "<i>Ana</i>" in view.locator(".rlhf-labeler").inner_text()
    context.close()
    store = LabelStore(folder / "labels.sqlite")
    frame = store.labels_frame(page.QUEUE)
    store.close()
    assert list(frame.labeler) == ["<i>Ana</i>"] and list(frame.best_shown) == [2]
    assert not [url for url in elsewhere if not url.startswith(("blob:", "data:"))]
