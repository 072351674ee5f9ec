"""Likelihood under another model: against a plain transformers loop, one sample at a time."""

import numpy as np
import pandas as pd
import pytest
import torch

from rlhf_lib import claims, likelihood, manifest
from rlhf_lib.__main__ import main
from rlhf_lib.errors import KitError
from rlhf_lib.policy import load_lm
from rlhf_lib.samples import write_samples

QUERIES = ["The old man walked to the river.", "It was", "She opened the door. " * 4]
RESPONSES = [" He was happy to see the boats.", " a dark night.", ""]


@pytest.fixture(scope="module")
def base():
    return load_lm(manifest.ROOT / "data" / "base")


def one_at_a_time(lm, tokenizer, query, response):
    asked, said = tokenizer(query)["input_ids"], tokenizer(response)["input_ids"]
    with torch.no_grad():
        logprobs = lm(torch.tensor([asked + said])).logits[0].log_softmax(-1)
    return sum(logprobs[len(asked) - 1 + i, token].item() for i, token in enumerate(said)) / len(said)


def test_equals_a_plain_loop_and_knows_no_number_for_an_empty_response(base):
    found = likelihood.log_likelihood(*base, QUERIES, RESPONSES)
    for query, response, value in zip(QUERIES[:2], RESPONSES[:2], found, strict=False):
        assert value == pytest.approx(one_at_a_time(*base, query, response), abs=1e-4)
    assert found[2] is None


def test_a_long_query_loses_its_beginning(base):
    lm, tokenizer = base
    long, said = "She walked to the market. " * 80, RESPONSES[0]
    room = lm.config.n_positions - len(tokenizer(said)["input_ids"])
    kept = tokenizer(long)["input_ids"][-room:]
    with torch.no_grad():
        ids = torch.tensor([kept + tokenizer(said)["input_ids"]])
        each = lm(ids).logits[0, room - 1 : -1].log_softmax(-1).gather(1, ids[0, room:, None])
    assert likelihood.log_likelihood(lm, tokenizer, [long], [said]) == pytest.approx([each.mean().item()], abs=1e-4)
    with pytest.raises(KitError, match="leaves this model no room"):
        likelihood.log_likelihood(lm, tokenizer, ["Hello."], [long * 2])


def test_the_command_tells_models_apart(tmp_path, capsys):
    fluent = " He was happy to see the boats."
    shuffled = " boats the see to happy. was He"
    rows = [
        {"task": "sentiment", "model": model, "query": QUERIES[0], "response": text}
        for model, text in (("a", fluent), ("b", shuffled))
    ]
    write_samples(rows, tmp_path / "samples.jsonl")
    assert main(["likelihood", str(tmp_path / "samples.jsonl"), "--model", str(manifest.ROOT / "data" / "base")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert {line[1] for line in lines} == {"a", "b"}
    of = {line[1]: float(line[2]) for line in lines}
    assert of["a"] > of["b"] + 1


def likely(mine, base, task="sentiment"):
    models = ["fine-tuned"] * len(mine) + ["zero-shot"] * len(base)
    return pd.DataFrame({"model": models, "likely": [*mine, *base], "task": task, "seed": 1})


def test_the_gap_is_between_two_medians_and_its_interval_covers_the_truth():
    assert likelihood.gap(likely([-2.0, -3, -4], [-1, -2, -2.5]))["value"] == -1.0
    random, covered = np.random.default_rng(3), 0
    for _ in range(60):
        found = likelihood.gap(likely(random.normal(-3, 1, 80), random.normal(-3.5, 1, 80)))
        covered += found["low"] <= 0.5 <= found["high"]
    assert covered >= 50  # 57 are expected
    with pytest.raises(KitError, match="zero-shot"):
        likelihood.gap(likely([-2.0], []))


def test_the_gap_and_the_runs_own_measures_are_kept_for_the_claims(tmp_path):
    rows, figures = likely([-2.0, -3, -4], [-1, -2, -2.5]), tmp_path / "run" / "figures"
    claims.record_measures(figures, "04_measures", {"style.sentiment.preference": {"value": 0.9}})
    with pytest.raises(KitError, match="no measures of one task on real prose"):  # a run on the embedded world
        likelihood.record(rows, figures, tmp_path / "kept" / "real_prose.json")
    measure = {"value": 0.8, "low": 0.78, "high": 0.82, "n": 1024, "seeds": 1}
    claims.record_measures(figures, "03_measures", {"real_prose.sentiment.preference": measure})
    likelihood.record(rows, figures, tmp_path / "kept" / "real_prose.json")
    kept = claims.load_measures(tmp_path / "kept")
    assert set(kept) == {"real_prose.sentiment.preference", "real_prose.sentiment.loglik_gap"}
    assert kept["real_prose.sentiment.preference"].n == 1024
