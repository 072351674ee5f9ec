"""Run by test_ranks.py as a process of its own: trainings of two processes (gloo) beside those of one.

The modules are imported once; each rank is a forked child with the environment that `accelerate launch` sets. Usage:
python rank_runs.py FOLDER DDP|FSDP; what each scenario found is written there, one JSON object a rank.
"""

import copy
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from core_models import stream, tiny_lm, tiny_tokenizer
from transformers.utils.logging import disable_progress_bar

from rlhf_lib import sharding, train
from rlhf_lib.memory import checkpoint_activations
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import Rollout, make_rollout, next_kl_coef, ppo_update, rollout_metrics
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.ranks import Ranks
from rlhf_lib.training import TrainState, make_adam

CFG = PPOConfig(episodes=64, batch=64, lr=1e-3, kl_coef=0.1, kl_target=1.0, kl_horizon=100.0, micro_batch=16)
SMALL = {  # a task for the character tokenizer of core_models
    "text__query_length": 40, "text__response_length": 8, "text__truncate_after": 4, "text__prefix": "",
    "text__suffix": ":", "ppo__episodes": 48, "ppo__batch": 8, "ppo__micro_batch": 4, "ppo__save_every": 2,
    "ppo__kl_target": 1.0, "ppo__kl_target_share": None, "ppo__lr": 3e-3, "reward__batch": 8, "reward__lr": 2e-3,
    "reward__normalize_samples": 16, "sft__examples": 33, "sft__batch": 8, "sft__micro_batch": 3, "sft__lr": 3e-3,
}  # fmt: skip


def forked(world: int, do, *args) -> list[int]:
    """Run do(rank, *args) in `world` children as ranks; their exit codes, or minus the signals that ended them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        pid = os.fork()
        if pid == 0:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "ACCELERATE_USE_CPU": "true",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(world),
            }  # fmt: skip
            code = 1
            try:
                torch.set_num_threads(1)
                do(rank, *args)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(pid)
    return [wait(pid, children) for pid in children]


def wait(pid: int, children: list[int]) -> int:
    """How a child ended; a failure ends the others, as a launcher does."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        for other in children:
            try:
                os.kill(other, signal.SIGKILL)
            except ProcessLookupError:
                continue
    return code


def stored_rollout() -> Rollout:
    """64 episodes of a reference, scored and penalised; the same in every process that makes them."""
    policy = Policy(tiny_lm())
    torch.manual_seed(5)
    torch.nn.init.normal_(policy.value_head.weight, std=0.3)
    reference = Policy(tiny_lm(seed=1))  # another model, so that there is some KL
    queries = stream(tiny_tokenizer())
    score = lambda q, qm, r, rm: ((r < 22) & rm).float().mean(1) * 3  # noqa: E731
    return make_rollout(policy, reference, score, queries, CFG, torch.Generator().manual_seed(3))[0]


def one_update(rank: int, world: int, folder: Path, split: bool) -> None:
    """One whole update of PPO on this rank's share of the stored rollouts; weights and numbers into a file."""
    ranks = Ranks(Accelerator(cpu=True)) if world > 1 else None
    sync = ranks.sync if ranks else None
    rollout = stored_rollout()
    mine = rollout.rows(torch.arange(rank, 64, world))
    policy = Policy(tiny_lm())
    torch.manual_seed(5)
    torch.nn.init.normal_(policy.value_head.weight, std=0.3)
    if split:
        sharding.shard_policy(policy)
    generator, extra = torch.Generator().manual_seed(rank), {"kl_coef": CFG.kl_coef, "adam_steps": 0}
    state = TrainState(policy, make_adam(policy.parameters(), CFG.lr), generator, {}, total=10, extra=extra)
    metrics = rollout_metrics(mine, CFG.kl_coef, sync)
    ppo_update(policy, mine, state, CFG, 0.7, sync)
    metrics["next_kl_coef"] = next_kl_coef(CFG.kl_coef, metrics["objective/kl"], CFG, len(mine.scores) * world)
    moments = sum(moment.numel() for held in state.optimizer.state.values() for moment in held.values())
    weights = sharding.put_together(policy).state_dict()
    torch.save({"weights": weights, "moments": moments, "metrics": metrics}, folder / f"update_{world}_{rank}.pt")


