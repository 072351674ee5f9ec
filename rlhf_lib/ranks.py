"""What a training needs to run as several processes (`accelerate launch`): means, shares, checkpoints, one decision.

Each process ("rank") has a share of every batch, and the whole model or, with FSDP, a piece of it (`sharding`);
gradients are averaged, so that all take the same step. Queries and pairs are disjoint over ranks, samples come from
different seeds, whitening and the KL controller see the batches of all ranks (a stated departure: the original whitened
per rank). The folder of a run must be one that all machines see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from rlhf_lib import checkpoint
from rlhf_lib.errors import KitError
from rlhf_lib.sharding import is_split
from rlhf_lib.training import Callback, StopTraining, TrainState

SEED_STEP = 100_003  # between the seeds of two ranks, as in the original (section 3.1)
SHARED = ("model", "optimizer")  # without FSDP the same on every rank, and kept by the first alone


class Ranks:
    """This process among the others."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.is_first, self.device = accelerator.is_main_process, accelerator.device

    @property
    def sync(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Mean of a tensor over the ranks, as the trainings take it; None for a single process."""
        return None if self.world == 1 else self.mean

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mean over all ranks of a tensor of any shape (it is overwritten)."""
        torch.distributed.all_reduce(tensor)
        return tensor.div_(self.world)

    def seed(self, seed: int) -> int:
        """A seed of this rank's own, for what ranks must draw differently (detail 6)."""
        return seed + SEED_STEP * self.rank

    def share(self, items: Sequence) -> Sequence:
        """Every world-th of the items from this rank's on; all ranks get as many. KitError if there are too few."""
        each = len(items) // self.world
        if not each:
            raise KitError(f"{len(items)} examples are too few for {self.world} processes; give at least one for each.")
        return items[self.rank : each * self.world : self.world]

    def split(self, number: int, name: str) -> int:
        """This rank's part of a batch size; KitError if it does not divide."""
        if number % self.world:
            raise KitError(f"{name} = {number} does not divide over {self.world} processes; change one of the two.")
        return number // self.world

    def tell(self, value):
        """The first rank's value, on every rank."""
        return value if self.world == 1 else broadcast_object_list([value])[0]

    def all(self, value) -> list:
        """What each rank has, in their order."""
        return [value] if self.world == 1 else gather_object([value])


class FirstDecides:
    """Callback that asks `callback` on the first rank only, and stops all ranks if it says so."""

    def __init__(self, callback: Callback | None, ranks: Ranks):
        self.callback, self.ranks = callback, ranks

    def __call__(self, state: TrainState) -> StopTraining | None:
        said = None
        if self.ranks.is_first:
            try:
                answer = self.callback(state)
            except StopTraining as signal:
                answer = signal
            said = str(answer) if isinstance(answer, StopTraining) else None
        said = self.ranks.tell(said)
        return None if said is None else StopTraining(said)


class RankCheckpointer(checkpoint.Checkpointer):
    """A `Checkpointer` for each rank: random states and positions of its own, weights with the first one's.

    Of a split model each rank keeps its pieces.
    """

    def __init__(self, folder: str | Path, every: int, ranks: Ranks):
        super().__init__(Path(folder) / f"rank{ranks.rank}", every)
        self.ranks = ranks

    def _save(self, state: TrainState) -> None:
        split = is_split(state.model)
        saved = state.state_dict() | {"world": self.ranks.world, "split": split}
        if not (split or self.ranks.is_first):
            saved = {key: value for key, value in saved.items() if key not in SHARED}
        checkpoint.save(self.folder, saved)
        self._saved = state.step


def load_common(folder: str | Path, ranks: Ranks, split: bool = False) -> dict | None:
    """This rank's part of the newest checkpoint that all ranks have (a kill may come between their saves), or None.

    split: whether this run splits its models. Raises KitError for a checkpoint of another number of processes or of
    models that were split otherwise, or if there is none in common.
    """
    mine = _states(Path(folder) / f"rank{ranks.rank}")
    everywhere = ranks.all({step: (state["world"], state.get("split", False)) for step, state in mine.items()})
    made = {how for steps in everywhere for how in steps.values()}
    if made - {(ranks.world, split)}:
        raise KitError(
            f"The checkpoint in '{folder}' was made by {_how(*max(made))} and this run has {_how(ranks.world, split)}; "
            "start as before, or in another folder."
        )
    common = set.intersection(*(set(steps) for steps in everywhere))
    if not common:
        if made:
            raise KitError(f"The ranks' checkpoints in '{folder}' share no update; delete them to start again.")
        return None
    saved = mine[max(common)]
    if SHARED[0] not in saved:
        whole = _states(Path(folder) / "rank0")[max(common)]
        saved |= {key: whole[key] for key in SHARED}
    return saved


def _how(world: int, split: bool) -> str:
    return f"{world} processes with{'' if split else 'out'} FSDP"


def _states(folder: Path) -> dict[int, dict]:
    """The checkpoints of one rank, by update."""
    files = [folder / name for name in (checkpoint.PREVIOUS, checkpoint.CURRENT) if (folder / name).exists()]
    states = [checkpoint.load_file(file) for file in files]
    return {state["step"]: state for state in states}
