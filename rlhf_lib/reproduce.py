"""The runner: the notebooks in order through papermill, each run in a folder of its own, never in `notebooks/`."""

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from tqdm.auto import tqdm

from rlhf_lib import claims, manifest
from rlhf_lib.corpora.hub import HUB
from rlhf_lib.errors import KitError
from rlhf_lib.notebook_rules import NOTEBOOKS, is_parameters, read_notebook, source
from rlhf_lib.parameters import named_values
from rlhf_lib.profiles import get_profile

PROFILES = ("smoke", "tiny", "gpt2", "gpt2-large")


def parse(argv: list[str]) -> argparse.Namespace:
    """The options of `reproduce`."""
    parser = argparse.ArgumentParser(prog="rlhf_lib reproduce", description=__doc__)
    parser.add_argument("--profile", default="tiny", choices=PROFILES, help="size of the run (default: tiny)")
    parser.add_argument("--model", help="another base model: a Hugging Face folder or hub name")
    parser.add_argument("--corpus", help="another corpus: a text or JSONL file, a folder in the hub's format, or 'hub'")
    parser.add_argument("--sweeps", type=int, default=0, help="1: grids too (hours; goes on where it was stopped)")
    parser.add_argument("--full", type=int, default=0, help="1: one seed of trainings as long as the grids'")
    parser.add_argument("--seeds", type=int, help="number of seeds a result (default: the notebook's)")
    parser.add_argument("--only", metavar="NN", help="these notebooks only, by number: 04 or 03,04")
    parser.add_argument("--from", metavar="NN", dest="start", help="from this notebook on")
    parser.add_argument("-p", metavar="NAME=VALUE", action="append", default=[], dest="extra", help="any parameter")
    parser.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[], dest="fields",
                        help="a field of the profile in every notebook, such as ppo__episodes=6400")  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N", help="notebooks at a time (default: 1; smoke, which mostly "
                        "opens libraries, 2)")  # fmt: skip
    parser.add_argument("--run", metavar="ID", help="name of the run; an existing one is gone on with")
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def select(folder: Path, only: str | None = None, start: str | None = None) -> list[Path]:
    """The notebooks to run, in order. Raises KitError for a number that no notebook has."""
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise KitError(f"There are no notebooks (NN_name.ipynb) in {folder}; run this from a whole copy of the kit.")
    numbers = [path.name[:2] for path in paths]
    wanted = {number.strip().zfill(2) for number in only.split(",")} if only else set(numbers)
    first = start.zfill(2) if start else numbers[0]
    for number in sorted(wanted | {first}):
        if number not in numbers:
            raise KitError(f"There is no notebook {number}; there are {', '.join(numbers)}.")
    chosen = [path for path in paths if path.name[:2] in wanted and path.name[:2] >= first]
    if not chosen:
        raise KitError(f"--only {only} and --from {start} leave no notebook to run; give one of them.")
    return chosen


def declared(path: Path) -> set[str]:
    """Names of the parameters that a notebook declares in its cell tagged `parameters`."""
    import papermill

    read_notebook(path)  # says in one sentence what is wrong with a damaged file
    return set(papermill.inspect_notebook(str(path)))


def parameters_of(names: dict[str, set[str]], standard: dict, extra: dict) -> dict[str, dict]:
    """What to inject into each notebook. Raises KitError for an extra parameter that none of them declares.

    names: notebook file name -> names that it declares.
    """
    known = set().union(*names.values())
    for name in extra:
        if name not in known:
            raise KitError(f"No notebook of this run has a parameter '{name}'; there are {', '.join(sorted(known))}.")
    given = {**{name: value for name, value in standard.items() if value is not None}, **extra}
    return {notebook: {k: v for k, v in given.items() if k in declares} for notebook, declares in names.items()}


