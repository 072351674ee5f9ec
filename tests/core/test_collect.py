"""Collection: what labelers are shown, and whose label is whose."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from core_models import STYLE, TEXTS

from rlhf_lib import collect
from rlhf_lib.errors import KitError
from rlhf_lib.labels.simulated import SimulatedLabeler
from rlhf_lib.tasks import Task, build_queries


@pytest.fixture()
def eager(policy, task):
    """A policy that ends sentences often enough for the filter."""
    with torch.no_grad():
        policy.lm.transformer.ln_f.bias += 2.0 * policy.lm.transformer.wte.weight[task.truncate_id]
    return policy


def test_each_query_gets_its_samples_in_order(eager, task):
    queries = build_queries(TEXTS, task)
    rows = collect.sample_texts(eager, queries, task, seed=1, each=3)
    asked = [task.decode(q, m) for q, m in zip(queries.ids, queries.mask, strict=True)]
    assert [row["query"] for row in rows] == [text for text in asked for _ in range(3)]
    assert all(row["response"].startswith(row["response_truncated"]) for row in rows)


def test_only_passing_keeps_what_passed_at_once_and_draws_the_rest_again(eager, task):
    queries = build_queries(TEXTS, task)
    raw = collect.sample_texts(eager, queries, task, seed=1, each=4)
    shown = collect.sample_texts(eager, queries, task, seed=1, only_passing=True, each=4)
    share = np.mean([row["penalised"] for row in raw])
    assert 0.1 < share < 0.9, share
    assert np.mean([row["penalised"] for row in shown]) < share / 4
    for before, after in zip(raw, shown, strict=True):
        if not before["penalised"]:
            assert after == before
        elif not after["penalised"]:
            assert after["response_truncated"].endswith(".")


def test_entropy_is_the_mean_surprise_of_whole_responses(policy, task):
    """A flat model over V tokens has R * ln V nats a response."""
    with torch.no_grad():
        for parameter in policy.lm.parameters():
            parameter.zero_()
    rows = collect.sample_texts(policy, build_queries(TEXTS, task), task, seed=1)
    expected = STYLE.response_length * np.log(policy.lm.config.vocab_size)
    assert [row["entropy"] for row in rows] == pytest.approx([expected] * len(rows), rel=1e-5)


def test_a_policy_that_never_ends_is_a_sentence(policy, task):
    never = Task("sentiment", replace(STYLE, truncate_after=STYLE.response_length), task.tokenizer)
    with pytest.raises(KitError, match="end in time"):
        collect.comparisons(policy, build_queries(TEXTS, never), never, seed=1)


def test_labelers_take_turns_and_label_what_they_like():
    rows = [{"query": f"q{i}", "responses": ["a", "bbbb", "cc", "d"]} for i in range(10)]
    longest = SimulatedLabeler(lambda _, response: float(len(response)), noise=0.0, seed=1)
    shortest = SimulatedLabeler(lambda _, response: -abs(len(response) - 2.0), noise=0.0, seed=2)
    labeled = collect.label_offline(rows, [longest, shortest])
    assert [row["labeler"] for row in labeled] == [0, 1] * 5
    assert [row["best"] for row in labeled] == [1, 2] * 5
    assert [row["query"] for row in labeled] == [row["query"] for row in rows]
