"""The benchmarks that need no model: alignments of summaries with sources, the label store, the notebooks' times."""

from __future__ import annotations

import difflib
import json
import random
import tempfile
from pathlib import Path

from work import timed

from rlhf_lib import manifest
from rlhf_lib.analysis.copying import lcs_positions
from rlhf_lib.labels import LabelSession, LabelStore

SOURCE, SUMMARY = 700, 70  # words, as CNN/DM's articles and the summaries of them


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Sources and summaries as strings of coded words; half of a summary is copied in runs of seven."""
    draw, made = random.Random(seed), []
    for _ in range(count):
        source = "".join(chr(256 + draw.randrange(5_000)) for _ in range(SOURCE))
        runs = []
        for _ in range(SUMMARY // 14):
            start = draw.randrange(SOURCE - 7)
            runs += [source[start : start + 7], "".join(chr(256 + draw.randrange(5_000)) for _ in range(7))]
        made.append((source, "".join(runs)))
    return made


def lcs_by_table(source: str, summary: str) -> int:
    """The length of a longest common subsequence by the quadratic table, in plain Python."""
    row = [0] * (len(summary) + 1)
    for letter in source:
        before = 0
        for i, other in enumerate(summary, 1):
            before, row[i] = row[i], before + 1 if letter == other else max(row[i], row[i - 1])
    return row[-1]


def difflib_matches(source: str, summary: str) -> int:
    """Matched elements by difflib, which looks for long runs and not for the longest subsequence."""
    matcher = difflib.SequenceMatcher(None, source, summary, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())


def lcs_pairs_a_second(count: int) -> dict[str, float]:
    """Pairs a second of the kit's alignment, of the plain table and of difflib; the first two must agree."""
    made = pairs(count)
    few = made[: max(1, count // 50)]
    if any(len(lcs_positions(*pair)) != lcs_by_table(*pair) for pair in few):
        raise SystemExit("The kit's alignment and the quadratic table disagree.")
    return {
        "kit": count / timed(lambda: [lcs_positions(*pair) for pair in made]),
        "plain Python": len(few) / timed(lambda: [lcs_by_table(*pair) for pair in few]),
        "difflib": len(few) / timed(lambda: [difflib_matches(*pair) for pair in few]),
    }


def labels_a_second(count: int) -> float:
    """Labels a second through a session on a SQLite file: the next comparison given, shown, answered and kept."""
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(f"sqlite:///{folder}/labels.sqlite")
        items = [{"query": f"Query {i}.", "samples": [f"Sample {i}{k}." for k in "abcd"]} for i in range(count)]
        store.add_items("bench", items)
        session = LabelSession(store, "ana", "bench")

        def label() -> None:
            while session.current() is not None:
                session.answer(1)

        seconds = timed(label)
        kept = len(store.labels_frame("bench"))
        store.close()
    if kept != count:
        raise SystemExit(f"The store kept {kept} of {count} labels.")
    return count / seconds


def notebook_seconds(profile: str = "tiny") -> dict | None:
    """Seconds of each notebook in the newest complete run of a profile, from its manifest; None without such a run.

    What a notebook took from the cache was not made again, so its time is not that of a fresh clone: `reused` says so.
    """
    runs = []
    for path in manifest.runs_folder().glob("*/manifest.json"):
        record = json.loads(path.read_text())
        if record.get("status") == "complete" and record.get("parameters", {}).get("profile") == profile:
            runs.append((record.get("started", ""), Path(path).parent.name, record))
    if not runs:
        return None
    _, name, record = max(runs)
    rows = [{"notebook": r["notebook"], "seconds": r["seconds"], "reused": len(r["reused"])}
            for r in record["notebooks"]]  # fmt: skip
    return {"run": name, "profile": profile, "seconds": sum(r["seconds"] for r in rows), "notebooks": rows}
