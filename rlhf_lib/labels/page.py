"""Labeling as a page of its own: Voilà on this machine's loopback address, behind a token, without any code in sight.

Everybody who opens the page gives a name and labels the same queue; each gets a kernel of their own. A class labels
together with a page on each machine and one PostgreSQL database behind them all (RLHF_LABELS_URL).
"""

import argparse
import html
import os
import secrets
import socket
import tempfile
from contextlib import closing
from pathlib import Path

import ipywidgets as widgets
import nbformat

from rlhf_lib.errors import KitError
from rlhf_lib.labels import comparisons
from rlhf_lib.labels.session import LabelSession
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.labels.widgets import Labeler

PORT = 8866
# Voilà's template asks a font server elsewhere for icons; the page must not talk to anybody but this machine.
ONLY_HERE = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; connect-src 'self' ws: wss:"
QUEUE = "sentiment"
INSTRUCTION = """# Which is the best?

Read the context, then pick **the happiest of the four responses**. If two seem equal, pick either and go on. Every
answer is saved at once: you may close the page at any time and go on later under the same name."""


def fill(queue: str, n: int = 200) -> None:
    """Put n comparisons into an empty queue: a fifth goes to two labelers, a twentieth comes back to the same one."""
    with closing(LabelStore()) as store:
        if store.count_items(queue) == 0:
            items, where_from = comparisons.load(n=n)
            store.add_items(queue, items, overlap_share=0.2, overlap=2, repeats=0.05, only_if_empty=True)
            print(f"Queue {queue!r} was empty; it is filled now. {where_from}", flush=True)


def welcome(queue: str = QUEUE) -> widgets.VBox:
    """What a visitor sees: a field for the name, and after it the labeling box for that name."""
    name = widgets.Text(placeholder="Your name", description="Name", continuous_update=False)
    start = widgets.Button(description="Start labeling")
    said = widgets.HTML()
    page = widgets.VBox([widgets.HBox([name, start]), said])

    def begin(_):
        if said not in page.children:
            return  # it has begun: leaving the field with a click on the button is both
        try:
            if not name.value.strip():
                raise KitError("Please write your name first.")
            session = LabelSession(LabelStore(), " ".join(name.value.split()), queue)
            page.children = [Labeler(session, everybody=False, focus=True).view]
        except KitError as error:
            said.value = f'<span role="alert">{html.escape(str(error))}</span>'

    start.on_click(begin)
    name.observe(begin, "value")  # Enter
    return page


def page_notebook(queue: str, instruction: str = INSTRUCTION) -> nbformat.NotebookNode:
    """The notebook that Voilà shows: the instruction, and one cell with the box."""
    code = f"from rlhf_lib.labels.page import welcome\n\nwelcome({queue!r})"
    cells = [nbformat.v4.new_markdown_cell(instruction), nbformat.v4.new_code_cell(code)]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def serve(
    port: int = PORT,
    token: str | None = None,
    queue: str = QUEUE,
    instruction: str = INSTRUCTION,
    open_browser: bool = False,
) -> None:
    """Serve the page at 127.0.0.1:`port` until interrupted; without `token` in the address nobody gets in.

    `instruction` (Markdown) is what labelers read above the box. Raises KitError for an empty token or a taken port.
    """
    token = secrets.token_urlsafe(24) if token is None else token
    if not token.strip():
        raise KitError("The labeling page needs a token; leave --token out to have one made.")
    check_free(port)
    fill(queue)
    from voila.app import Voila  # slow to import, and needed here alone

    root = Path(__file__).resolve().parents[2]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    with tempfile.TemporaryDirectory(prefix="labeling-page-") as folder:
        path = Path(folder) / "label.ipynb"
        nbformat.write(page_notebook(queue, instruction), path)
        print(f"Labeling page: http://127.0.0.1:{port}/?token={token}  (&theme=dark: dark; Ctrl-C ends it)", flush=True)
        # The token goes in as a value, not as an argument, so that no list of processes shows it.
        Voila.launch_instance(
            argv=[str(path)],
            ip="127.0.0.1",
            port=port,
            port_retries=0,
            token=token,
            open_browser=open_browser,
            tornado_settings={"headers": {"Content-Security-Policy": ONLY_HERE}},
        )


def instruction_of(path: Path | None) -> str:
    """The instruction in a Markdown file; raises KitError if it cannot be read."""
    if path is None:
        return INSTRUCTION
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"The instruction {path} cannot be read ({error}); give a Markdown file.") from None


def check_free(port: int) -> None:
    """Raises KitError if something listens on this port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise KitError(f"The labeling page cannot use port {port} ({error}); choose another with --port.") from None


def main(argv: list[str]) -> int:
    """`label`: serve the labeling page; returns 0 when it is ended with Ctrl-C."""
    parser = argparse.ArgumentParser(prog="rlhf_lib label", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument("--token", help="default: a new random one, printed with the address")
    parser.add_argument("--queue", default=QUEUE, help=f"which queue of the label store (default: {QUEUE})")
    parser.add_argument("--instruction", type=Path, help="a Markdown file to read above the box (default: sentiment's)")
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")
    options = parser.parse_args(argv)
    serve(options.port, options.token, options.queue, instruction_of(options.instruction), options.open)
    return 0
