"""What all tests share: fixed seeds, the path for subprocesses, a private place for runs, the soak report."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# A test that starts `python -m rlhf_lib` finds the package in this tree, however pytest was started.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

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
