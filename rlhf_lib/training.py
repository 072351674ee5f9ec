"""What the three trainings share: the optimizer, the state that callbacks see and checkpoints keep, the stop signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from rlhf_lib.errors import KitError
from rlhf_lib.rng import capture_rng, restore_rng
from rlhf_lib.sharding import Piece


class StopTraining(Exception):
    """Raised (or returned) by a callback to end training after the current update; says why."""


@dataclass
class TrainState:
    """What a callback gets after each update, and all that is needed to go on later.

    step: updates done; metrics: this update's row; data: tensors of this update (PPO: query and response ids, score);
    extra: numbers that belong to the algorithm's state (KL coefficient, position in the query stream).
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    config: dict
    total: int
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    extra: dict = field(default_factory=dict)
    stopped: str | None = None

    def state_dict(self) -> dict:
        """Everything that a resumed run needs, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": capture_rng(self.generator),
            "step": self.step,
            "extra": dict(self.extra),
            "config": self.config,
        }

    def load(self, saved: dict) -> None:
        """Go on from `saved`; KitError if it was made with other settings or another model."""
        for key in sorted(self.config.keys() | saved["config"].keys()):
            if self.config.get(key) != saved["config"].get(key):
                raise KitError(
                    f"The checkpoint was made with {key} = {saved['config'].get(key)}, this run has "
                    f"{self.config.get(key)}; use the same settings or start in another folder."
                )
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise KitError(f"The checkpoint holds another model ({reason}); start in another folder.") from error
        restore_rng(saved["rng"], self.generator)
        self.step, self.extra = saved["step"], dict(saved["extra"])


Callback = Callable[[TrainState], object]


def run_callbacks(callbacks: Iterable[Callback], state: TrainState) -> bool:
    """Call all callbacks, in order; True if one of them wants to stop.

    All are called even then, so that metrics are written; afterwards each callback's `on_stop(state)`, if it has
    one, runs (the checkpoint is saved there).
    """
    for callback in callbacks:
        try:
            answer = callback(state)
        except StopTraining as signal:
            answer = signal
        if isinstance(answer, StopTraining):
            state.stopped = state.stopped or str(answer) or "stopped by a callback"
    if state.stopped:
        finish(callbacks, state)
    return state.stopped is not None


def finish(callbacks: Iterable[Callback], state: TrainState) -> None:
    """Tell the callbacks that training is over: `on_stop(state)` of those that have it."""
    for callback in callbacks:
        if hasattr(callback, "on_stop"):
            callback.on_stop(state)


def make_adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam, betas 0.9 and 0.999; epsilon is set each step by `adam_step`."""
    trainable = [p for p in parameters if p.requires_grad]
    return torch.optim.Adam(trainable, lr=lr, betas=(0.9, 0.999), fused=True)


def adam_step(optimizer: torch.optim.Adam, lr: float, eps: float, step: int) -> None:
    """One Adam step with TensorFlow's placement of epsilon (detail 21), then gradients off.

    TensorFlow adds eps to sqrt(v) before the bias correction, torch after it; torch's eps / sqrt(1 - beta2^t) is the
    same. `step` counts from 1.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
        group["eps"] = eps / math.sqrt(1.0 - group["betas"][1] ** step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def linear_lr(lr: float, step: int, total: int) -> float:
    """Learning rate of update `step` (from 0): linear, 0 after the last (detail 5)."""
    return lr * (1.0 - step / total)


def cosine_lr(lr: float, step: int, total: int) -> float:
    """Learning rate of update `step` (from 0): half a cosine down to 0."""
    return lr * 0.5 * (1.0 + math.cos(math.pi * step / total))


def check_finite(loss: torch.Tensor, what: str, step: int, lr: float) -> None:
    """KitError when a loss is NaN or infinite, before it can reach the weights."""
    if not torch.isfinite(loss):
        raise KitError(
            f"The {what} became {loss.item()} at update {step + 1}; go on from the last checkpoint with a learning "
            f"rate below {lr:g}."
        )


def sync_gradients(model: nn.Module, sync: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
    """Average gradients over processes; `sync` maps a tensor to its mean over ranks (None: one process)."""
    if sync is None:
        return
    for p in model.parameters():
        if p.grad is not None and not isinstance(p, Piece):  # a piece's gradient came as a mean (`sharding`)
            p.grad.copy_(sync(p.grad))


def settings(cfg) -> dict:
    """A config dataclass as the plain dict that a checkpoint keeps."""
    return asdict(cfg)
