"""The style run: what its results depend on, and what its numbers mean."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_lib import manifest, style, style_sweep
from rlhf_lib.errors import KitError
from rlhf_lib.labels import simulated
from rlhf_lib.style import StyleRun


class Asked(Exception):
    """Stops a step at its first question to the cache."""


@pytest.mark.parametrize(
    "step, room", [("base_measures", "collect"), ("labels", "labels.simulated"), ("reward_model", "reward"),
                   ("_policy_folder", "ppo"), ("samples", "collect")],
)  # fmt: skip
def test_a_change_of_code_remakes_what_it_made(tmp_path, monkeypatch, step, room):
    def cached(run_dir, name, inputs, make, rooms=(), resumes=False):
        raise Asked(rooms)

    monkeypatch.setattr(style.manifest, "cached", cached)
    monkeypatch.setattr(StyleRun, "ppo_config", lambda self: self.config.ppo)
    run = StyleRun(tmp_path, "sentiment", "smoke")
    if step == "samples":
        monkeypatch.setattr(StyleRun, "_policy_folder", lambda self, labels=None: Path("p"))
    with pytest.raises(Asked) as asked:
        getattr(run, step)()
    assert room in asked.value.args[0]


def test_the_base_counts_by_its_weights_its_tokenizer_and_its_precision(tmp_path):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("1")

    def key(**overrides) -> str:
        run = StyleRun(tmp_path, "sentiment", "smoke", model=str(tmp_path), overrides=overrides)
        return manifest.inputs_key("x", run._inputs())[0]

    seen = {key(), key(dtype="bfloat16")}
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("2")
        seen.add(key())
    assert len(seen) == 5
    (tmp_path / "card.json").write_text("only words about it")
    assert key() in seen


def test_too_few_comparisons_are_not_passed_off_as_all(tmp_path, monkeypatch):
    monkeypatch.setattr(style.collect, "comparisons", lambda *_: [{"query": "q", "responses": list("abcd")}] * 3)
    monkeypatch.setattr(style.manifest, "cached", lambda run_dir, name, inputs, make, *_, **__: make(tmp_path / "x"))
    monkeypatch.setattr(StyleRun, "queries", lambda *_: None)
    monkeypatch.setattr(StyleRun, "base", (None, None))
    monkeypatch.setattr(StyleRun, "task", None)
    with pytest.raises(KitError, match="Only 3 of 64"):
        StyleRun(tmp_path, "sentiment", "smoke").labels()


def test_the_ceiling_does_not_move_with_the_policy_that_is_judged(tmp_path, monkeypatch):
    base = ["A lovely day.", "It rained.", "An awful mess.", "He was glad."]
    monkeypatch.setattr(StyleRun, "base_measures", lambda self: {"noise": 2.0})

    def ceiling(tuned: list[str]) -> float:
        rows = [{"model": m, "shown": True, "query_id": i, "response_truncated": t}
                for m, texts in (("zero-shot", base), ("fine-tuned", tuned)) for i, t in enumerate(texts)]  # fmt: skip
        monkeypatch.setattr(StyleRun, "samples", lambda self, labels=None: pd.DataFrame(rows))
        return StyleRun(tmp_path, "sentiment", "smoke").preference()["ceiling"]

    scores = np.array([simulated.vader_sum(text) for text in base])
    by_hand = simulated.expected_preference(np.full(4, scores.max()), scores, 2.0)
    assert ceiling(["Great love and joy."] * 4) == ceiling(["It rained."] * 4) == pytest.approx(by_hand)


def test_a_task_is_recorded_again_without_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(StyleRun, "metrics", lambda self, labels: pd.DataFrame({"objective/kl": [float(self.seed)]}))
    samples = pd.DataFrame({"query_id": ["q0", f"q{style_sweep.SHOWN_SAMPLES}"], "response": ["a", "b"]})
    monkeypatch.setattr(StyleRun, "samples", lambda self, labels: samples.assign(task=self.task_name))

    def record(task: str, seeds: list[int], base: str = "one") -> dict:
        monkeypatch.setattr(style_sweep, "base_of", lambda run: base)
        rows = pd.DataFrame({"task": task, "labels": 8, "seed": seeds, "preference": 0.5})
        style_sweep.record(tmp_path, "smoke", rows, tmp_path / "kept")
        read = {name: pd.read_parquet(tmp_path / "kept" / f"style_{name}.parquet") for name in ("curves", "samples")}
        read["sweep"] = pd.read_json(tmp_path / "kept" / "style_sweep.json")
        return {name: frame.groupby("task").size().to_dict() for name, frame in read.items()}

    assert record("sentiment", [1, 2]) == {n: {"sentiment": 2} for n in ("curves", "samples", "sweep")}
    both = record("descriptiveness", [1])
    assert both == {n: {"descriptiveness": 1, "sentiment": 2} for n in ("curves", "samples", "sweep")}
    assert record("sentiment", [3])["sweep"] == {"descriptiveness": 1, "sentiment": 1}
    parts = json.loads((tmp_path / "kept" / "style_manifest.json").read_text())["parts"]
    assert {task: part["runs"] for task, part in parts.items()} == {"descriptiveness": 1, "sentiment": 1}
    assert record("sentiment", [1], base="another")["sweep"] == {"sentiment": 1}, "another base's results are gone"
