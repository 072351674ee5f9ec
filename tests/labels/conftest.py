"""A throw-away PostgreSQL, and what the storage tests put in a queue."""

import glob
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from rlhf_lib.labels import LabelStore


def _as_postgres(command: list[str]) -> None:
    """initdb and pg_ctl refuse to run as root."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*prefix, *command], check=True, capture_output=True, cwd="/")


@pytest.fixture(scope="session")
def postgres():
    """Makes the URL of an empty database in a cluster of our own, on a unix socket; skips where there is no server."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not programs or not Path(programs[-1], "initdb").exists():
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    home = Path(tempfile.mkdtemp(prefix="rlhf-pg-", dir="/tmp"))
    data = home / "data"
    if os.geteuid() == 0:
        shutil.chown(home, "postgres", "postgres")
    bin_ = Path(programs[-1])
    _as_postgres([str(bin_ / "initdb"), "-D", str(data), "-A", "trust", "-U", "kit", "--no-sync", "-E", "UTF8"])
    options = f"-c listen_addresses='' -c unix_socket_directories={home} -c shared_buffers=64MB"
    _as_postgres([str(bin_ / "pg_ctl"), "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start"])
    numbers = itertools.count()

    def new_database() -> str:
        name = f"labels{next(numbers)}"
        _as_postgres([str(bin_ / "createdb"), "-h", str(home), "-U", "kit", name])
        return f"postgresql+psycopg://kit@/{name}?host={home}"

    yield new_database
    _as_postgres([str(bin_ / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"])
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    """An empty database of each kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")()
    return f"sqlite:///{tmp_path / 'labels.sqlite'}"


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url, clock):
    """A store on each kind of database, whose wall clock the test turns."""
    opened = LabelStore(url, now=clock)
    yield opened
    opened.close()


@pytest.fixture
def comparisons():
    """Makes n different four-way comparisons."""

    def make(n: int, **more) -> list[dict]:
        return [
            {"query": f"Query {i}.", "samples": [f"Sample {i}{letter}." for letter in "abcd"], **more} for i in range(n)
        ]

    return make
