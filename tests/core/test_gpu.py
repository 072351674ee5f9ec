"""The GPU measurement at test size on the CPU; the recorded table says what was not measured."""

import json

import pytest
import torch

from rlhf_lib import __main__ as cli
from rlhf_lib import gpu
from rlhf_lib.profiles import get_profile
from rlhf_lib.tasks import Task

KEYS = {key for key, _, _ in gpu.COLUMNS}


def test_the_command_at_test_size(tmp_path, capsys):
    assert gpu.main(["--size", "test", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [(r["size"], r["task"]) for r in found["rows"]] == [("test", "sentiment"), ("test", "tldr")]
    for row in found["rows"]:
        assert set(row) == KEYS | {"size", "task", "batch"}
        assert all(row[key] > 0 for key in KEYS - {"peak_memory_gb"})
        assert row["decoding_share"] < 1 and row["ppo_share"] < 1
        assert row["paper_hours"] == pytest.approx(2e6 / row["ppo_episodes_s"] / 3600)
        if not torch.cuda.is_available():
            assert row["peak_memory_gb"] is None
    assert gpu.table(found) in capsys.readouterr().out


def test_the_bandwidth_limit_by_hand():
    """Two layers of width 16, vocabulary 50,257 and 1,024 positions; 8 prompts of 16 tokens and 8 more."""
    policy = gpu.models("test", torch.device("cpu"))[0]
    weights = 50257 * 16 + 1024 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16
    assert policy.lm.num_parameters() == weights
    task = Task(
        "sentiment", gpu.replace(get_profile("gpt2").sentiment.text, query_length=16, response_length=8), gpu.Gpt2Ids()
    )
    found = gpu.decoding(policy, task, 8, bytes_s=1e9)
    a_step = 2 * weights + 8 * (16 + 4) * 2 * 2 * 2 * 16  # bytes: prompts x columns x (key, value) x layers x 2 x width
    assert found["decoding_share"] == pytest.approx(found["decoding_tokens_s"] / (8 * 1e9 / a_step))


def test_the_peak_memory_is_that_of_ppo_and_decoding_fits_a_24_gb_card(monkeypatch):
    done = []
    monkeypatch.setattr(gpu, "models", lambda size, device: (None, None, None))
    monkeypatch.setattr(gpu, "decoding", lambda policy, task, prompts, bytes_s: done.append(prompts) or {})
    monkeypatch.setattr(gpu, "ppo_speed", lambda trio, task, cfg, peak: done.append("ppo") or {})
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 17e9)
    for task, columns in (("sentiment", 64 + 64 + 24), ("tldr", 506 + 506 + 75)):  # the prompt's are copied once
        row = gpu.measure("gpt2-large", task, torch.device("cuda"), 1.0, 1.0)
        prompts, *rest = done
        assert rest == ["reset", "ppo"] and row["peak_memory_gb"] == 17
        cache = prompts * columns * 36 * 2 * 2 * 1280  # bytes: layers x (key, value) x bfloat16 x width
        assert cache + 774e6 * (4 + 2 + 2) < 22e9  # beside policy, reference and reward model
        done.clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_a_sentence(capsys):
    assert cli.main(["gpu"]) == 2
    assert "There is no GPU" in capsys.readouterr().err


def test_what_was_not_measured_is_called_so_in_the_file_and_in_readme(root):
    recorded = json.loads((root / "figures/gpu.json").read_text())
    if recorded["status"] == "not measured":
        assert recorded == gpu.not_measured()
        assert all(not KEYS & set(row) for row in recorded["rows"])
    assert gpu.table(recorded) in (root / "README.md").read_text()
    assert gpu.COMMAND in (root / "README.md").read_text()
