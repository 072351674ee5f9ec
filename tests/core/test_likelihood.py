"""Likelihood under another model: against a plain transformers loop, one sample at a time."""

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
    query = "She walked to the market. " * 80
    kept, said = likelihood._encoded(tokenizer, query, RESPONSES[0], lm.config.n_positions)
    assert len(kept) + len(said) == lm.config.n_positions
    assert kept == tokenizer(query)["input_ids"][-len(kept) :]
    with pytest.raises(KitError, match="does not fit"):
        likelihood.log_likelihood(lm, tokenizer, ["Hello."], [query * 2])


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


def test_the_gap_and_the_runs_own_measures_are_kept_for_the_claims(tmp_path):
    likely = pd.DataFrame({"model": ["fine-tuned"] * 3 + ["zero-shot"] * 3, "likely": [-2.0, -3, -4, -1, -2, -2.5]})
    found = likelihood.gap(likely)
    assert found["value"] == -1.0 and found["low"] <= -1.0 <= found["high"] and found["n"] == 3
    with pytest.raises(KitError, match="zero-shot"):
        likelihood.gap(likely[likely.model == "fine-tuned"])
    claims.record_measures(tmp_path / "run" / "figures", "04_measures", {
        "real_prose.sentiment.preference": {"value": 0.8, "low": 0.78, "high": 0.82, "n": 1024, "seeds": 1},
        "style.sentiment.preference": {"value": 0.9},
    })  # fmt: skip
    likelihood.record(found, tmp_path / "run" / "samples" / "x.parquet", tmp_path / "kept" / "real_prose.json")
    kept = claims.load_measures(tmp_path / "kept")
    assert set(kept) == {"real_prose.sentiment.preference", "real_prose.sentiment.loglik_gap"}
    assert kept["real_prose.sentiment.preference"].n == 1024
