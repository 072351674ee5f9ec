"""One task in one run: what its results depend on. `style.StyleRun` and `summary.SummaryRun` add the steps."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from rlhf_lib import collect, manifest
from rlhf_lib.corpora.hub import HUB
from rlhf_lib.parameters import named_values
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.profiles import get_profile
from rlhf_lib.tasks import Queries, Task

HUB_PROFILES = ("gpt2", "gpt2-large")  # whose texts are the hub's where no corpus is named
MOST_QUERIES = 200_000  # kept in memory; a longer run goes through them again, in another order

# What one training of a notebook spends where the recorded sweep spends the profile's numbers: enough for the direction
# of each result, in minutes. With `full = True`, or FULL=1, it spends them too.
CORE = {
    "tiny": {
        "sentiment__ppo__episodes": 4_800,
        "descriptiveness__ppo__episodes": 9_600,
        "cnndm__ppo__episodes": 4_800,
        "tldr__ppo__episodes": 3_200,
        "cnndm__reward__labels": 2_000,
        "tldr__reward__labels": 2_000,
    }
}


@dataclass(frozen=True)
class TaskRun:
    """A task, a profile, a base model, a corpus and a seed; and the folder in which results are linked."""

    run_dir: Path
    task_name: str
    profile_name: str = "tiny"
    model: str = ""  # folder or hub name; empty: the profile's
    corpus: str = ""  # text or JSONL file, folder in the hub's format, or "hub"; empty: the embedded world
    # (the profiles gpt2 and gpt2-large: the hub)
    seed: int = 1
    overrides: dict = field(default_factory=dict)  # of the profile, as `profiles.get_profile` takes them
    core: bool = False  # True: shorter trainings, those of `CORE`

    def __post_init__(self):
        if not self.corpus and self.profile_name in HUB_PROFILES:
            object.__setattr__(self, "corpus", HUB)

    @cached_property
    def profile(self):
        """The profile; replaced in it a core run's sizes, then what `make reproduce SET=` names, then `overrides`."""
        short = CORE.get(self.profile_name, {}) if self.core else {}
        given = short | named_values(os.environ.get("RLHF_SET", "").split()) | self.overrides
        return get_profile(self.profile_name, **({"model": self.model} if self.model else {}), **given)

    @cached_property
    def config(self):
        return self.profile[self.task_name]

    @cached_property
    def base(self) -> tuple[Policy, object]:
        """The base model as a frozen policy, and its tokenizer."""
        lm, tokenizer = load_lm(self._start_path(), device=self.device)
        return Policy(lm, self._autocast).requires_grad_(False), tokenizer

    @property
    def device(self) -> str:
        """A GPU where there is one, for the profiles made for one; the others' recorded numbers are a CPU's."""
        return "cuda" if self.profile.dtype == "bfloat16" and torch.cuda.is_available() else "cpu"

    @property
    def _frozen(self) -> torch.dtype:
        """The type of weights that nothing trains: reference and reward model in PPO."""
        return self._autocast or torch.float32

    @property
    def _autocast(self) -> torch.dtype | None:
        """Arithmetic of forward passes; weights are float32 in every profile."""
        return torch.bfloat16 if self.profile.dtype == "bfloat16" else None

    @cached_property
    def task(self) -> Task:
        return Task(self.task_name, self.config.text, self.base[1])

    def _start_path(self) -> str:
        """The folder of what trainings start from: the model itself."""
        return self._model_path()

    def _model_path(self) -> str:
        path = Path(self.profile.model)
        inside = manifest.ROOT / path
        return str(inside) if not path.is_absolute() and inside.is_dir() else str(path)

    def base_texts(self, queries: Queries) -> tuple[list[dict], dict]:
        """Comparisons of the base's own samples, and what is measured of raw ones: entropy (nats), share penalised."""
        raw = collect.sample_texts(self.base[0], queries, self.task, 11)
        rows = collect.comparisons(self.base[0], queries, self.task, 12)
        means = {name: float(np.mean([row[name] for row in raw])) for name in ("entropy", "penalised")}
        return rows, means | {"comparisons": len(rows)}

    def _inputs(self, **more) -> dict:
        """What decides a result, for the cache: the base model and the corpus by content, the rest by value."""
        model = Path(self._model_path())
        parts = [path for name in ("config.json", "tokenizer*", "*.safetensors") for path in sorted(model.glob(name))]
        corpus = {"": "tinyworld", HUB: HUB}.get(self.corpus, Path(self.corpus))
        files = {"model": parts if model.is_dir() else str(model), "dtype": self.profile.dtype, "corpus": corpus}
        return files | {"task": self.task_name, "text": self.config.text, "seed": self.seed} | more
