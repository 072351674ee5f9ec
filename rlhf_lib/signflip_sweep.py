"""The recorded sweep of the sign flip: four conditions for several seeds, one row each, and what is kept of it.

Notebook 11 draws a run's own points beside these. `run_sweep` resumes: each training is made once by the run's cache.
"""

from pathlib import Path

import pandas as pd

from rlhf_lib import manifest
from rlhf_lib.errors import KitError
from rlhf_lib.signflip import CONDITIONS, SignFlipRun, result_row

SHOWN_SAMPLES = 32  # prompts a condition and seed that are kept for reading
RECORDED = manifest.ROOT / "data" / "recorded"


def run_sweep(run_dir: Path, profile: str, seeds: list[int], conditions=tuple(CONDITIONS), **where) -> pd.DataFrame:
    """Train and measure every condition and seed; all conditions of a seed before the next. where: model, corpus."""
    rows = []
    for seed in seeds:
        for condition in conditions:
            done = result_row(SignFlipRun(run_dir, condition, profile, seed=seed, **where))
            rows.append(done)
            pd.DataFrame(rows).to_json(run_dir / "metrics" / "signflip_sweep.json", orient="records", indent=1)
            print(f"{condition}, seed {seed}: score {done['score']:.2f} (base {done['score_base']:.2f}),",
                  f"likelihood {done['loglik']:.2f} nats a token, theme {done['theme']:.1%}", flush=True)  # fmt: skip
    return pd.DataFrame(rows)


def record(run_dir: Path, profile: str, rows: pd.DataFrame, folder: Path = RECORDED, **where) -> None:
    """Keep a sweep: its rows, the curves with one sample an update, and the first held-out samples."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = [SignFlipRun(run_dir, row.condition, profile, seed=row.seed, **where) for row in rows.itertuples()]
    rows.to_json(folder / "signflip_sweep.json", orient="records", indent=1)
    pd.concat([run.metrics() for run in runs]).to_parquet(folder / "signflip_curves.parquet", index=False)
    kept = []
    for run in runs:
        frame = run.samples().assign(condition=run.condition)
        kept.append(frame.groupby("model", sort=False).head(SHOWN_SAMPLES))
    pd.concat(kept).to_parquet(folder / "signflip_samples.parquet", index=False)
    manifest.write_json(folder / "signflip_manifest.json", {
        "profile": profile, "versions": manifest.versions(), "git": manifest.git_state(), "runs": len(rows),
        "labelers": "simulated", "source": manifest.source_hash(("signflip",)),
    })  # fmt: skip


def recorded(name: str) -> pd.DataFrame:
    """A recorded frame: ``signflip_sweep``, ``_curves`` or ``_samples``; KitError if it is not there."""
    for path, read in ((RECORDED / f"{name}.json", pd.read_json), (RECORDED / f"{name}.parquet", pd.read_parquet)):
        if path.is_file():
            return read(path)
    raise KitError(
        f"No recorded '{name}' in {RECORDED}: make it with `make reproduce SWEEPS=1 SEEDS=3` and `make figures`."
    )
