"""What all tests share: fixed seeds, the path for subprocesses, a private place for runs, the soak report."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# A test that starts `python -m rlhf_lib` finds the package in this tree, however pytest was started.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

# Runs and labels of the tests, and of the notebooks that nbval runs, are nobody's real ones. Processes of pytest-xdist
# share the runs, so that a model that several notebooks need is trained once: the cache lets two meet.
PRIVATE = tempfile.TemporaryDirectory(prefix="rlhf-tests-")
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["RLHF_RUNS"] = f"{PRIVATE.name}/runs"
os.environ["RLHF_LABELS_URL"] = f"sqlite:///{PRIVATE.name}/labels.sqlite"

settings.register_profile("kit", derandomize=True, deadline=None)
settings.load_profile("kit")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real data beside the repository; the test skips, saying so, where it is not there."""
    folder = Path(os.environ.get("RLHF_REAL_DATA", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set RLHF_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory):
    """The URL of a PostgreSQL that lives for this test session; skips, saying so, where Debian's is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if os.geteuid() == 0 and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser to start it as another user")
    other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="rlhf-pg-"))  # not below pytest's folder, which only its owner may enter
    if other:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program, *words):
        subprocess.run([*other, programs[-1].with_name(program), *words], check=True, capture_output=True, cwd=folder)

    run("initdb", "-D", folder / "data", "-U", "kit", "-A", "trust", "--no-sync", "-E", "UTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    run("pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")
    yield f"postgresql+psycopg://kit@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption("--soak-report", metavar="FILE", help="write outcomes, seconds and counts to FILE (JSON)")


def pytest_configure(config):
    config.soak_rows = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or report.outcome != "passed":  # a skip or an error in set-up has no call
        item.config.soak_rows[report.nodeid] = {
            "outcome": report.outcome,
            "seconds": round(report.duration, 1),
            **dict(report.user_properties),  # record_property("labels", 8000) in a test
        }
    return report


def pytest_sessionfinish(session):
    path = session.config.getoption("--soak-report")
    if not path or not session.config.soak_rows:
        return
    body = {"finished": time.strftime("%Y-%m-%d"), "python": sys.version.split()[0], "tests": session.config.soak_rows}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
