"""`make bench`: the kit beside its peers on this machine, phase by phase, and its growth. Writes figures/bench.*.

Both sides run in processes of their own with the same weights, tokens, lengths, epochs, dtype and threads, in turns,
so that whatever else the machine does meets both. A ratio is the median over turns of peer's time over ours. PPO is
timed at several sizes of micro-batch, which changes no result, and each side is judged by its own best.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import draw
import floors
import others
import torch
from work import BATCH, COMPARISONS, EPOCHS, FOUR, MICRO, MICROS, QUERY, RESPONSE, TEMPERATURE, VOCAB, Side

from rlhf_lib import manifest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SHORT = {"score": 3, "sample": 3, "four": 3}  # turns at least of what takes little time even at the largest size
TOLERANCE = 1e-4  # nats, between the kit's log-probabilities and the peer's
UNITS = {  # what a run of each kind counts, from its batch and length
    "phases": ("episodes", lambda batch, length: batch),
    "sample": ("tokens", lambda batch, length: batch * length),
    "four": ("tokens", lambda batch, length: batch * length),
    "score": ("tokens", lambda batch, length: batch * length),
    "fit": ("comparisons", lambda batch, length: COMPARISONS),
}


def peers_python(where: Path) -> Path:
    """The Python of the peers' environment, made from the package registry the first time."""
    python, wanted = where / "bin" / "python", HERE / "peers.txt"
    stamp = where / "installed.txt"
    if not stamp.is_file() or stamp.read_text() != wanted.read_text():
        print(f"Making the peers' environment in {where} (once; some minutes).", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(where)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)], check=True)
        stamp.write_text(wanted.read_text())
    return python


def in_turns(sides: dict[str, Side], what: str, rounds: int, ways: list[dict]) -> dict[str, list[list[dict]]]:
    """Seconds of each side in each way (arguments of the work), a list for each: `rounds` times in turns after one run
    that is not counted."""
    taken = {name: [[] for _ in ways] for name in sides}
    for turn in range(rounds + 1):
        for at, way in enumerate(ways):
            for name, side in sides.items():
                answer = side.do(what, **way)
                if turn:
                    taken[name][at].append(answer)
    return taken


def median_seconds(answers: list[dict[str, float]]) -> float:
    """Of the whole work, over the turns."""
    return statistics.median(answer["all"] for answer in answers)


