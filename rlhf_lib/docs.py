"""The parts of README.md and docs/ that are made from the kit itself: `python -m rlhf_lib docs` writes them again.

They stand between `<!-- begin NAME … -->` and `<!-- end NAME -->`; all other text is written by hand and stays.
A test holds the committed pages against what this module would write.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rlhf_lib import claims_table, manifest
from rlhf_lib.errors import KitError
from rlhf_lib.metrics import METRICS

# The claims that README shows; all of them stand in figures/claims.md.
HEADLINES = (
    "style.sentiment.preference",
    "style.descriptiveness.preference",
    "novelty.cnndm.order",
    "novelty.tldr.order",
    "accuracy.cnndm.order",
    "accuracy.tldr.order",
    "copying.cnndm.all",
    "copying.cnndm.with",
    "copying.tldr.all",
    "copying.tldr.with",
    "labelers.cnndm.fine_tuned_over_reference",
    "labelers.tldr.fine_tuned_over_reference",
    "labelers.cnndm.lead_3_over_fine_tuned",
    "rouge.cnndm",
    "collect.online",
    "collect.online_lead",
    "collect.batched",
    "known.overoptimised",
    "signflip.bad",
    "signflip.fluent",
    "andon.latency",
)
COLUMNS = ("published", "measured (95%)", "test", "now", "this run", "kind", "seeds, labelers")  # of claims_table
COPY_MAP = "09_copy_map"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def metric_part(root: Path) -> str:
    """The metric table of `metrics.METRICS`, which the notebooks print too."""
    rows = [[f"`{m.name}`", m.meaning, m.healthy, m.sick] for m in METRICS]
    return table(["metric", "meaning", "healthy", "what a sick one looks like"], rows)


def claims_part(root: Path) -> str:
    """The headline claims, and how many of all hold. Raises KitError if figures/claims.json cannot be used."""
    path = root / "figures" / "claims.json"
    try:
        rows = {row["id"]: row for row in json.loads(path.read_text(encoding="utf-8"))}
        shown = [rows[name] for name in HEADLINES]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise KitError(f"{path} does not hold the claims ({error!r}); `make check` writes it again.") from None
    places = [claims_table.HEADINGS.index(column) for column in COLUMNS]
    body = []
    for row in shown:
        cells, why = claims_table.cells(row), f" *({row['reason']})*" if row["reason"] else ""
        body.append([row["quote"] + why, *(cells[place] for place in places)])
    count = Counter(map(claims_table.now, rows.values()))
    said = f"All {len(rows)} claims stand in [figures/claims.md](figures/claims.md). Holding in the figures of this "
    said += f"copy: {count['holds'] + count['holds, not surely']}, {count['holds, not surely']} of them not surely; "
    said += f"not contradicted, with too few seeds or contexts to hold: {count['not contradicted']}; "
    said += f"not holding: {count['does not hold']}; not measured: {count['not measured']}."
    return table(["claim", *COLUMNS], body) + "\n\n" + said


def copy_map_part(root: Path) -> str:
    """The copy map, where a full run has drawn one."""
    picture = root / "figures" / f"{COPY_MAP}.png"
    if not picture.is_file():
        return "*(The copy map of notebook 09 stands here once a full run's figures are recorded.)*"
    words = picture.with_suffix(".alt.txt").read_text(encoding="utf-8").strip()
    return f"![{words}](figures/{picture.name})"


def said_of(path: Path, words: Callable[[dict], str], remedy: str) -> str:
    """What ``words`` makes of a JSON file. Raises KitError, which names the file and the remedy, if it cannot."""
    try:
        return words(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise KitError(f"{path} cannot be read ({error!r}); {remedy}.") from None


def memory_part(root: Path) -> str:
    """Peak memory of PPO on gpt2-large, as far as it is known without a GPU."""

    def words(found: dict) -> str:
        each = [f"{row['gb']:.1f} GB ({row['task']}, micro-batches of {row['micro_batch']})" for row in found["rows"]]
        return f"Peak memory of PPO on {found['size']}, {found['status']} (`{found['command']}`): {', '.join(each)}."

    path = root / "figures" / "gpu_memory_accounted.json"
    return said_of(path, words, "make it with tests/benchmarks/accounted_memory.py")


def time_part(root: Path) -> str:
    """How long the run took whose figures are committed. Raises KitError if its manifest is damaged."""
    path = root / "figures" / "run.json"
    if not path.is_file():
        return "*(How long a run takes stands here once `make figures` has copied one.)*"

    def words(record: dict) -> str:
        spent = sorted(((row["seconds"] / 60, row["notebook"][:2]) for row in record["notebooks"]), reverse=True)
        (longest, name), (second, other) = spent[:2]
        return (
            f"The run whose figures are committed took {sum(minutes for minutes, _ in spent):.0f} minutes on "
            f"{record['machine']['cores']} cores: notebook {name} {longest:.0f}, then {other} with {second:.0f}."
        )

    return said_of(path, words, "`make figures` writes it again")


WORK = {  # rows of bench.json: what, and the peer's
    "phases": "PPO (TRL's PPOTrainer)",
    "sample": "sampling one response a query, as for PPO (`generate`)",
    "four": "sampling four a query, as for labelers (`generate`)",
    "fit": "reward fitting (TRL's RewardTrainer)",
    "score": "scoring (transformers)",
}


def work_of(row: dict) -> str:
    """A row of bench.json in words, with both sides' micro-batches where they were chosen."""
    micro = row.get("micro_batch")
    return WORK[row["what"]] + (f", micro-batches of {micro['ours']} beside {micro['peers']}" if micro else "")


