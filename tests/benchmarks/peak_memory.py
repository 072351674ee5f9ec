"""Peak memory of PPO on a model that does not fit this machine: counted on the CPU at small depth, and extrapolated.

Two whole updates of a policy with float32 master weights and Adam, bfloat16 arithmetic, reference and reward model in
bfloat16, at a profile's micro-batch. What is counted is what torch's CPU allocator hands out. Bytes grow linearly with
layers and with vocabulary; two depths and two vocabularies give the slopes, and a third depth tests them. An
extrapolation, and called so: a GPU's kernels may hold other scratch space than a CPU's.

    python tests/benchmarks/peak_memory.py --out figures/gpu_memory.json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from rlhf_lib import cpu, gpu, manifest
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import get_profile
from rlhf_lib.tasks import Queries, QueryStream, Task

SIZE, VOCAB = "gpt2-large", 50257
DEPTHS, VOCABULARIES, CHECKED = (2, 4), (2000, 6000), 8
TASKS = ("sentiment", "cnndm", "tldr")


class SmallIds(gpu.Gpt2Ids):
    """GPT-2's ids, folded into a small vocabulary: how many there are counts here, not which."""

    pad_token_id, eos_token_id = 1, 1

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [number % min(VOCABULARIES) for number in super().encode(text)]


def peak(work) -> int:
    """The most bytes that torch's CPU allocator had given out at one time during ``work()``, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def bytes_of_ppo(task_name: str, depth: int, vocabulary: int) -> int:
    """Peak bytes of two updates at the profile's micro-batch, with so many layers and tokens."""
    settings = get_profile(SIZE)[task_name]
    batch = 2 * settings.ppo.micro_batch  # two micro-batches: the second one's gradients meet the first one's
    cfg = replace(settings.ppo, batch=batch, episodes=2 * batch, minibatches=1, epochs=1, kl_target=None)
    task = Task(task_name, settings.text, SmallIds())
    gpu.SIZES["counted"] = gpu.SIZES[SIZE] | {"n_layer": depth, "vocab_size": vocabulary}
    ids = torch.randint(100, min(VOCABULARIES), (batch, settings.text.query_length))

    def work() -> None:
        policy, reference, reward = gpu.models("counted", torch.device("cpu"))
        queries = QueryStream(Queries(ids, torch.ones_like(ids, dtype=torch.bool), list(range(batch))), task)
        train_ppo(policy, reference, reward.score, queries, cfg)

    return peak(work)


def extrapolated(task_name: str) -> dict:
    """GB at the whole size, and by how much the line misses a depth that it was not drawn through."""
    (few, more), (small, large) = DEPTHS, VOCABULARIES
    first = bytes_of_ppo(task_name, few, small)
    second = bytes_of_ppo(task_name, more, small)
    a_layer = (second - first) / (more - few)
    a_token = (bytes_of_ppo(task_name, more, large) - second) / (large - small)
    layers = gpu.SIZES[SIZE]["n_layer"]
    whole = second + a_layer * (layers - more) + a_token * (VOCAB - small)
    missed = bytes_of_ppo(task_name, CHECKED, small) / (second + a_layer * (CHECKED - more)) - 1
    return {"task": task_name, "micro_batch": get_profile(SIZE)[task_name].ppo.micro_batch, "gb": whole / 1e9,
            "missed_at_depth_8": missed}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures/gpu_memory.json"))
    parser.add_argument("--task", action="append", choices=TASKS)
    options = parser.parse_args()
    cpu.HAS_ONEDNN = False  # products as a GPU has them, without our quick path for CPUs
    torch.manual_seed(0)
    rows = [extrapolated(name) for name in options.task or TASKS]
    for row in rows:
        print(f"{SIZE}, {row['task']}, micro-batch {row['micro_batch']}: {row['gb']:.1f} GB "
              f"(the line misses depth {CHECKED} by {row['missed_at_depth_8']:+.1%})", flush=True)  # fmt: skip
    manifest.write_json(options.out, {
        "status": "extrapolated from the CPU's allocator, not measured on a GPU", "size": SIZE,
        "command": "python tests/benchmarks/peak_memory.py", "versions": manifest.versions(), "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