def ratios(taken: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """The peer's time over ours, turn by turn: median, lowest and highest."""
    each = [theirs["all"] / mine["all"] for mine, theirs in zip(taken["ours"], taken["peers"], strict=True)]
    return {"ratio": statistics.median(each), "lowest": min(each), "highest": max(each)}


def compared(sides: dict[str, Side], what: str, size: str, rounds: int) -> dict:
    """One kind of work at one model size: rates of both sides, ratio with spread, our phases' seconds."""
    shape = {"size": size} if what == "fit" else {"size": size, "batch": BATCH, "length": RESPONSE}
    ways = [shape | {"micro": micro} for micro in MICROS] if what == "phases" else [shape]
    every = in_turns(sides, what, rounds, ways)
    best = {name: min(range(len(ways)), key=lambda at: median_seconds(each[at])) for name, each in every.items()}
    taken = {name: every[name][at] for name, at in best.items()}
    unit, count = UNITS[what]
    amount = count(BATCH, RESPONSE)
    row = {"what": what, "size": size, "unit": f"{unit} a second", "turns": rounds}
    for name, answers in taken.items():
        row[name] = amount / median_seconds(answers)
        row[f"{name}_seconds"] = {k: statistics.median(a[k] for a in answers) for k in answers[0]}
    if "peers" in taken:
        row |= ratios(taken)
    if what == "phases":
        row["micro_batch"] = {name: MICROS[at] for name, at in best.items()}
        row["by_micro_batch"] = [
            {"micro_batch": micro}
            | {name: amount / median_seconds(each[at]) for name, each in every.items()}
            | (ratios({name: each[at] for name, each in every.items()}) if "peers" in every else {})
            for at, micro in enumerate(MICROS)
        ]
    return row


def shares_of_floors(row: dict, rate: float, bandwidth: float) -> dict[str, float]:
    """What share of each phase's time its floor is: 1 would be arithmetic and nothing else."""
    seconds, what = row["ours_seconds"], row["what"]
    least = floors.least_seconds(row["size"], BATCH, RESPONSE, rate, bandwidth)
    if what == "phases":
        return {phase: least[phase] / seconds[phase] for phase in least}
    alone = {
        "sample": least["sample"],
        "four": floors.sampling_seconds(row["size"], BATCH, RESPONSE, rate, bandwidth, FOUR),
        "score": least["reference"],
        "fit": floors.fit_operations(row["size"], RESPONSE) / rate,
    }
    return {"all": alone[what] / seconds["all"]}


def log_probability_gap(sides: dict[str, Side], size: str) -> float:
    """Largest distance between both sides' log-probabilities of the same tokens, nats; ends the bench if too large."""
    mine, theirs = (torch.tensor(sides[name].do("logprobs", size=size)) for name in ("ours", "peers"))
    gap = float((mine - theirs).abs().max())
    if not gap < TOLERANCE:
        raise SystemExit(f"At {size} the two sides' log-probabilities differ by {gap:.2e} nats: not the same model.")
    return gap


def growth(side: Side, quick: bool) -> list[dict]:
    """Our seconds as batch and response length grow, one at a time."""
    batches, lengths = ((16, 64), (24, 96)) if quick else ((16, 64, 256, 512), (24, 48, 96, 192))
    points = [("batch", "4x128", b, RESPONSE) for b in batches] + [("length", "4x128", BATCH, n) for n in lengths]
    rows = []
    for along, size, batch, length in points:
        for what in ("sample", "score", "phases"):
            side.do(what, size=size, batch=batch, length=length)
            seconds = [side.do(what, size=size, batch=batch, length=length)["all"] for _ in range(1 if quick else 2)]
            rows.append({"along": along, "what": what, "size": size, "batch": batch, "length": length,
                         "seconds": min(seconds), "unit": UNITS[what][0],
                         "rate": UNITS[what][1](batch, length) / min(seconds)})  # fmt: skip
    return rows


def width_growth(compared: list[dict]) -> list[dict]:
    """The same rows along the model's width, from what was compared."""
    return [{"along": "width", "what": row["what"], "size": row["size"], "batch": BATCH, "length": RESPONSE,
             "seconds": row["ours_seconds"]["all"], "unit": UNITS[row["what"]][0], "rate": row["ours"]}
            for row in compared if row["what"] not in ("four", "fit")]  # fmt: skip


def memory(open_side, quick: bool) -> list[dict]:
    """Peak memory of fresh processes that make one update of a small and of a large batch, MiB."""
    rows = []
    for batch in (16, 64) if quick else (64, 512):
        side = open_side("ours")
        side.do("logprobs")
        before = side.do("peak")
        side.do("phases", batch=batch, length=RESPONSE)
        rows.append({"batch": batch, "before": before, "peak": side.do("peak")})
        side.end()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="About 40 minutes on two free cores.")
    parser.add_argument("--quick", action="store_true", help="two turns, the smallest model, two points of growth")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side (default: all cores)")
    parser.add_argument("--no-peers", action="store_true", help="the kit alone")
    parser.add_argument("--peers-env", type=Path, default=ROOT / ".venv-peers", help="where the peers are installed")
    parser.add_argument("--profile", default="tiny", help="whose newest complete run gives the notebooks' times")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder for bench.json and the figure")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    turns = {"4x128": 2} if options.quick else {"4x128": 7, "6x384": 3, "12x768": 1}  # at least
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"Other work runs on this machine (load {load:.1f}): ratios stay fair, rates and shares are too low.")
    with tempfile.TemporaryDirectory() as folder:
        pythons = {"ours": Path(sys.executable)}
        if not options.no_peers:
            pythons["peers"] = peers_python(options.peers_env)
        env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

        def open_side(name: str) -> Side:
            return Side(pythons[name], f"{name}.py", Path(folder), options.threads, env)

        sides = {name: open_side(name) for name in pythons}
        found = {
            "machine": {"cpu": cpu_name(), "threads": options.threads, "quick": options.quick, "load_at_start": load,
                        "versions": {name: side.do("versions") for name, side in sides.items()}},
            "work": {"vocabulary": VOCAB, "query": QUERY, "response": RESPONSE, "batch": BATCH, "epochs": EPOCHS,
                     "micro_batch": MICRO, "micro_batches_of_ppo": MICROS, "comparisons": COMPARISONS,
                     "responses_to_a_query": FOUR, "temperature": TEMPERATURE, "dtype": "float32"},
            "floors": {}, "log_probability_gap": {},
        }  # fmt: skip
        few = 100 if options.quick else 1_000
        found["notebooks"] = others.notebook_seconds(options.profile)
        found["lcs_pairs_a_second"] = others.lcs_pairs_a_second(few)
        found["store_labels_a_second"] = others.labels_a_second(few)
        found["memory"] = memory(open_side, options.quick)
        found["growth"] = growth(sides["ours"], options.quick)
        found["compared"] = []
        for size, rounds in turns.items():  # the longest comes last, and what is measured is kept
            print(f"{size} ...", flush=True)
            sides["ours"].do("score", size=size, batch=MICRO, length=RESPONSE)  # makes the model that both open
            if "peers" in sides:
                found["log_probability_gap"][size] = log_probability_gap(sides, size)
            rates, step = floors.matrix_rate(size), floors.decode_bytes(size, BATCH, RESPONSE // 2)
            bandwidth = floors.bandwidth(step)
            found["floors"][size] = {"operations_a_second": rates, "decode_step_bytes": step,
                                     "bytes_a_second": bandwidth}  # fmt: skip
            for what in ("score", "sample", "four", "phases", "fit"):
                row = compared(sides, what, size, max(rounds, SHORT.get(what, 1)))
                row["share_of_floor"] = shares_of_floors(row, max(rates.values()), bandwidth)
                found["compared"].append(row)
                print(said(row), flush=True)
            keep(found, options.out)
        for side in sides.values():
            side.end()
    print(f"Written: {options.out / 'bench.json'} and the figure beside it.")


def keep(found: dict, folder: Path) -> None:
    """Write what is measured so far, and its figure."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = found | {"growth": found["growth"] + width_growth(found["compared"])}
    manifest.write_json(folder / "bench.json", whole)
    draw.save(whole, folder / "bench")


def said(row: dict) -> str:
    """One line of a comparison for the terminal."""
    shares = ", ".join(f"{phase} {share:.0%}" for phase, share in row["share_of_floor"].items())
    text = f"  {row['what']:7} {row['ours']:9.1f} {row['unit']}"
    if "ratio" in row:
        text += f", peer {row['peers']:.1f}: {row['ratio']:.2f}x ({row['lowest']:.2f} to {row['highest']:.2f})"
    return f"{text}; of the floor: {shares}"


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
