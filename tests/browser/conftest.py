"""A real JupyterLab and a real Chromium, or a skip that says which of them is missing."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from rlhf_lib.labels.store import LabelStore

CHROMIUM_ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
CHROMIUM_ARGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Nothing that asks the network, no question about news, none of the extensions that labeling does not need.
LAB_SETTINGS = """c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
"""
SERVER_SETTINGS = {"ServerApp": {"jpserver_extensions": {"jupyter_lsp": False, "voila.server_extension": False}}}


@pytest.fixture(scope="session")
def chromium():
    """A started browser (Playwright's object)."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium here: `make test-browser` installs it on Debian")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(folder: Path, root: Path) -> dict[str, str]:
    """This process's environment with every Jupyter setting and the label store in a folder of the test's own."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
             "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")  # fmt: skip
    own = {name: str(folder / "jupyter" / name.lower()) for name in names}
    own |= {"RLHF_LABELS_URL": f"sqlite:///{folder / 'labels.sqlite'}", "PYTHONPATH": str(root)}
    return {**os.environ, **own, "JUPYTER_PREFER_ENV_PATH": "1"}


@contextlib.contextmanager
def served(command: list[str], folder: Path, root: Path, url: str, seconds: float = 180):
    """A server process for the time of the block, once `url` answers (with any status)."""
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder, root), stdout=log, stderr=log)
        try:
            wait_for(url, process, folder / "server.log", seconds)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: subprocess.Popen, log: Path, seconds: float) -> None:
    """Return when the server answers; fail with the end of its log when it dies or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not answer: {log.read_text()[-2000:]}")


@contextlib.contextmanager
def lab_on(folder: Path, root: Path, notebook: str):
    """Address, token included, of a JupyterLab that serves a notebook of this folder, for the time of the block."""
    port, token = free_port(), secrets.token_hex(16)
    settings = folder / "jupyter" / "jupyter_config_dir"
    settings.mkdir(parents=True)
    (settings / "jupyter_lab_config.py").write_text(LAB_SETTINGS)
    (settings / "jupyter_server_config.json").write_text(json.dumps(SERVER_SETTINGS))
    asks = folder / "jupyter" / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    asks.mkdir(parents=True)
    (asks / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ip=127.0.0.1", "--allow-root"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    with served(command, folder, root, f"http://127.0.0.1:{port}/api"):
        yield f"http://127.0.0.1:{port}/lab/tree/{notebook}?token={token}&reset"


@pytest.fixture
def lab(tmp_path, root):
    """Address of a JupyterLab that serves a copy of notebook 02."""
    shutil.copy(root / "notebooks" / "02_labeling.ipynb", tmp_path)
    with lab_on(tmp_path, root, "02_labeling.ipynb") as address:
        yield address


SOURCE = " ".join(f"In house {i} a clock stopped at noon." for i in range(60)) + " The mayor opened a bridge."
KINDS = {  # samples of one item of each kind
    "best_of_4": [f"text {k}" for k in range(4)],
    "accuracy": ["A bridge was opened by the mayor."],
    "description": ["It is a bridge that is a bridge."],
    "correction": ["Teh bridge."],
    "preference": ["left", "right"],
}


@pytest.fixture(scope="module")
def page_alone(tmp_path_factory, root):
    """(address, token, folder) of the labeling page that `make label` serves; two items of each kind in its queue."""
    folder = tmp_path_factory.mktemp("page")
    with contextlib.closing(LabelStore(folder / "labels.sqlite")) as store:
        for kind, texts in KINDS.items():
            items = [{"query": f"context {i}", "source": f"Article {i}. {SOURCE}", "samples": texts} for i in range(2)]
            store.add_items("sentiment", items, kind=kind, overlap_share=1.0, overlap=3)
    port, token = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "rlhf_lib", "label", f"--port={port}", f"--token={token}"]
    with served(command, folder, root, f"http://127.0.0.1:{port}/"):
        yield f"http://127.0.0.1:{port}", token, folder


@pytest.fixture
def recorded_page(tmp_path, root):
    """(address, token) of the labeling page on an empty store, which it fills with the base's recorded samples."""
    port, token = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "rlhf_lib", "label", f"--port={port}", f"--token={token}"]
    with served(command, tmp_path, root, f"http://127.0.0.1:{port}/", seconds=900):
        yield f"http://127.0.0.1:{port}", token
