"""An empty store on each kind of database, its clock, and what the storage tests put in a queue."""

import itertools

import psycopg
import pytest
import sqlalchemy as sa

from rlhf_lib.labels import LabelStore


@pytest.fixture(scope="session")
def postgres(postgres_url):
    """Makes the URL of a new, empty schema in the test session's PostgreSQL.

    A database a test would be 300 files to write and to delete again: half a minute of a session's time.
    """
    numbers = itertools.count()

    def new_schema() -> str:
        url, name = sa.make_url(postgres_url), f"labels_{next(numbers)}"
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f"create schema {name}")
        return url.set(query={"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)

    return new_schema


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
