"""The labeling page as README shows it. RLHF_SCREENSHOTS=figures in the environment writes figures/labeling.png."""

import os
from pathlib import Path

import pytest
from PIL import Image

MOST_BYTES = 200_000
ANSWERED = 4  # so that progress and pace have something to show
PATIENCE = 900  # seconds: on a machine that is busy with trainings a kernel takes its time


@pytest.mark.browser
def test_the_page_shows_a_recorded_comparison(recorded_page, chromium):
    """A context, four cards, and what was done so far."""
    address, token = recorded_page
    context = chromium.new_context(viewport={"width": 1000, "height": 700})
    context.set_default_timeout(1000 * PATIENCE)
    view = context.new_page()
    view.goto(f"{address}/?token={token}")
    view.get_by_placeholder("Your name").fill("Ada")
    view.get_by_role("button", name="Start labeling").click()
    box = view.locator(".rlhf-labeler")
    box.locator(".rlhf-keys-live").wait_for()
    for done in range(ANSWERED):
        view.wait_for_timeout(2_000)  # sooner would be a double click, or somebody who did not read
        view.keyboard.press(str(1 + (3 * done + 1) % 4))
        box.get_by_text(f"Ada: {done + 1} of ").wait_for()
    assert box.locator(".rlhf-card").count() == 4 and box.locator(".rlhf-context").first.inner_text().strip()
    if shots := os.environ.get("RLHF_SCREENSHOTS"):
        path = Path(shots) / "labeling.png"
        view.screenshot(path=str(path), full_page=True)
        Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)
        assert path.stat().st_size < MOST_BYTES
    context.close()
