"""The sample scripts for TRL: the same scores as ours, and completions through the store to pairs and back."""

import importlib.util
import json

import pytest
import torch
from core_models import STYLE, tiny_lm, tiny_tokenizer

from rlhf_lib.errors import KitError
from rlhf_lib.labels.session import LabelSession
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.reward import RewardModel
from rlhf_lib.tasks import Task


def script(root, name):
    spec = importlib.util.spec_from_file_location(name, root / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_scores_in_trl_are_the_kits(root, tmp_path, kind):
    lm, tokenizer = tiny_lm(kind), tiny_tokenizer()
    model = RewardModel(lm.base_model, torch.Generator().manual_seed(0)).requires_grad_(False)
    model.gain.fill_(0.4), model.bias.fill_(1.5)
    folder = model.save(tmp_path / "rm", tokenizer, lm.config)
    task = Task("sentiment", STYLE, tokenizer)
    prompts, completions = ["Art: it was.!!", "Art: a b.!!", "Art: c.!!"], ["abcde.fg", "ab.cdefg", "xyzab.."]
    reward = script(root, "trl_reward").KitReward(folder, "Art: ", "!!", ".", STYLE.truncate_after)
    found = reward(prompts=prompts, completions=completions, trainer_state=None)
    for prompt, completion, score in zip(prompts, completions, found, strict=True):
        query = torch.tensor([tokenizer.encode(prompt[5:-2])])
        response = torch.tensor([tokenizer.encode(completion)])
        cut, mask = task.truncate(response)
        ours = task.penalise(model.score(query, torch.ones_like(query), cut, mask), response)
        assert score == pytest.approx(ours.item(), abs=1e-5)
    assert found[1] == -1.0 and len(set(found)) == 3


def test_completions_become_comparisons_and_labels_become_pairs(root, tmp_path):
    labels, store = script(root, "trl_labels"), LabelStore(f"sqlite:///{tmp_path}/labels.sqlite")
    rows = [{"prompt": f"p{i}", "completion": f"c{i}{k}"} for i in range(3) for k in range(4)]
    rows[0]["completion"] = [{"role": "assistant", "content": "c00"}]
    file = tmp_path / "completions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert labels.add(file, "trl", store) == 3
    with pytest.raises(KitError, match="Nothing is labeled in the queue 'trl'"):
        labels.pairs(tmp_path / "pairs", "trl", store)
    session = LabelSession(store, "Ann", "trl")
    while session.current() is not None:
        session.answer(0)
    assert labels.pairs(tmp_path / "pairs", "trl", store) == 9  # the best against each of three others
    found = [json.loads(line) for line in (tmp_path / "pairs/train.jsonl").read_text().splitlines()]
    assert "The labelers are people." in (tmp_path / "pairs/README.md").read_text()
    assert {row["prompt"] for row in found} == {"p0", "p1", "p2"}
    assert all(row["chosen"] != row["rejected"] and row["chosen"][1] == row["prompt"][1] for row in found)
    file.write_text('{"prompt": "x"}\n')
    with pytest.raises(KitError, match="'prompt' and 'completion'"):
        labels.add(file, "trl", store)
    store.close()
