"""The bounds of the monitors, measured: `python -m rlhf_lib calibrate`.

Healthy and broken runs of seeds 1-3 are only listened to. Each bound that doesn't follow from arithmetic is put between
the largest number that a healthy run showed and the smallest that the run it is meant for reached. Then the bounds
stand, and runs of other seeds tell how often a healthy run is pulled and how soon a sick one is stopped. All runs go
through the run's cache: a stopped calibration goes on.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rlhf_lib import manifest
from rlhf_lib.casebook import CASES, HEALTHY, MORE, CaseRun
from rlhf_lib.errors import KitError
from rlhf_lib.monitors import CALIBRATION, FIXED_BOUNDS, SENTENCES
from rlhf_lib.profiles import get_profile

RUNS = CALIBRATION.with_name("monitors_runs.parquet")
FIXED_ON = (1, 2, 3)  # seeds
UNSEEN = (11, 12)  # seeds of the sick runs that the bounds are tried on
UNSEEN_HEALTHY = tuple(range(101, 131))  # thirty seeds
LISTENED = 12  # updates: every monitor has spoken by then
LIMIT = 30  # updates within which a sick run has to be stopped
BETWEEN = 0.5  # where between healthy and sick a bound stands: half-way
# published GPT-2 runs start with up to 80% penalised and recover; our base with far fewer, which says nothing of them
PLACES = {"too_many_penalised": 0.9}


def numbers(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The largest number of one monitor in each run: columns kind, seed, value (NaN where it never spoke)."""
    column = f"monitor/{name}"
    rows = rows if column in rows else rows.assign(**{column: math.nan})
    return rows.groupby(["kind", "seed"], as_index=False)[column].max().rename(columns={column: "value"})


def bound_between(rows: pd.DataFrame, name: str) -> dict:
    """A monitor's bound from listened runs: {"bound", "fixed", "healthy", "sick", "told_by"}.

    told_by: the case that is meant for the monitor, else the one that it tells apart best. Where even that one does not
    stand clear of the healthy runs in every seed, the bound is infinite: the monitor stays silent, and this says so.
    fixed: the bound is one of FIXED_BOUNDS, and the runs only show what it does.
    """
    found = numbers(rows, name)
    healthy = found[found.kind.isin(HEALTHY)].value.max()
    weakest = found[~found.kind.isin(HEALTHY)].groupby("kind").value.min()  # over seeds
    meant = [case.name for case in CASES.values() if case.monitor == name]
    told_by = meant[0] if meant else weakest.idxmax()
    clear = weakest[told_by] > healthy
    place = PLACES.get(name, BETWEEN)
    between = healthy + place * (weakest[told_by] - healthy) if clear else math.inf
    fixed = name in FIXED_BOUNDS
    return {
        "bound": float(FIXED_BOUNDS[name] if fixed else between), "fixed": fixed, "healthy": float(healthy),
        "sick": weakest.to_dict(), "told_by": told_by,
    }  # fmt: skip


def told_apart(rows: pd.DataFrame, name: str, sick: str) -> pd.DataFrame:
    """How well a number tells one sick kind from the healthy, by update: columns update, healthy, sick, auc.

    healthy: the largest over runs; sick: the smallest. auc: the chance that a sick run shows more than a healthy one
    (the area under the ROC curve; 1 is perfect, one half is none).
    """
    column, table = f"monitor/{name}", []
    for update, group in rows.dropna(subset=[column]).groupby("step"):
        ill, well = group[group.kind == sick][column], group[group.kind.isin(HEALTHY)][column]
        if len(ill) and len(well):
            beaten = [(x > well).mean() + (x == well).mean() / 2 for x in ill]
            table.append({"update": int(update), "healthy": well.max(), "sick": ill.min(),
                          "auc": sum(beaten) / len(beaten)})  # fmt: skip
    return pd.DataFrame(table)


def listened_runs(
    run_dir: Path, profile: str, seeds=FIXED_ON, updates: int = LISTENED, model: str = ""
) -> pd.DataFrame:
    """Healthy and broken runs whose monitors only listen: all their rows."""
    frames = []
    for seed in seeds:
        for kind in (*HEALTHY, *CASES, *MORE):
            frames.append(CaseRun(run_dir, kind, updates, profile, model, seed=seed).rows())
            print(f"listened to: {kind}, seed {seed}", flush=True)
    return pd.concat(frames, ignore_index=True)


