"""Peak memory of PPO at a size that does not fit this machine, accounted at full size and not measured on a GPU.

The kit's own code runs on tensors without storage (torch's FakeTensorMode), while a counter adds up the storages that
its operations make and lets go: weights, gradients, Adam's moments, activations, logits, caches. So nothing is
extrapolated, and a size takes seconds. Not in it: scratch space inside one kernel, fragmentation, and the CUDA context,
together 1 to 2 GB. `tests/core/test_accounted_memory.py` holds the count against torch's own allocator at a small size.

    PYTHONPATH=. python tests/benchmarks/accounted_memory.py --out figures/gpu_memory_accounted.json
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_lib import cores, cpu, gpu, manifest, policy, reward, sampling
from rlhf_lib.memory import checkpoint_activations
from rlhf_lib.ppo import SAMPLED, Rollout, train_minibatch
from rlhf_lib.profiles import TASKS, PPOConfig, TextConfig, get_profile
from rlhf_lib.tasks import Task
from rlhf_lib.training import adam_step, make_adam

SCORED = 128  # responses that `RewardModel.score` reads at a time on a GPU
READS_A_NUMBER = torch.ops.aten._local_scalar_dense.default


class Counter(TorchDispatchMode):
    """Bytes of all storages that operations have made and that still live; the most of them, by phase.

    fakes: answer True, 0 or 0.0 where Python asks for a tensor's value, which tensors without storage have not.
    """

    def __init__(self, fakes: bool):
        super().__init__()
        self.fakes, self.phase, self.now = fakes, "models", 0
        self.peaks: dict[str, int] = {}
        self.live: dict[int, int] = {}  # storage -> its bytes

    def _gone(self, key: int) -> None:
        self.now -= self.live.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.fakes and func is READS_A_NUMBER:
            return True if args[0].dtype == torch.bool else 0.0 if args[0].is_floating_point() else 0
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor) and (key := made.untyped_storage()._cdata) not in self.live:
                self.live[key] = made.untyped_storage().nbytes()
                self.now += self.live[key]
                weakref.finalize(made.untyped_storage(), self._gone, key)
        self.peaks[self.phase] = max(self.now, self.peaks.get(self.phase, 0))
        return out


@contextmanager
def without_storage() -> Iterator[None]:
    """The kit's code on tensors that have none: all prompts are as long as can be, which is where memory peaks."""

    def whole(ids: torch.Tensor, mask: torch.Tensor):
        return ids, torch.full((len(ids),), ids.shape[1])

    with ExitStack() as stack:
        for module in (policy, reward):
            stack.enter_context(mock.patch.object(module, "pads_to_the_right", whole))
        stack.enter_context(mock.patch.object(sampling, "trim_left", lambda ids, mask: (ids, mask)))
        # tensors without storage refuse to be moved, and everything is where it should be
        stack.enter_context(mock.patch.object(torch.nn.Module, "to", lambda module, *_, **__: module))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def models(architecture: dict) -> tuple[policy.Policy, policy.Policy, reward.RewardModel]:
    """As `gpu.models`, with the bfloat16 weights made in that type (tensors without storage cannot change theirs)."""
    config, usual = GPT2Config(**architecture), torch.get_default_dtype()
    trained = policy.Policy(policy.prepare(GPT2LMHeadModel(config)), torch.bfloat16)
    torch.set_default_dtype(torch.bfloat16)
    try:
        frozen, body = (policy.prepare(GPT2LMHeadModel(config)) for _ in range(2))
    finally:
        torch.set_default_dtype(usual)
    reference = policy.Policy(frozen, torch.bfloat16).requires_grad_(False)
    return trained, reference, reward.RewardModel(body.base_model).requires_grad_(False)


def work(counter: Counter, architecture: dict, text: TextConfig, cfg: PPOConfig, context: int, again: bool) -> None:
    """An update (so that Adam's moments are there), then each phase of the next one, in order; context: tokens."""
    trained, reference, scorer = models(architecture)
    if again:
        checkpoint_activations(trained.lm)
    optimizer, length = make_adam(trained.parameters(), cfg.lr), text.response_length

    def tokens(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(rows, columns, dtype=torch.long), torch.ones(rows, columns, dtype=torch.bool)

    def train(step: int) -> None:
        rows = 2 * cfg.micro_batch  # the second micro-batch meets the gradients of the first
        floats = (torch.zeros(rows, length) for _ in range(3))
        said = tokens(rows, length)[0]
        episodes = Rollout(*tokens(rows, text.query_length), *tokens(rows, context), said, *floats,
                           torch.zeros(rows), torch.ones(rows, dtype=torch.bool))  # fmt: skip
        train_minibatch(trained, optimizer, episodes, cfg.kl_coef, cfg, text.temperature, None)
        adam_step(optimizer, cfg.lr, cfg.adam_eps, step)

    counter.phase = "first update"
    train(1)
    counter.phase = "sampling"
    trained.sample(*tokens(min(cfg.batch, SAMPLED * cfg.micro_batch), context), length, text.temperature,
                   torch.Generator().manual_seed(0))  # fmt: skip
    counter.phase = "scoring"
    rows = min(cfg.batch, SCORED)
    with torch.no_grad():
        scorer.score(*tokens(rows, text.query_length), *tokens(rows, length), micro_batch=SCORED)
    counter.phase = "reference"
    reference.logprobs(
        *tokens(cfg.micro_batch, context), tokens(cfg.micro_batch, length)[0], text.temperature, cfg.micro_batch
    )
    counter.phase = "update"
    train(2)


def account(
    architecture: dict, task: Task, cfg: PPOConfig, again: bool = False, fakes: bool = True
) -> dict[str, float]:
    """Most bytes at one time, by phase. again: activations computed again; fakes: without storage, or for real."""
    counter, context = Counter(fakes), len(task.prefix_ids) + task.text.query_length + len(task.suffix_ids)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(cpu, "HAS_ONEDNN", False))  # products as a GPU has them
        stack.enter_context(mock.patch.object(cores, "SMALL", 0))  # and one micro-batch after another
        if fakes:
            stack.enter_context(without_storage())
        stack.enter_context(counter)
        work(counter, architecture, task.text, cfg, context, again)
    return counter.peaks


def row(size: str, name: str, micro_batch: int | None, again: bool) -> dict:
    """One line of the result, bytes in GB (1e9)."""
    settings = get_profile(size)[name]
    cfg = replace(settings.ppo, micro_batch=micro_batch or settings.ppo.micro_batch)
    peaks = account(gpu.SIZES[size], Task(name, settings.text, gpu.Gpt2Ids()), cfg, again)
    return {"task": name, "micro_batch": cfg.micro_batch, "checkpointing": again, "gb": max(peaks.values()) / 1e9,
            "phases_gb": {phase: found / 1e9 for phase, found in peaks.items()}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="gpt2-large", choices=("gpt2", "gpt2-large"))
    parser.add_argument("--task", action="append", choices=TASKS, help="default: all four")
    parser.add_argument("--micro-batch", type=int, action="append", help="default: the profile's")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.task or TASKS:
        for micro_batch in options.micro_batch or [None]:
            rows.append(row(options.size, name, micro_batch, options.checkpointing))
            print({key: round(value, 2) if key == "gb" else value for key, value in rows[-1].items()}, flush=True)
    if options.out:
        manifest.write_json(options.out, {
            "status": "accounted, not measured on a GPU", "size": options.size,
            "command": f"python tests/benchmarks/accounted_memory.py --size {options.size}", "rows": rows,
            "versions": manifest.versions(),
        })  # fmt: skip


if __name__ == "__main__":
    main()
