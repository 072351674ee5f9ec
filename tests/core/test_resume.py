"""PPO killed anywhere and resumed is the uninterrupted run; checkpoints and metric files survive accidents."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core_models import stream, tiny_lm
from resume_runs import CFG, SCENARIOS

from rlhf_lib import checkpoint
from rlhf_lib.errors import KitError
from rlhf_lib.metrics import METRICS, MetricsWriter, metric_table, read_metrics
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import train_ppo
from rlhf_lib.training import StopTraining, TrainState

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All scenarios, in one process that forks: (folder, what became of each run)."""
    root = tmp_path_factory.mktemp("resume")
    env = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "resume_runs.py"), str(root)], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return root, json.loads(done.stdout.splitlines()[-1])


def rows_of(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_and_resumed_is_the_uninterrupted_run(runs, scenario):
    root, ends = runs
    assert ends["whole"] == [0]
    assert ends[scenario] == [-9, 0]  # really killed, then finished
    whole, resumed = rows_of(root / "whole"), rows_of(root / scenario.replace(":", "_"))
    assert [row["step"] for row in resumed] == [1, 2, 3, 4, 5, 6]  # none twice, none missing
    assert resumed == whole
    a, b = (torch.load(root / f / "end.pt") for f in ("whole", scenario.replace(":", "_")))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_uninterrupted_run_moves(runs):
    rows = rows_of(runs[0] / "whole")
    assert len({row["objective/kl_coef"] for row in rows}) == 6  # the adaptive coefficient is part of the state
    assert len({row["objective/score"] for row in rows}) == 6


def saved_state(step=3):
    model = torch.nn.Linear(2, 1)
    state = TrainState(model, torch.optim.Adam(model.parameters()), torch.Generator(), {"lr": 1.0}, 10, step)
    return state


def test_damaged_checkpoint_is_a_sentence_and_the_one_before_is_kept(tmp_path):
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, saved_state(1).state_dict())
    file = checkpoint.save(tmp_path, saved_state(2).state_dict())
    assert checkpoint.load(tmp_path)["step"] == 2
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", whole[:700] + bytes([whole[700] ^ 255]) + whole[701:]):
        file.write_bytes(broken)
        with pytest.raises(KitError, match="damaged.*state.previous.pt"):
            checkpoint.load(tmp_path)
    file.unlink()  # the remedy that the sentence names
    assert checkpoint.load(tmp_path)["step"] == 1


def test_checkpoint_of_other_settings_or_another_model_is_refused(tokenizer):
    policy = Policy(tiny_lm())
    files = []

    def keep(state):
        buffer = io.BytesIO()
        torch.save(state.state_dict(), buffer)
        buffer.seek(0)
        files.append(torch.load(buffer, weights_only=True))

    reward = lambda q, qm, r, rm: r.float().mean(1) / 64  # noqa: E731
    train_ppo(policy, policy.frozen_copy(), reward, stream(tokenizer), CFG, [keep])
    with pytest.raises(KitError, match=r"lr = 0\.003"):
        train_ppo(policy, policy, reward, stream(tokenizer), replace(CFG, lr=1e-5), resume=files[0])
    other = Policy(tiny_lm(layers=1))
    with pytest.raises(KitError, match="another model"):
        train_ppo(other, other.frozen_copy(), reward, stream(tokenizer), CFG, resume=files[0])
    done = train_ppo(policy, policy.frozen_copy(), reward, stream(tokenizer), CFG, resume=files[-1])
    assert done.step == 6  # a finished run has nothing left to do


def test_stopping_saves_a_checkpoint_to_go_on_from(tokenizer, tmp_path):
    reward = lambda q, qm, r, rm: r.float().mean(1) / 64  # noqa: E731
    policy = Policy(tiny_lm())
    cord = lambda s: StopTraining("pulled") if s.step == 3 else None  # noqa: E731
    keep = checkpoint.Checkpointer(tmp_path, every=100)
    state = train_ppo(policy, policy.frozen_copy(), reward, stream(tokenizer), CFG, [cord, keep])
    assert state.stopped == "pulled"
    assert checkpoint.load(tmp_path)["step"] == 3


def test_metrics_after_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "m/metrics.jsonl"
    writer = MetricsWriter(path)
    state = saved_state()
    for step in (1, 2, 3):
        state.step, state.metrics = step, {"objective/kl": step / 2}
        writer(state)
    with open(path, "a") as file:
        file.write('{"step": 4, "obj')
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3]
    MetricsWriter(path, after_step=2)
    assert read_metrics(path) == [{"step": 1, "objective/kl": 0.5}, {"step": 2, "objective/kl": 1.0}]
    MetricsWriter(path)
    with pytest.raises(KitError, match="no metrics"):
        read_metrics(path)


def test_metric_table_is_complete():
    assert len({m.name for m in METRICS}) == len(METRICS)
    assert all(all(row.values()) for row in metric_table())
