"""What notebooks 07 to 10 share: where rows come from, measures and their pairs, three ways to ask one question."""

import json
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from rlhf_lib import claims, findings
from rlhf_lib.analysis import rates
from rlhf_lib.corpora import tinyworld, tinyworld_check
from rlhf_lib.errors import KitError
from rlhf_lib.labels import LabelStore
from rlhf_lib.labels.readers import NO_PROBLEM, SimulatedReader, answer_all
from rlhf_lib.labels.session import LabelSession
from rlhf_lib.samples import samples_frame, write_samples


def hits(model, share, seeds=(1, 2, 3), n=40):
    random = np.random.default_rng(len(model))
    rows = pd.DataFrame(
        [{"task": "cnndm", "model": model, "seed": s, "query_id": f"q{i}"} for s in seeds for i in range(n)]
    )
    return rates.counts(rows, random.random(len(rows)) < share)


def test_measures_carry_the_pairs_that_claims_need():
    names = ("reference", "zero-shot", "supervised", "supervised + fine-tuned", "fine-tuned")
    counted = pd.concat([hits(name, 0.9 - 0.2 * k) for k, name in enumerate(names)])
    found = findings.measures(findings.named_by_model(counted, "novelty", "sentence"))
    order = next(c for c in claims.load_claims() if c.id == "novelty.cnndm.order")
    assert set(order.names) <= set(found)
    for a, b in zip(order.names, order.names[1:], strict=False):
        gap = found[f"{a} - {b}"]
        assert gap["seeds"] == 3 and gap["n"] == 40
        assert gap["value"] == pytest.approx(found[a]["value"] - found[b]["value"])


def test_own_measures_are_held_against_no_claim(tmp_path):
    found = findings.measures(findings.named_by_model(hits("fine-tuned", 0.5), "accuracy"))
    (tmp_path / "figures").mkdir()
    findings.keep_measures(tmp_path, "08", found | {"real.x": {"value": 1.0}}, own=True)
    kept = json.loads((tmp_path / "figures" / "08_measures.json").read_text())["measures"]
    assert set(kept) == {"own.accuracy.cnndm.fine_tuned", "real.x"}


def test_somebodys_own_samples_get_their_baselines(tmp_path):
    rows = [{"task": "cnndm", "model": "mine", "query": f"{w} cats sat down. They slept.", "reference": "Cats.",
             "response": "Cats slept."} for w in ("Two", "Six")]  # fmt: skip
    path = write_samples(samples_frame(rows), tmp_path / "mine.jsonl")
    opened = findings.open_samples(str(path), [])
    assert opened.groupby("model").size().to_dict() == {"mine": 2, "reference": 2, "lead-3": 2}
    assert opened["query_id"].is_monotonic_increasing
    compared = findings.compare_own(opened, "careful", judges=1)
    assert set(compared["choice"]) <= {"a", "b", "tie"} and len(compared) == 6


def test_what_was_made_before_is_told_in_one_line(capsys):
    class Run:
        task_name = "cnndm"

        def samples(self):
            print("models/a: made before from the same inputs, not made again (12).\n4 updates, about 1 s")
            print("samples/b: made before from the same inputs, not made again (34).")
            return pd.DataFrame({"model": ["a"]})

    assert len(findings._made([Run()])) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "4 updates, about 1 s" and told[1].startswith("2 models and files") and len(told) == 2


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(KitError, match="no summary task 'sentiment'"):
        findings.summary_runs(tmp_path, "smoke", "", "", [1], "cnndm, sentiment")


def test_choices_count_both_ways_and_ties_half():
    frame = pd.DataFrame({"task": "t", "query_id": list("abcd"), "a": "x", "b": "y", "choice": ["a", "a", "tie", "b"]})
    table = findings.preference_table(findings.chosen(frame)).set_index(["a", "b"])["share"]
    assert table["x", "y"] == 2.5 / 4 and table["y", "x"] == 1.5 / 4


def test_recorded_values_stand_beside_this_runs():
    new = pd.DataFrame({"task": ["t", "t"], "model": ["m", "n"], "value": [0.1, 0.2]})
    got = findings.beside(new, new[:1].assign(value=0.7), "value", ["task", "model"])
    assert got["recorded"].tolist()[0] == 0.7 and np.isnan(got["recorded"].tolist()[1])
    assert findings.beside(new, None, "value", ["task"]) is new


@pytest.fixture(scope="module")
def documents():
    return [tinyworld.article(5, k, "test") for k in range(40)]


def test_a_reader_without_slips_says_what_the_checker_says(documents):
    reader = SimulatedReader({d.text: d.facts for d in documents}, 0.0, 1)
    for one, other in pairwise(documents):
        assert reader.verdict(one.text, one.reference) == "true"
        wrong = not tinyworld_check.check(other.reference, one.facts).accurate
        assert (reader.verdict(one.text, other.reference) == "false") is wrong
        assert reader.pick(one.text, [other.reference, one.reference]) == 1 or not wrong
        corrected = reader.correction(one.text, other.reference)
        assert tinyworld_check.check(corrected, one.facts).untrue == 0
        assert reader.correction(one.text, one.reference) == one.reference
        assert "untrue" in reader.tags(one.text, other.reference) or not wrong
    with pytest.raises(KitError, match="does not know the text"):
        reader.verdict("another text", "x")