def speed_part(root: Path) -> str:
    """The kit's rates beside its peers', where `make bench` has been run. Raises KitError if its file is damaged."""
    path = root / "figures" / "bench.json"
    if not path.is_file():
        return "*(Rates beside TRL's and transformers' stand here once `make bench` has been run.)*"

    def words(found: dict) -> str:
        machine, work, rows = found["machine"], found["work"], [row for row in found["compared"] if "ratio" in row]
        head = ["model (layers x width)", "work", "the kit", "the peer", "times as fast (range)", "turns",
                "share of the floor"]  # fmt: skip
        body = [[row["size"], work_of(row), f"{row['ours']:,.1f} {row['unit']}",
                 f"{row['peers']:,.1f}", f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})",
                 str(row["turns"]), f"{row['share_of_floor']['all']:.0%}"] for row in rows]  # fmt: skip
        versions = machine["versions"]["peers"].items()
        peers = ", ".join(f"{name} {version}" for name, version in versions if name != "torch")
        return table(head, body) + (
            f"\n\nBoth sides in turns on {machine['cpu']}, {machine['threads']} threads, {work['dtype']}, vocabulary "
            f"of {work['vocabulary']:,}; PPO at each side's best micro-batch; the peers are {peers}; "
            "the floor is arithmetic at the measured matrix rate and nothing else."
        )

    return said_of(path, words, "make it with `make bench`")


# page: {name of the part: what makes it from the repository's root}
PARTS: dict[str, dict[str, Callable[[Path], str]]] = {
    "README.md": {
        "claims": claims_part,
        "copy-map": copy_map_part,
        "memory": memory_part,
        "speed": speed_part,
        "time": time_part,
    },
    "docs/glossary.md": {"metrics": metric_part},
}


def with_part(text: str, name: str, part: str, where: str = "the page") -> str:
    """The text with `part` between the markers of `name`. Raises KitError unless both markers stand there once."""
    between = re.compile(rf"(<!-- begin {name}\b[^>]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if len(between.findall(text)) != 1:
        raise KitError(f"{where} needs one '<!-- begin {name} -->' and an '<!-- end {name} -->' after it.")
    return between.sub(lambda found: f"{found[1]}\n{part}\n\n{found[2]}", text)


def pages(root: Path = manifest.ROOT) -> dict[Path, tuple[str, str]]:
    """Each page with made parts: (text as it is, as it should be). Raises KitError for a page that is not there."""
    found = {}
    for name, parts in PARTS.items():
        path = root / name
        try:
            old = new = path.read_text(encoding="utf-8")
        except OSError as error:
            raise KitError(f"{path} cannot be read ({error.strerror}); restore it.") from None
        for part, make in parts.items():
            new = with_part(new, part, make(root), name)
        found[path] = old, new
    return found


def main(argv: list[str]) -> int:
    """`docs [--check]`: write the made parts of README.md and docs/; --check: only say (1) what is out of date."""
    parser = argparse.ArgumentParser(prog="rlhf_lib docs", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is out of date")
    parser.add_argument("--root", type=Path, default=manifest.ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    stale = {path: new for path, (old, new) in pages(options.root).items() if old != new}
    for path, new in stale.items():
        if not options.check:
            manifest.write_text(path, new)
        print(f"{path.relative_to(options.root)}: {'out of date, run `make docs`' if options.check else 'written'}.")
    if not stale:
        print("The made parts of README.md and docs/ are up to date.")
    return int(options.check and bool(stale))