def check_inputs(model: str | None, corpus: str | None) -> dict[str, str]:
    """Hashes of the model and corpus given as paths. Raises KitError if one is missing or damaged.

    A model that is no path here is taken for a hub name, which notebooks resolve.
    """
    hashes = {}
    if model:
        looks_like_path = model.startswith((".", "/", "~")) or model.count("/") > 1
        folder = Path(model).expanduser()
        if folder.exists():
            manifest.check_model_folder(folder)
            hashes["model"] = manifest.content_hash(folder)
        elif looks_like_path:
            raise KitError(f"There is no model folder {model}; correct MODEL, or make it with `make base OUT={model}`.")
    if corpus and corpus != HUB and not Path(corpus).expanduser().exists():
        raise KitError(f"There is no corpus {corpus}; correct CORPUS (a text or JSONL file, a folder, or 'hub').")
    if corpus and corpus != HUB:
        hashes["corpus"] = manifest.content_hash(Path(corpus).expanduser())
    return hashes


# -- one notebook ------------------------------------------------------------------------------------------------------


def where_it_failed(path: Path, index: int, injected: bool) -> str:
    """'cell 3 (`first line`)' of the source notebook, for a cell index of the executed one."""
    cells = read_notebook(path)["cells"]
    tagged = next((number for number, cell in enumerate(cells) if is_parameters(cell)), None)
    if injected and tagged is not None and index > tagged:
        index -= 1  # papermill put its own cell after the one tagged `parameters`
    lines = [line for line in source(cells[index]).splitlines() if line.strip()] if index < len(cells) else []
    return f"cell {index}" + (f" (`{lines[0].strip()}`)" if lines else "")


def run_notebook(path: Path, output: Path, parameters: dict) -> None:
    """Run one notebook and write it, executed, to `output`. Raises KitError naming notebook, cell and exception."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, whatever is installed for the user
    os.environ["PYTHONPATH"] = os.pathsep.join([str(manifest.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    bar = {"desc": path.stem, "leave": False, "disable": None}  # None: quiet where there is no terminal
    quiet = ["--log-level=ERROR"]  # else each kernel warns that it is spoken to without encryption, on this machine
    try:
        papermill.execute_notebook(
            str(path), str(output), parameters, kernel_name="python3", progress_bar=bar, cwd=str(output.parent),
            extra_arguments=quiet,
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        where = where_it_failed(path, error.cell_index, bool(parameters))
        said = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        raise KitError(f"{path.name} stopped at {where}: {said} (all of it: {output})") from None
    except DeadKernelError:
        raise KitError(f"{path.name}: its Python process died, most likely for want of memory; see {output}.") from None


def attempt(path: Path, run_dir: Path, given: dict) -> tuple[dict, KitError | None]:
    """Run one notebook of a run: its row for the run's manifest, and what it failed of."""
    os.environ["RLHF_NOTEBOOK"] = path.name  # stands in the cache's rows, which say what this notebook made
    before, started, failed = len(manifest.cache_rows(run_dir)), time.monotonic(), None
    try:
        run_notebook(path, run_dir / "notebooks" / path.name, given)
    except KitError as error:
        failed = error
    cache = [row for row in manifest.cache_rows(run_dir)[before:] if row.get("notebook") == path.name]
    return {
        "notebook": path.name, "sha256": manifest.file_hash(path), "parameters": given,
        "status": "failed" if failed else "complete", "seconds": round(time.monotonic() - started, 1),
        "made": [row["name"] for row in cache if not row["reused"]],
        "reused": [row["name"] for row in cache if row["reused"]],
    }, failed  # fmt: skip


def attempts(parameters: dict[Path, dict], run_dir: Path, jobs: int) -> Iterator[tuple[dict, KitError | None]]:
    """`attempt` of each notebook, `jobs` of them at a time, as they end; after a failure no further one is begun.

    What two need at once is made once: the cache lets the second wait.
    """
    if jobs == 1:
        for path, given in parameters.items():
            row, failed = attempt(path, run_dir, given)
            yield row, failed
            if failed:
                return
        return
    waiting, broken = iter(parameters.items()), False
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))  # each its share of the cores
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        begun = {pool.submit(attempt, path, run_dir, given) for path, given in islice(waiting, jobs)}
        while begun:  # no more is handed to the pool than it has processes: it would begin what it holds
            ended, begun = wait(begun, return_when=FIRST_COMPLETED)
            for row, failed in [future.result() for future in ended]:
                broken = broken or bool(failed)
                yield row, failed
            for path, given in islice(waiting, 0 if broken else len(ended)):
                begun.add(pool.submit(attempt, path, run_dir, given))


