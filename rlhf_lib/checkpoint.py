"""Complete checkpoints, atomically replaced; the one before is kept."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import torch

from rlhf_lib.errors import KitError
from rlhf_lib.training import TrainState

CURRENT, PREVIOUS = "state.pt", "state.previous.pt"


def save(folder: str | Path, state: dict) -> Path:
    """Write `state` (TrainState.state_dict()) to folder/state.pt: temporary file, fsync, rename.

    The file that was there becomes state.previous.pt. Being killed at any point leaves at least one good file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{CURRENT}.tmp"
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if (folder / CURRENT).exists():
        os.replace(folder / CURRENT, folder / PREVIOUS)
    os.replace(temporary, folder / CURRENT)
    return folder / CURRENT


def load(folder: str | Path, device: str = "cpu") -> dict | None:
    """The newest checkpoint of a folder, or None if there is none yet.

    Raises KitError for a damaged file, naming the older one that can be used instead.
    """
    current, previous = Path(folder) / CURRENT, Path(folder) / PREVIOUS
    file = current if current.exists() else previous
    return load_file(file, device) if file.exists() else None


def load_file(file: Path, device: str = "cpu") -> dict:
    """One checkpoint file; KitError if it is damaged, naming the older one where there is one."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()  # torch does not compare checksums
        if bad is not None:
            raise ValueError(f"checksum of {bad}")
        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        older = file.name == CURRENT and file.with_name(PREVIOUS).exists()
        rest = f"delete it to go on from {PREVIOUS}" if older else "start again"
        raise KitError(f"The checkpoint '{file}' is damaged ({type(error).__name__}); {rest}.") from error


class Checkpointer:
    """Callback: save every `every` updates, at the last one, and when stopped. List it after MetricsWriter."""

    def __init__(self, folder: str | Path, every: int):
        self.folder, self.every, self._saved = Path(folder), every, -1

    def __call__(self, state: TrainState) -> None:
        if state.step % self.every == 0 or state.step == state.total:
            self._save(state)

    def on_stop(self, state: TrainState) -> None:
        if self._saved != state.step:
            self._save(state)

    def _save(self, state: TrainState) -> None:
        save(self.folder, state.state_dict())
        self._saved = state.step
