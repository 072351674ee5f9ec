"""A fire drill for the Andon cord: a real training is stopped from another process, released, and gone on with.

It measures what the cord promises: how many updates end after the pull was acknowledged, whether a full checkpoint is
there, and whether the run that was stopped and resumed has the same rows as one that nobody stopped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from rlhf_lib import andon, checkpoint
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.metrics import MetricsWriter, read_metrics
from rlhf_lib.training import Callback, TrainState

# Another process, ready before it is needed: it pulls when it reads a line, and says when the pull was acknowledged.
PULLER = """
import sys, time
from rlhf_lib import andon
print("ready", flush=True)
sys.stdin.readline()
event = andon.pull("a fire drill", "the drill", sys.argv[1], sys.argv[2])
print(time.time(), flush=True)
"""


def clockless(path: Path) -> list[dict]:
    """A run's metrics without what the clock says."""
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(path)]


def drill(train, folder: Path, url: str, pull_after: int = 2) -> dict:
    """Pull, release, resume and compare. folder: for checkpoints and metrics, new. url: of the label store.

    train(callbacks, resume) runs a PPO training, the same each time, and returns its TrainState; it has to be long
    enough that the pull finds it running. Returns `updates_to_stop` (updates that ended after the acknowledgement),
    `stopped_after`, `updates`, `said` (why it stopped), `checkpoint` (whether the step saved is the one it stopped at)
    and `same_rows`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, ends = folder.name, []
    other = subprocess.Popen(
        [sys.executable, "-c", PULLER, name, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    other.stdout.readline()  # ready

    def clock(state: TrainState) -> None:
        ends.append(time.time())
        if state.step == pull_after:
            other.stdin.write("pull\n")
            other.stdin.flush()

    with closing(LabelStore(url)) as store:
        first = train(callbacks(folder, [clock, andon.AndonCord(name, store, folder)]), None)
        acknowledged = float(other.communicate()[0])
        saved = checkpoint.load(folder)
        andon.release("the drill is over", "the drill", name, url)
        whole_run = train(callbacks(folder, [andon.AndonCord(name, store, folder)], saved), saved)
    whole = folder / "whole"
    train([MetricsWriter(whole / "metrics.jsonl")], None)
    return {
        "updates_to_stop": sum(end > acknowledged for end in ends) if first.stopped else len(ends),
        "stopped_after": first.step, "updates": whole_run.step, "said": first.stopped,
        "checkpoint": bool(saved) and saved["step"] == first.step,
        "same_rows": clockless(folder / "metrics.jsonl") == clockless(whole / "metrics.jsonl"),
    }  # fmt: skip


def callbacks(folder: Path, extra: list[Callback], saved: dict | None = None) -> list[Callback]:
    """What a user lists: metrics, checkpoints, then whatever watches."""
    writer = MetricsWriter(folder / "metrics.jsonl", saved["step"] if saved else 0)
    return [writer, checkpoint.Checkpointer(folder, every=1000), *extra]
