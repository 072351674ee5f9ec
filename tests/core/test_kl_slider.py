"""Samples by KL: sorted, escaped, moved at once, and a table where nobody is there to move anything."""

import pandas as pd
import pytest
from IPython.display import HTML

from rlhf_lib import kl_slider
from rlhf_lib.errors import KitError


def samples():
    rows = [
        {"policy": name, "policy_kl": kl, "query_id": f"q{i}", "query": f"word {i} " * 20,
         "response_truncated": f" {name} says <b>{i}</b>", "true": kl + i}
        for name, kl in (("far", 9.0), ("base", 0.0), ("near", 2.0)) for i in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_slider_moves_from_the_base_outwards_and_shows_what_was_sampled():
    choose, text = kl_slider.slider(samples()).children
    seen = []
    for _, place in choose.options:
        choose.value = place
        seen.append(text.value)
    assert ["base says" in s for s in seen] == [True, False, False] and "far says" in seen[-1]
    assert [label for label, _ in choose.options] == ["0.0 nats", "2.0 nats", "9.0 nats"]
    assert "KL 9.0 nats" in seen[-1] and "+11.00" in seen[-1]
    assert "<b>1</b>" not in seen[0] and "&lt;b&gt;1&lt;/b&gt;" in seen[0]


def test_policies_of_one_kl_are_told_apart():
    same = samples().assign(policy_kl=1.0)
    labels = [label for label, _ in kl_slider.slider(same).children[0].options]
    assert len(set(labels)) == 3


def test_without_a_person_it_is_a_table(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    shown = kl_slider.samples_by_kl(samples())
    assert isinstance(shown, HTML) and shown.data.count("<table") == 3
    assert shown.data.index("base says") < shown.data.index("near says") < shown.data.index("far says")
    monkeypatch.setenv("JPY_SESSION_NAME", "05.ipynb")
    assert not isinstance(kl_slider.samples_by_kl(samples()), HTML)


def test_missing_columns_are_named():
    with pytest.raises(KitError, match="policy_kl"):
        kl_slider.by_kl(samples().drop(columns="policy_kl"))
    with pytest.raises(KitError, match="rows"):
        kl_slider.by_kl(samples().head(0))