def test_silence_cannot_be_told_from_truth(documents):
    opening = next(d for d in documents if d.starts_with_preamble)
    first = opening.text.split(". ")[0] + "."
    assert SimulatedReader({opening.text: opening.facts}, 0.3, 1).verdict(opening.text, first) == "cant_tell"


def test_slips_come_as_often_as_they_are_said_to(documents):
    reader = SimulatedReader({d.text: d.facts for d in documents}, 0.2, 3)
    read = [truth for _ in range(10) for d in documents for _, truth in reader.read(d.text, d.reference)]
    assert abs(np.mean([not truth for truth in read]) - 0.2) < 0.04


def test_three_ways_through_the_session(documents, tmp_path):
    facts = {d.text: d.facts for d in documents}
    fours = [{"query": d.text, "responses": [documents[(k + j) % 40].reference for j in range(4)]}
             for k, d in enumerate(documents[:12])]  # fmt: skip
    store = LabelStore(tmp_path / "three.sqlite")
    exact = {name: SimulatedReader(facts, 0.0, seed) for seed, name in enumerate("AB")}
    verdicts = findings.ask_in_three_ways(store, fours, exact)
    assert verdicts.groupby("kind")["item"].nunique().to_dict() == {
        "best_of_4": 12,
        "description": 12,
        "correction": 12,
    }
    assert (verdicts.groupby(["kind", "item"]).size() == 2).all()
    table = findings.agreement_by_kind(verdicts).set_index("kind")
    assert (table["agreement"] == 1).all(), "who never slips always agrees where one answer is best"
    assert verdicts.query("kind == 'correction'")["verdict"].eq("as it is").all(), "true summaries need no correction"
    assert findings.slip_for(fours, facts, target=1.0) == 0.0
    store.close()


def test_slips_cost_agreement(documents, tmp_path):
    facts = {d.text: d.facts for d in documents}
    fours = [{"query": d.text, "responses": [d.reference] * 3 + [documents[k - 1].reference]}
             for k, d in enumerate(documents)]  # fmt: skip
    store = LabelStore(tmp_path / "slips.sqlite")
    verdicts = findings.ask_in_three_ways(store, fours, {n: SimulatedReader(facts, 0.3, k) for k, n in enumerate("AB")})
    table = findings.agreement_by_kind(verdicts).set_index("kind")
    assert (table["agreement"] < 0.9).all() and table["agreement"]["best_of_4"] < 0.6
    assert (table["beyond_low"] <= table["beyond_chance"]).all()
    store.close()


def test_a_reader_answers_accuracy_items_too(documents, tmp_path):
    store, d = LabelStore(tmp_path / "accuracy.sqlite"), documents[0]
    store.add_items("q", [{"query": d.text, "samples": [d.reference]}], kind="accuracy")
    assert answer_all(LabelSession(store, "R", "q"), SimulatedReader({d.text: d.facts}, 0.0, 0)) == 1
    assert store.labels_frame("q")["verdict"].tolist() == ["true"]
    store.add_items("p", [{"query": d.text, "samples": ["a", "b"]}], kind="preference")
    with pytest.raises(KitError, match="kind preference"):
        answer_all(LabelSession(store, "R", "p"), SimulatedReader({d.text: d.facts}, 0.0, 0))
    assert NO_PROBLEM
    store.close()


def test_claims_are_held_against_the_recorded_trainings(tmp_path, monkeypatch):
    def sampled(seed, text):
        return {"task": "cnndm", "model": "fine-tuned", "query_id": "q", "query": "Two cats sat down.", "seed": seed,
                "reference": "Cats.", "response": text}  # fmt: skip

    rows = samples_frame([sampled(1, "mine")]).assign(summary="mine")
    monkeypatch.setattr(findings, "RECORDED", tmp_path / "summary_samples.parquet")
    lead = samples_frame([sampled(None, "lead")]).assign(summary="lead", model="lead-3")
    rows = pd.concat([rows, lead], ignore_index=True)
    assert findings.for_claims(rows, "tiny") is rows  # nothing is recorded
    write_samples(samples_frame([sampled(s, f"recorded {s}") for s in (1, 2, 3)]), findings.RECORDED)
    (tmp_path / "summary_manifest.json").write_text(json.dumps({"profile": "tiny"}))
    assert findings.for_claims(rows, "smoke") is rows and findings.for_claims(rows, "tiny", own=True) is rows
    both = findings.for_claims(rows, "tiny")
    assert both["summary"].tolist() == ["lead", "recorded 1", "recorded 2", "recorded 3"]

    @dataclass(frozen=True)
    class Run:
        task_name: str
        seed: int

    runs = findings.runs_of(both, [Run("cnndm", 1), Run("tldr", 1)])
    assert [(run.task_name, run.seed) for run in runs] == [
        ("cnndm", 1), ("tldr", 1), ("cnndm", 2), ("tldr", 2), ("cnndm", 3), ("tldr", 3),
    ]  # fmt: skip
