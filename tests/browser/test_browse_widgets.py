"""Sample browser, token inspector and playground in a real JupyterLab: pointing, keys, buttons, markup, no kernel."""

import nbformat
import pytest
from conftest import lab_on
from nbconvert import HTMLExporter

pytestmark = pytest.mark.browser

IMPORTS = """import sys
sys.path.insert(0, "{root}")
from rlhf_lib import browse
from tests.analysis import test_browse as made
"""
CELLS = [
    "browse.inspect_tokens(made.token_frame())",
    "browse.browse_samples(made.summary_samples())",
    'browse.playground(made.letters, "ctx", ["abz", "hello"])',
]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory, root):
    """A notebook with the three widgets on made-up rows."""
    cells = [nbformat.v4.new_code_cell(code) for code in (IMPORTS.format(root=root), *CELLS)]
    spec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    path = tmp_path_factory.mktemp("browse") / "browse.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    return path


@pytest.fixture(scope="module")
def page(notebook, root, chromium):
    """That notebook in JupyterLab, all cells run."""
    with lab_on(notebook.parent, root, notebook.name) as address:
        page = chromium.new_page(viewport={"width": 1300, "height": 1400})
        page.set_default_timeout(120_000)
        page.goto(address)
        page.locator(".jp-Notebook").wait_for()
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.get_by_text("if the text ended here").wait_for()
        page.locator("li[data-id=filebrowser]").click()  # close the side bar
        yield page
        page.close()


def shown_token(page, text):
    """Wait until the inspector's details are about this token."""
    page.locator(".rlhf-tokens th").get_by_text(text).wait_for()


def test_pointing_and_arrow_keys_show_a_tokens_numbers(page):
    tokens, details = page.locator(".rlhf-tokens-text span"), page.locator(".rlhf-tokens table")
    tokens.nth(0).hover()
    shown_token(page, "token 0: She")
    assert details.locator("tr").count() == 10 and "–" not in details.locator("tr").nth(1).inner_text()
    tokens.nth(0).click()
    page.keyboard.press("ArrowRight")
    shown_token(page, "token 1: ⏎")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    shown_token(page, "token 3: <script>")  # round the end, and markup is text
    assert page.evaluate("window.hacked") is None


def test_the_inspector_turns_to_another_episode_and_colour(page):
    first = page.locator(".rlhf-tokens-text span").first
    before = first.evaluate("e => e.style.background")
    page.locator(".rlhf-tokens select").select_option("kl")
    assert first.evaluate("e => e.style.background") != before
    page.locator(".rlhf-tokens button").get_by_text("next").click()
    page.locator(".rlhf-tokens strong").get_by_text("episode 1").wait_for()


def test_the_browser_turns_searches_and_filters(page):
    box = page.locator(".jp-OutputArea").nth(2)
    box.get_by_role("button", name="next").click()
    box.get_by_text("Context 1 of cnndm").wait_for()
    box.get_by_placeholder("only texts with").fill("supervised says 7")
    box.get_by_text("1 of 1 (of 12)").wait_for()
    box.get_by_text("Context 7 of cnndm").wait_for()
    assert next(h.inner_text() for h in box.locator("th").all()) == "reference" and box.locator("th").count() == 5


def test_the_playground_scores_what_is_typed(page):
    page.locator("textarea").nth(1).fill("zq")
    page.get_by_role("button", name="Score").click()
    page.locator("code", has_text="q").wait_for()


def test_a_saved_notebook_is_a_page_without_a_kernel(page, notebook):
    """nbconvert knows no widget of a kernel that is gone, and takes the tables."""
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    body, _ = HTMLExporter().from_filename(str(notebook))
    assert (
        "Context 3 of tldr" in body and "if the text ended here" in body and "log-probability under the policy" in body
    )