def tried(run_dir: Path, kind: str, updates: int, profile: str, seed: int, bounds: Mapping, model: str = "") -> dict:
    """One watched run of an unseen seed: after how many updates it was stopped, by which monitor (None: not)."""
    run = CaseRun(run_dir, kind, updates, profile, model, seed=seed, bounds=dict(bounds))
    rows = run.rows()
    pulls = [m for m in run.monitors(bounds) if m.judge(rows.iloc[-1].get(f"monitor/{m.name}"))]
    stopped = {"update": len(rows), "monitor": pulls[0].name} if pulls else {"update": None, "monitor": None}
    print(f"tried: {kind}, seed {seed}: {stopped['monitor'] or 'left alone'} after {len(rows)} updates", flush=True)
    return {"kind": kind, "seed": seed, "updates": len(rows)} | stopped


def calibrate(
    run_dir: Path, profile: str = "tiny", model: str = "", healthy=UNSEEN_HEALTHY, unseen=UNSEEN, limit: int = LIMIT
) -> tuple[dict, pd.DataFrame]:
    """Fix the bounds, then try them: what is recorded (see the module), and the rows of the listened runs."""
    began = time.process_time()
    rows = listened_runs(run_dir, profile, model=model)
    measured = {name: bound_between(rows, name) for name in SENTENCES}
    bounds = {name: found["bound"] for name, found in measured.items()}
    smoke = get_profile("smoke").sentiment.ppo
    short, kinds = smoke.episodes // smoke.batch, list(HEALTHY)
    well = [tried(run_dir, kinds[i % len(kinds)], short, profile, s, bounds, model) for i, s in enumerate(healthy)]
    sick = [tried(run_dir, kind, limit, profile, s, bounds, model) for kind in (*CASES, *MORE) for s in unseen]
    late = {kind: max(r["update"] or limit + 1 for r in sick if r["kind"] == kind) for kind in (*CASES, *MORE)}
    return {
        "bounds": bounds, "measured": measured, "seeds": {"fixed_on": list(FIXED_ON), "sick": list(unseen)},
        "listened_updates": LISTENED, "healthy_updates": short, "limit": limit, "unseen_healthy": well,
        "unseen_sick": sick, "updates_to_stop": late, "false_pulls": sum(r["update"] is not None for r in well),
        "profile": profile, "labelers": "simulated", "cpu_seconds": round(time.process_time() - began),
        "versions": manifest.versions(), "git": manifest.git_state(),
    }, rows  # fmt: skip


def without_infinities(value):
    """The same with None for numbers that JSON does not know; a bound of None is that of a silent monitor."""
    if isinstance(value, Mapping):
        return {key: without_infinities(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(argv: list[str]) -> int:
    """`calibrate`: measure the monitors' bounds and try them on unseen seeds; goes on where it was stopped."""
    parser = argparse.ArgumentParser(prog="rlhf_lib calibrate", description=main.__doc__)
    parser.add_argument("--profile", default="tiny", help="whose base model and task (default: tiny)")
    parser.add_argument("--model", default="", help="another base model: a Hugging Face folder or hub name")
    parser.add_argument("--run", type=Path, help="the run's folder (default: data/runs/calibration)")
    parser.add_argument("--out", type=Path, default=CALIBRATION, help=f"where the bounds go (default: {CALIBRATION})")
    options = parser.parse_args(argv)
    run_dir = manifest.run_folder(options.run or manifest.runs_folder() / "calibration")
    found, rows = calibrate(run_dir, options.profile, options.model)
    manifest.write_json(options.out, without_infinities(found))
    rows.to_parquet(options.out.with_name(RUNS.name), index=False)
    silent = [name for name, bound in found["bounds"].items() if math.isinf(bound)]
    print(f"False pulls: {found['false_pulls']} of {len(found['unseen_healthy'])} healthy runs of unseen seeds.")
    print("Updates until a sick run is stopped:", found["updates_to_stop"])
    print(f"Bounds written to {options.out}." + f" Not told apart, so silent: {', '.join(silent)}." * bool(silent))
    return 0


def recorded() -> tuple[dict, pd.DataFrame]:
    """What the last calibration recorded: its JSON, and the rows of its listened runs. KitError if it is not there."""
    if not RUNS.is_file():
        raise KitError(f"No recorded calibration in {RUNS.parent}: make it with `python -m rlhf_lib calibrate`.")
    return manifest.read_json(CALIBRATION), pd.read_parquet(RUNS)