def run_all(run_dir: Path, record: dict, parameters: dict[Path, dict], jobs: int = 1) -> None:
    """Run the notebooks in order, keeping `manifest.json` up to date; begins none after one failed, and raises that.

    Those that ran beside it are let end, and stand in the manifest too.
    """
    first = None
    with tqdm(total=len(parameters), unit="notebook", disable=None) as bar:
        for row, failed in attempts(parameters, run_dir, jobs):
            first = first or failed
            others = [r for r in record["notebooks"] if r["notebook"] != row["notebook"]]
            record["notebooks"] = sorted([*others, row], key=lambda r: r["notebook"])
            record["status"] = "failed" if first else "running"
            manifest.write_json(run_dir / "manifest.json", record)
            if failed:
                tqdm.write(f"{Path(row['notebook']).stem}: failed; nothing else is begun")
                continue
            bar.update()
            said = f"{Path(row['notebook']).stem}: {row['seconds']:.0f} s"
            if row["made"] or row["reused"]:
                said += f", {len(row['made'])} made, {len(row['reused'])} not made again (inputs unchanged)"
            tqdm.write(said)
    if first:
        raise first


# -- runs --------------------------------------------------------------------------------------------------------------


def known_runs() -> list[tuple[Path, dict]]:
    """All runs that have a readable manifest, oldest first."""
    found = []
    for path in manifest.runs_folder().glob("*/manifest.json"):
        try:
            found.append((path.parent, manifest.read_json(path)))
        except KitError:
            continue  # not a run that could be gone on with
    return sorted(found, key=lambda run: run[1].get("started", ""))


