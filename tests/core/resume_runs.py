"""Run by test_resume.py as a process of its own: PPO killed in many places, resumed, and never killed.

The modules are imported once; each run is a forked child that dies by SIGKILL like any process. Usage:
python resume_runs.py FOLDER; prints one JSON object, scenario -> [signal of the first run, exit code of the second].
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from core_models import stream, tiny_lm, tiny_tokenizer

from rlhf_lib import checkpoint
from rlhf_lib.metrics import MetricsWriter
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import PPOConfig

CFG = PPOConfig(
    episodes=48,
    batch=8,
    lr=3e-3,
    kl_coef=0.1,
    kl_target=1.0,
    kl_horizon=100.0,
    minibatches=2,
    micro_batch=4,
    save_every=2,
)
SCENARIOS = ("score:0", "score:3", "callback:1", "callback:2", "half-written:2", "between:4", "row:3", "last:6")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def noisy_score(query_ids, query_mask, ids, mask):
    """Draws from torch's global generator: its state has to be in the checkpoint, too."""
    return ((ids < 22) & mask).float().mean(1) * 3 + 0.1 * torch.randn(len(ids))


def arm(scenario: str, steps: dict) -> None:
    """Make `scenario` happen: kill this process at one point of the run."""
    kind, at = scenario.split(":")
    at = int(at)
    if kind == "half-written":  # mid-save: half of the temporary file is there
        original = torch.save

        def save(state, file):
            if state["step"] == at:
                file.write(b"PK\x03\x04 half")
                file.flush()
                die()
            original(state, file)

        torch.save = save
    if kind == "between":  # mid-save: the old file moved away, the new one not yet in its place
        original_replace = os.replace

        def replace(a, b):
            original_replace(a, b)
            if str(b).endswith(checkpoint.PREVIOUS) and steps["now"] == at:
                die()

        os.replace = replace


def run(folder: Path, scenario: str | None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(11)
    kind, at = (scenario or "none:0").split(":")
    steps = {"now": 0}
    if scenario:
        arm(scenario, steps)

    def score(*args):
        if kind == "score" and steps["now"] == int(at):
            die()  # mid-rollout
        return noisy_score(*args)

    def count(state):
        steps["now"] = state.step
        if kind == "callback" and state.step == int(at):
            die()  # after the update, before its row is written

    def after_row(state):
        if kind == "row" and state.step == int(at):
            with open(folder / "metrics.jsonl", "a") as file:
                file.write('{"step": 4, "objec')  # a row half written
            die()  # the row is written, the checkpoint is older

    def at_the_end(state):
        if kind == "last" and state.step == int(at):
            die()

    saved = checkpoint.load(folder)
    policy = Policy(tiny_lm(seed=0))
    reference = policy.frozen_copy()
    torch.manual_seed(11)
    writer = MetricsWriter(folder / "metrics.jsonl", saved["step"] if saved else 0)
    keep = checkpoint.Checkpointer(folder, CFG.save_every)
    callbacks = [count, writer, after_row, keep, at_the_end]
    queries = stream(tiny_tokenizer())
    queries.task.penalise = lambda scores, responses: scores  # or a random model's noise would never be heard
    train_ppo(policy, reference, score, queries, CFG, callbacks, resume=saved, seed=5)
    torch.save(policy.state_dict(), folder / "end.pt")


def forked(folder: Path, scenario: str | None) -> int:
    """Run in a child; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(folder, scenario)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    root, ends = Path(sys.argv[1]), {}
    (root / "whole").mkdir()
    ends["whole"] = [forked(root / "whole", None)]
    for scenario in SCENARIOS:
        folder = root / scenario.replace(":", "_")
        folder.mkdir()
        ends[scenario] = [forked(folder, scenario), forked(folder, None)]
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
