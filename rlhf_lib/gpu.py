"""What a GPU does with the real sizes: `python -m rlhf_lib gpu`. Random weights serve; nothing is downloaded.

For each size and task: decoding against the limit that memory bandwidth sets, an update of PPO at the profile's batch
against the device's own measured matrix peak, peak memory, and what the paper's 2M episodes would take.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lib import manifest
from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy, prepare
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import get_profile
from rlhf_lib.reward import RewardModel
from rlhf_lib.tasks import Queries, QueryStream, Task

SIZES = {  # of GPT-2 [transformers' configs on the hub]; "test": for trying this command on a CPU
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "test": {"n_embd": 16, "n_layer": 2, "n_head": 2},
}
TASKS = ("sentiment", "tldr")  # short and long
PAPER_EPISODES = 2_000_000
DECODED = {"sentiment": 512, "tldr": 64}  # prompts of a decoding measurement; their cache must fit a 24 GB card, too
COMMAND = "python -m rlhf_lib gpu --out figures/gpu.json"
# GPT-2's token ids of what tasks write around a query (original-system.md section 1.1)
IDS = {".": [13], "\n": [198], "Article:\n\n": [14906, 25, 628], "\n\nTL;DR:": [198, 198, 14990, 26, 7707, 25]}

COLUMNS = (  # key, heading, unit and digits
    ("decoding_tokens_s", "decoding", "{:,.0f} tokens/s"),
    ("decoding_share", "of the bandwidth limit", "{:.0%}"),
    ("ppo_episodes_s", "PPO", "{:,.1f} episodes/s"),
    ("ppo_share", "of the matrix peak", "{:.0%}"),
    ("peak_memory_gb", "peak memory", "{:.1f} GB"),
    ("paper_hours", "2M episodes", "{:,.0f} h"),
)


class Gpt2Ids:
    """What `Task` asks of a tokenizer, without its files: GPT-2's ids of the tasks' own words."""

    pad_token_id, eos_token_id = 50256, 50256

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return IDS[text]


def clock(device: torch.device, do: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some calls, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        do()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def bandwidth(device: torch.device, megabytes: int) -> float:
    """Bytes a second of the device's memory: a copy reads and writes each byte."""
    source = torch.empty(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / clock(device, lambda: target.copy_(source))


def matrix_peak(device: torch.device, width: int) -> float:
    """Operations a second of a large square product in bfloat16, as a linear layer makes it: x @ weight'.

    The order counts: a CPU without bfloat16 makes x @ weight twenty times slower.
    """
    a = torch.randn(width, width, device=device).bfloat16()
    return 2 * width**3 / clock(device, lambda: a @ a.t())


def models(size: str, device: torch.device) -> tuple[Policy, Policy, RewardModel]:
    """Policy with float32 master weights; reference and reward model in bfloat16, as the profiles have them."""
    torch.manual_seed(0)
    config = GPT2Config(**SIZES[size])
    with torch.device(device):
        policy = Policy(prepare(GPT2LMHeadModel(config)), torch.bfloat16)
        reference = Policy(prepare(GPT2LMHeadModel(config)).bfloat16(), torch.bfloat16).requires_grad_(False)
        reward = RewardModel(prepare(GPT2LMHeadModel(config)).bfloat16().base_model).requires_grad_(False)
    return policy, reference, reward


def queries(task: Task, count: int) -> QueryStream:
    """Queries of random tokens, all as long as the task allows."""
    ids = torch.randint(1000, 50000, (count, task.text.query_length), generator=torch.Generator().manual_seed(0))
    return QueryStream(Queries(ids, torch.ones_like(ids, dtype=torch.bool), list(range(count))), task)


def decoding(policy: Policy, task: Task, prompts: int, bytes_s: float) -> dict[str, float]:
    """Tokens a second of `policy.sample`, and their share of what reading weights and cache once a step allows."""
    context = task.context(*queries(task, prompts).next(prompts))
    context = tuple(t.to(policy.device) for t in context)
    length, generator = task.text.response_length, torch.Generator(policy.device).manual_seed(0)
    seconds = clock(policy.device, lambda: policy.sample(*context, length, task.text.temperature, generator))
    config = policy.lm.config
    columns = context[0].shape[1] + length / 2  # in the cache, on average
    cache = 2 * 2 * config.n_layer * config.n_embd * columns * prompts  # bytes: keys and values in bfloat16
    limit = prompts * bytes_s / (2 * policy.lm.num_parameters() + cache)
    return {"decoding_tokens_s": prompts * length / seconds, "decoding_share": prompts * length / seconds / limit}


def ppo_speed(trio: tuple[Policy, Policy, RewardModel], task: Task, cfg, peak: float) -> dict[str, float]:
    """Episodes a second of whole updates (the first does not count), and the share of the matrix peak."""
    policy, reference, reward = trio
    seconds = []
    cfg = replace(cfg, episodes=3 * cfg.batch, kl_target=None, kl_target_share=None)
    train_ppo(policy, reference, reward.score, queries(task, cfg.batch), cfg,
              [lambda state: seconds.append(state.metrics["time/update"])])  # fmt: skip
    speed = cfg.batch / min(seconds[1:])
    text = task.text
    tokens = len(task.prefix_ids) + text.query_length + len(task.suffix_ids) + text.response_length
    # a forward pass is 2 operations a weight and token, with its backward pass 6: sampling, reference, reward, epochs;
    # embeddings are looked up, and the vocabulary is projected at response tokens only, by the reward model nowhere
    vocabulary = policy.lm.get_output_embeddings().weight.numel()
    layers = sum(p.numel() for p in policy.lm.base_model.h.parameters())
    operations = (3 * 2 + 6 * cfg.epochs) * layers * tokens
    operations += (2 * 2 + 6 * cfg.epochs) * vocabulary * text.response_length
    return {"ppo_episodes_s": speed, "ppo_share": speed * operations / peak,
            "paper_hours": PAPER_EPISODES / speed / 3600}  # fmt: skip


def measure(size: str, task_name: str, device: torch.device, bytes_s: float, peak: float) -> dict:
    """One row of the table."""
    profile = get_profile("gpt2" if size == "test" else size)
    text, cfg, prompts = profile[task_name].text, profile[task_name].ppo, DECODED[task_name]
    if size == "test":
        text, cfg, prompts = replace(text, query_length=16, response_length=8), replace(cfg, batch=8, micro_batch=4), 8
    task = Task(task_name, text, Gpt2Ids())
    trio = models(size, device)
    row = {"size": size, "task": task_name, "batch": cfg.batch} | decoding(trio[0], task, prompts, bytes_s)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # the peak is PPO's, not that of decoding so many prompts at once
    row |= ppo_speed(trio, task, cfg, peak)
    row["peak_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return row


def not_measured() -> dict:
    """What figures/gpu.json says where no GPU was at hand."""
    rows = [{"size": size, "task": task, "batch": get_profile(size)[task].ppo.batch} for size in ("gpt2", "gpt2-large")
            for task in TASKS]  # fmt: skip
    return {"status": "not measured", "why": "no GPU was at hand", "command": COMMAND, "device": None, "rows": rows}


def table(measures: dict) -> str:
    """The rows as a Markdown table; what was not measured says so."""
    heads = ["model", "task", "PPO batch", *(head for _, head, _ in COLUMNS)]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in measures["rows"]:
        cells = [shape.format(row[key]) if row.get(key) is not None else "not measured" for key, _, shape in COLUMNS]
        lines.append(f"| {row['size']} | {row['task']} | {row['batch']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`gpu`: measure, print the table and write it. Raises KitError without a GPU, but for --size test."""
    parser = argparse.ArgumentParser(prog="rlhf_lib gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", choices=tuple(SIZES), help="default: gpt2 and gpt2-large")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args(argv)
    sizes = options.size or ["gpt2", "gpt2-large"]
    is_test = sizes == ["test"]
    if not torch.cuda.is_available() and not is_test:
        raise KitError("There is no GPU that torch can use here; try the command on the CPU with --size test.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bytes_s, peak = bandwidth(device, 8 if is_test else 4096), matrix_peak(device, 1024 if is_test else 8192)
    rows = [measure(size, task, device, bytes_s, peak) for size in sizes for task in TASKS]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (a trial of the command)"
    found = {
        "status": "measured", "command": COMMAND, "device": name, "memory_bandwidth_gb_s": bytes_s / 1e9,
        "matrix_peak_tflops": peak / 1e12, "versions": manifest.versions(), "rows": rows,
    }  # fmt: skip
    print(f"{name}: memory {bytes_s / 1e9:,.0f} GB/s, matrix products {peak / 1e12:,.1f} TFLOP/s in bfloat16")
    print(table(found))
    if options.out:
        manifest.write_json(options.out, found)
    return 0