def open_run(options: argparse.Namespace, standard: dict, inputs: dict) -> tuple[Path, dict]:
    """The run's folder and manifest: the one named by --run; for a part of the notebooks the newest alike; else new."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S")
    alike = [run for run in known_runs() if run[1].get("parameters") == standard and run[1].get("inputs") == inputs]
    if options.run:
        run_dir = manifest.runs_folder() / options.run
        if run_dir.parent != manifest.runs_folder() or options.run in ("", "cache"):
            raise KitError(f"'{options.run}' is no name for a run; use letters, digits and dashes.")
    elif (options.only or options.start) and alike:
        run_dir = alike[-1][0]
    else:
        name = f"{now.replace(':', '').replace('T', '-')}-{options.profile}"
        run_dir = manifest.runs_folder() / name
        while run_dir.exists():  # two runs begun within a second
            run_dir = run_dir.with_name(run_dir.name + "x")
    old = manifest.read_json(run_dir / "manifest.json") if (run_dir / "manifest.json").exists() else {}
    if old and (old.get("parameters"), old.get("inputs")) != (standard, inputs):
        raise KitError(f"The run {run_dir.name} was made with other parameters or inputs; give it another name.")
    record = {
        "id": run_dir.name,
        "started": old.get("started", now),
        "parameters": standard,
        "inputs": inputs,
        "git": manifest.git_state(),
        "versions": manifest.versions(),
        "machine": manifest.machine(),
        "notebooks": old.get("notebooks", []),
        "status": "running",
    }
    return manifest.run_folder(run_dir), record


def main(argv: list[str]) -> int:
    """`reproduce`: returns 0, 1 if a result left its recorded status; KitError for a notebook that failed."""
    options = parse(argv)
    jobs = (2 if options.profile == "smoke" else 1) if options.jobs is None else options.jobs
    if jobs < 1:
        raise KitError(f"--jobs {jobs} would run no notebook; give 1 or more.")
    paths = select(options.notebooks, options.only, options.start)
    standard = {name: getattr(options, name) for name in ("profile", "model", "corpus", "sweeps", "full", "seeds")}
    inputs = check_inputs(options.model, options.corpus)
    for name in inputs:  # the notebooks run elsewhere
        standard[name] = str(Path(standard[name]).expanduser().resolve())
    extra = named_values(options.extra)
    fields = named_values(options.fields)
    get_profile(options.profile, **fields)  # a wrong field is refused before anything is made
    if fields:  # read by `runs.TaskRun.profile` in the notebooks' processes
        os.environ["RLHF_SET"] = " ".join(options.fields)
        standard["set"] = fields
    names = {path: declared(path) for path in paths}
    parameters_of(names, {}, extra)  # a wrong name is refused before anything is made
    run_dir, record = open_run(options, {**standard, **extra}, inputs)
    print(f"Run {run_dir.name}: {len(paths)} notebooks, profile {options.profile}, into {run_dir}", flush=True)
    started = time.monotonic()
    run_all(run_dir, record, parameters_of(names, {**standard, "run_dir": str(run_dir)}, extra), jobs)
    done = {row["notebook"] for row in record["notebooks"] if row["status"] == "complete"}
    everything = {path.name for path in select(options.notebooks)}
    record["status"] = "complete" if done >= everything else "partial"
    record["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S")
    manifest.write_json(run_dir / "manifest.json", record)
    minutes = (time.monotonic() - started) / 60
    print(f"Done in {minutes:.1f} minutes; figures in {run_dir / 'figures'}; `make figures` copies them.", flush=True)
    status, _ = claims.check(run_dir / "figures", options.profile, whole=False)
    return status


def figures_main(argv: list[str]) -> int:
    """`figures [--run ID]`: copy a complete run's figures, with the numbers behind them, to `figures/`.

    What its sweep recorded, if it made one, goes to `data/recorded/`.
    """
    parser = argparse.ArgumentParser(prog="rlhf_lib figures", description=figures_main.__doc__)
    parser.add_argument("--run", metavar="ID", help="that run (default: the newest complete one of the profile)")
    parser.add_argument("--profile", default="tiny", help="default: tiny, whose figures are the committed ones")
    parser.add_argument("--to", type=Path, default=manifest.ROOT / "figures", help=argparse.SUPPRESS)
    parser.add_argument("--recorded", type=Path, default=manifest.ROOT / "data" / "recorded", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    complete = [run for run in known_runs() if run[1].get("status") == "complete"]
    plain = {"profile": options.profile, "model": None, "corpus": None}  # nobody's own model or corpus
    if options.run:
        chosen = [run for run in complete if run[0].name == options.run]
    else:
        given = [(run, run[1].get("parameters", {})) for run in complete]
        chosen = [run for run, its in given if "set" not in its and all(its.get(k) == v for k, v in plain.items())]
    if not chosen:
        which = f"complete run '{options.run}'" if options.run else f"complete run of the profile {options.profile}"
        raise KitError(f"There is no {which} in {manifest.runs_folder()}; `make reproduce` makes one.")
    run_dir, record = chosen[-1]
    print(f"{copy_files(run_dir / 'figures', options.to)} files of the run {run_dir.name} copied to {options.to}.")
    manifest.write_json(options.to / "run.json", record)
    if all(record.get("parameters", {}).get(name) is None for name in ("model", "corpus")):  # nobody's own
        swept = [run_dir / "samples" / name for name in ("recorded", "known_sweep")]
        if count := sum(copy_files(folder, options.recorded) for folder in swept if folder.is_dir()):
            print(f"{count} files of its sweep copied to {options.recorded}.")
    return 0


def copy_files(folder: Path, to: Path) -> int:
    """Copy the files of a folder, hidden ones and subfolders left out, into another; how many there were."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    to.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, to / path.name)
    return len(files)