def same_policies(rank: int, folder: Path) -> None:
    """A split policy beside a whole one, for each kind of model: samples, log-probabilities, gradients, in a file."""
    Accelerator(cpu=True)
    ids = torch.randint(0, 64, (4, 9), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids).bool()
    mask[1, :3] = False
    found = {}
    for kind in ("gpt2", "llama", "qwen2"):
        for again in (False, True):
            for split in (False, True):
                policy = Policy(checkpoint_activations(tiny_lm(kind)) if again else tiny_lm(kind))
                if split:
                    sharding.shard_policy(policy)
                drawn = policy.sample(ids, mask, 6, 0.7, torch.Generator().manual_seed(1))
                logprobs = policy(ids, mask, drawn.responses, 0.7)[0]
                logprobs.sum().backward()
                policy.lm.float()
                copied = copy.deepcopy(policy.lm.base_model)  # as a reward model's body is made
                states = copied(input_ids=ids).last_hidden_state.detach()
                if split:
                    for p in policy.parameters():  # so that gradients are put together as weights are
                        p.data = torch.zeros_like(p) if p.grad is None else p.grad
                    sharding.put_together(policy)
                gradients = {n: p if split else p.grad for n, p in policy.lm.named_parameters()}
                found[kind, again, split] = [drawn.responses, logprobs.detach(), states, gradients]
    torch.save(found, folder / f"policies_{rank}.pt")


def words(*given: str) -> list[str]:
    fields = [f"{name}={value!r}" for name, value in SMALL.items()]
    return [*given, "--profile", "smoke", *(word for field in fields for word in ("-p", field))]


def training(rank: int, argv: list[str], die_at: int, folder: Path) -> None:
    """`train` as a user would call it; rank 1 is killed after update `die_at` (0: never)."""
    if die_at and rank == 1:
        original = train.RankCheckpointer.__call__

        def killed(self, state):
            if state.step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            original(self, state)

        train.RankCheckpointer.__call__ = killed
    rollouts = []
    original_update = train.train_ppo

    def watched(policy, reference, score, queries, cfg, callbacks, *rest):
        def note(state):
            rollouts.append([state.data["query_ids"].tolist(), state.data["responses"].tolist()])

        return original_update(policy, reference, score, queries, cfg, [note, *callbacks], *rest)

    train.train_ppo = watched
    train.main(argv)
    (folder / f"{argv[0]}_{rank}.json").write_text(json.dumps(rollouts))
    PartialState().destroy_process_group()
    AcceleratorState._reset_state()


def main() -> None:
    disable_progress_bar()
    root, split = Path(sys.argv[1]), sys.argv[2] == "FSDP"
    os.environ["ACCELERATE_USE_FSDP"] = str(split).lower()
    ends = {"one": forked(1, one_update, 1, root, False), "two": forked(2, one_update, 2, root, split)}
    if split:
        ends["policies"] = forked(2, same_policies, root)
    model, task = str(root / "model"), ["--task", "tldr", "--model", str(root / "model")]
    Policy(tiny_lm()).save(model, tiny_tokenizer())
    for name, what, more in (
        ("supervised", "supervised", []),
        ("reward", "reward", ["--labels", str(root / "labels.jsonl")]),
    ):
        out = root / name
        ends[name] = forked(2, training, words(what, *task, "--out", str(out), *more), 0, root)
    more = ["--reward", str(root / "reward/reward"), "--out"]
    ends["whole"] = forked(2, training, words("ppo", *task, *more, str(root / "whole")), 0, root)
    for die_at in (3, 4):  # between two checkpoints, and when the other rank has saved one that this one has not
        name = f"killed{die_at}"
        argv = words("ppo", *task, *more, str(root / name))
        ends[name] = [*forked(2, training, argv, die_at, root), *forked(2, training, argv, 0, root)]
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
