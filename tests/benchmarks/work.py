"""The work that both sides are given, and how a side is asked for it. Imports nothing of either side."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

VOCAB, QUERY, RESPONSE = 3072, 64, 24  # the embedded world's vocabulary; tokens of a query and of a response
BATCH, EPOCHS, MICRO = 64, 4, 16  # episodes an update, passes over them, episodes a forward pass
MICROS = (16, 32)  # of PPO, where both sides are timed at each and judged by their own best; 8 and 64 are slower
FOUR = 4  # responses to a query that people choose from
COMPARISONS = 32  # four-way labels a gradient step of the reward model: 128 sequences, 64 of TRL's pairs
TEMPERATURE = 0.7
MODELS = {"4x128": (4, 128, 4), "6x384": (6, 384, 6), "12x768": (12, 768, 12)}  # layers, width, heads


def token_rows(rows: int, length: int, seed: int) -> list[list[int]]:
    """The same random tokens on both sides: `rows` lists of `length` ids; 0 is the pad and is left out."""
    draw = random.Random(seed)
    return [[draw.randrange(1, VOCAB) for _ in range(length)] for _ in range(rows)]


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ---- one process a side, so that their runs can be interleaved while both stay warm ----------------------------


def serve(functions: dict[str, Callable]) -> None:
    """Answer each line {"do": name, ...} on standard input by one line of JSON; all other output goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(functions[asked.pop("do")](**asked)), file=answers, flush=True)


class Side:
    """A running `ours.py` or `peers.py`: `side.do(name, **arguments)` gives its answer."""

    def __init__(self, python: str | Path, script: str, folder: Path, threads: int, env: dict):
        self.name, self.log = Path(script).stem, folder / f"{Path(script).stem}.log"
        threading = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name(script)), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("a"), text=True, env=env | threading,
        )  # fmt: skip

    def do(self, name: str, **arguments):
        self.process.stdin.write(json.dumps({"do": name, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text().splitlines()[-12:])
            raise SystemExit(f"{self.name} died while it did {name}({arguments}); its last words:\n{tail}")
        return json.loads(line)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()
