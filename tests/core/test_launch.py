"""`accelerate launch` itself: one process, and two on a CPU, with whole and split models, killed and resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from core_models import tiny_lm, tiny_tokenizer
from rank_runs import words
from transformers import AutoModelForCausalLM

from rlhf_lib.policy import Policy
from rlhf_lib.reward import RewardModel

pytestmark = pytest.mark.slow

# `accelerate config` writes such a file
FSDP = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_activation_checkpointing: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_cpu_ram_efficient_loading: true
  fsdp_offload_params: false
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: SHARDED_STATE_DICT
  fsdp_version: 2
machine_rank: 0
mixed_precision: 'no'
num_machines: 1
num_processes: 2
rdzv_backend: static
same_network: true
use_cpu: false
"""
ONE = ["--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
TWO = ["--multi_gpu", "--num_processes", "2", *ONE[3:]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model, a reward model on it, and accelerate's configuration: the folder that holds them.

    A Llama: its rotary frequencies are a buffer, of which a rank with FSDP must have its own.
    """
    root, lm = tmp_path_factory.mktemp("launch"), tiny_lm("llama")
    Policy(lm).save(root / "model", tiny_tokenizer())
    RewardModel(lm.base_model, torch.Generator().manual_seed(0)).save(root / "reward", tiny_tokenizer(), lm.config)
    (root / "fsdp.yaml").write_text(FSDP)
    return root


def launch(how: list[str], argv: list[str]) -> subprocess.Popen:
    """Start `accelerate launch HOW -m rlhf_lib.train ARGV`.

    Its --cpu starts several processes through MPI alone. Without it several are torchrun's, on GPUs; the variable,
    which is accelerate's own, keeps them on the CPU.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, "--main_process_port", str(port)]
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command += ["-m", "rlhf_lib.train", *argv]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(out: Path) -> list[dict]:
    """The whole rows of a run's metrics so far, without its times."""
    file = out / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in found]


def kill_a_rank(launcher: subprocess.Popen, out: Path, step: int) -> None:
    """SIGKILL for the last started of the launcher's processes once it has done `step` updates."""
    while len(rows(out)) < step:
        assert launcher.poll() is None, launcher.communicate()[1][-2000:]
        time.sleep(0.01)
    ranks = [p for p in psutil.Process(launcher.pid).children(recursive=True) if "rlhf_lib.train" in p.cmdline()]
    assert len(ranks) == 2
    os.kill(max(rank.pid for rank in ranks), signal.SIGKILL)


def test_ppo_on_two_processes_killed_and_resumed_is_the_uninterrupted_run(folders, tmp_path):
    argv = words("ppo", "--task", "tldr", "--model", str(folders / "model"), "--reward", str(folders / "reward"))
    argv += ["-p", "ppo__episodes=192", "--out"]
    ways = {"DDP": TWO, "FSDP": ["--config_file", str(folders / "fsdp.yaml")]}

    def run(way: str, name: str, kill_at: int = 0) -> Path:
        out = tmp_path / way / name
        launcher = launch(ways[way], [*argv, str(out)])
        if kill_at:
            kill_a_rank(launcher, out, kill_at)
        said = launcher.communicate(timeout=500)[1]
        assert (launcher.returncode == 0) == (not kill_at), said[-2000:]
        return out

    for way in ways:
        whole, killed = run(way, "whole"), run(way, "killed", kill_at=5)
        assert 5 <= len(rows(killed)) < 24 and not (killed / "policy").exists()
        run(way, "killed")
        assert [row["step"] for row in rows(whole)] == list(range(1, 25))
        assert rows(killed) == rows(whole)
        saved = [torch.load(whole / f"checkpoint/rank{rank}/state.pt", weights_only=True) for rank in (0, 1)]
        assert all(state["world"] == 2 and state["split"] == (way == "FSDP") for state in saved)
        ours, theirs = (AutoModelForCausalLM.from_pretrained(out / "policy") for out in (killed, whole))
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    for ours, theirs in zip(rows(tmp_path / "FSDP/whole")[:4], rows(tmp_path / "DDP/whole")[:4], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)  # later, rounding may have tipped a sample


@pytest.mark.parametrize("how", [ONE, TWO], ids=["one", "two"])
def test_supervised_and_a_sentence_for_what_is_wrong(how, folders, tmp_path):
    argv = words("supervised", "--task", "tldr", "--model", str(folders / "model"), "--out", str(tmp_path))
    wrong = launch(how, [*argv, "--corpus", "/nowhere"])
    said = wrong.communicate(timeout=500)[1]
    assert wrong.returncode != 0 and "There is no corpus '/nowhere'" in said
    right = launch(how, argv)
    said = right.communicate(timeout=500)[1]
    assert right.returncode == 0, said[-2000:]
    assert (tmp_path / "policy/model.safetensors").is_file()
    assert (tmp_path / "checkpoint/rank1").is_dir() == (how is TWO)


@pytest.mark.parametrize("how", [ONE, TWO], ids=["one", "two"])
def test_reward_on_four_way_labels(how, folders, tmp_path):
    labels = tmp_path / "labels.jsonl"
    texts = [{"query": f"text {i}", "sample0": "a b", "sample1": "c d", "sample2": "e f", "sample3": f"g {i}"}
             for i in range(64)]  # fmt: skip
    labels.write_text("".join(json.dumps(row | {"best": i % 4}) + "\n" for i, row in enumerate(texts)))
    argv = words("reward", "--task", "tldr", "--model", str(folders / "model"), "--labels", str(labels))
    launcher = launch(how, [*argv, "--out", str(tmp_path)])
    said = launcher.communicate(timeout=500)[1]
    assert launcher.returncode == 0, said[-2000:]
    model = RewardModel.load(tmp_path / "reward")
    assert model.report["train"] + model.report["heldout"] == 64
