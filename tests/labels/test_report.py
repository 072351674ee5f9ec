"""`python -m rlhf_lib quality`: the panel for whoever runs a class, of any time window."""

import pytest

from rlhf_lib.__main__ import main
from rlhf_lib.labels import LabelStore, import_labels


@pytest.fixture
def url(tmp_path):
    """60 comparisons by three labelers on the first of May, one of whom clicks without reading on the second."""
    url = f"sqlite:///{tmp_path / 'labels.sqlite'}"
    store = LabelStore(url)
    rows = [
        {"id": f"c{day}-{i}", "query": f"q{day} {i}", "best": i % 4, "order": [0, 1, 2, 3], "labeler": who}
        | {"at": f"2026-05-0{day}T12:{i % 60:02d}", "seconds": 0.3 if (day, who) == (2, "bob") else 9.0}
        | {f"sample{k}": f"text {day} {i} {k}" for k in range(4)}
        for day in (1, 2)
        for i in range(60)
        for who in ("ana", "bob", "cleo")
    ]
    import_labels(store, rows, "sentiment")
    import_labels(store, [{"prompt": "p", "chosen": "a", "rejected": "b"}], "sentiment")
    store.close()
    return url


def test_the_panel_is_printed_and_the_status_says_whether_something_needs_doing(url, capsys):
    assert main(["quality", "--url", url, "--until", "2026-05-02T00:00"]) == 0
    said = capsys.readouterr().out
    assert "best_of_4: 180 labels by 3 labelers" in said and "preference" not in said
    assert not any(line.startswith("!") for line in said.splitlines())
    assert main(["quality", "--url", url, "--since", "2026-05-02T00:00"]) == 1
    said = capsys.readouterr().out
    assert "preference: 1 labels by 1 labelers" in said
    assert [line for line in said.splitlines() if line.startswith("!")] == [
        "! Median 9.0 s an answer; 33% under the floor of 1.5 s; answering faster than one can read: bob; check for "
        "guessing."
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--queue", "none"], "'none' is unknown"),
        (["--until", "2020-01-01"], "no labels in this window"),
        (["--since", "yesterday"], "--since is no moment"),
    ],
)
def test_what_cannot_be_asked_is_said(url, options, sentence, capsys):
    assert main(["quality", "--url", url, *options]) == 2
    assert sentence in capsys.readouterr().err
