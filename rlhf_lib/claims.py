"""The claims of the blog post (data/claims.toml) held against what was measured (figures/*.json).

A notebook records what it measured with `record_measures`; `python -m rlhf_lib check` prints measured beside published.
The exit status is 1 only when a result leaves its recorded status, so that saying "not reproduced" costs nothing.
"""

import argparse
import math
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlhf_lib import manifest
from rlhf_lib.claims_table import as_markdown, as_text, asked
from rlhf_lib.errors import KitError

CLAIMS_FILE = manifest.ROOT / "data" / "claims.toml"
FIGURES = manifest.ROOT / "figures"
TESTS = ("order", "margin", "bound")
KINDS = ("emergent", "built_in")
STATUSES = ("reproduced", "not_reproduced", "not_measured")
RELATIONS = (">", ">=")


@dataclass(frozen=True)
class Measure:
    """A measured quantity. value is None if what was computed was not a finite number; rates are fractions of 1."""

    value: float | None
    low: float | None = None  # 95% interval
    high: float | None = None
    n: int | None = None  # prompts, pairs or contexts behind it
    seeds: int = 1
    labelers: str = "none"  # "simulated", "people", or "none" where nobody judged

    def interval(self) -> tuple[float, float]:
        """(low, high), the value itself where no interval was recorded."""
        low = self.value if self.low is None else self.low
        return low, self.value if self.high is None else self.high


@dataclass(frozen=True)
class Claim:
    """One statement. `measured` reads 'a' for a bound, 'a' or 'a - b' for a margin, 'a > b >= c' for an order.

    at_least, at_most bound the measured number; within is the greatest distance from `published`.
    interval: if True the whole 95% interval has to keep the bound, not only the value.
    seeds, contexts: with fewer seeds or different contexts behind it, a measurement can only contradict a claim.
    run_at_least, run_at_most: what a core run's one short training shows if it agrees in direction (`direction`).
    """

    id: str
    quote: str
    measured: str
    test: str
    kind: str
    status: str
    published: float | str | list | None = None
    unit: str = ""
    profile: str = "tiny"
    seeds: int = 1
    contexts: int = 0
    interval: bool = False
    at_least: float | None = None
    at_most: float | None = None
    within: float | None = None
    run_at_least: float | None = None
    run_at_most: float | None = None
    reason: str = ""
    names: list[str] = field(default_factory=list)  # read from `measured`
    relations: list[str] = field(default_factory=list)


# -- what notebooks record ---------------------------------------------------------------------------------------------


def slug(model: str) -> str:
    """A model's or task's name as measures are named: 'supervised + fine-tuned' -> supervised_fine_tuned."""
    return re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")


def finite(value) -> float | None:
    """The value as a plain finite float; None for None, NaN and infinities."""
    return None if value is None or not math.isfinite(value) else float(value)


def record_measures(
    figures_dir: str | Path, name: str, measures: dict[str, dict], run: dict[str, dict] | None = None
) -> Path:
    """Write `figures_dir/<name>.json` for `check` to read; returns its path.

    measures: {"style.sentiment.preference": {"value": 0.88, "low": …, "high": …, "n": 1024, "seeds": 3,
    "labelers": "simulated"}}, all but value optional, rates as fractions of 1. For the difference of two measures, give
    the paired one its own entry, named "a - b"; else `check` takes the two for independent. run: the same of the run's
    own trainings, where `measures` are of the recorded sweep: they have to agree in direction.
    Raises KitError for a field that is none of these.
    """
    path = Path(figures_dir) / f"{name}.json"
    manifest.write_json(path, {"measures": _checked(measures)} | ({"run": _checked(run)} if run else {}))
    return path


def _checked(measures: dict[str, dict]) -> dict[str, dict]:
    rows = {}
    for key, row in measures.items():
        unknown = set(row) - set(Measure.__dataclass_fields__)
        if unknown or "value" not in row:
            raise KitError(f"The measure '{key}' needs a value and has no field {sorted(unknown)}; correct them.")
        numbers = {part: finite(row[part]) for part in ("value", "low", "high") if part in row}
        counts = {part: int(row[part]) for part in ("n", "seeds") if row.get(part) is not None}
        rows[key] = {**numbers, **counts, **({"labelers": row["labelers"]} if "labelers" in row else {})}
    return rows


def load_measures(figures_dir: str | Path, part: str = "measures") -> dict[str, Measure]:
    """All measures in the JSON files of a folder, or with part="run" those of the run's own trainings.

    Raises KitError for a broken file or a measure recorded twice.
    """
    found, source = {}, {}
    for path in sorted(Path(figures_dir).glob("*.json")):
        if '"measures"' not in path.read_text(encoding="utf-8", errors="replace"):
            continue  # the numbers of a figure, not measures
        rows = manifest.read_json(path).get(part)
        for key, row in (rows if isinstance(rows, dict) else {}).items():
            if key in found:
                raise KitError(f"'{key}' stands in {source[key]} and in {path.name}; keep one of them.")
            try:
                values = {name: finite(row.get(name)) for name in ("value", "low", "high")}
                rest = {name: row[name] for name in ("n", "seeds", "labelers") if name in row}
                found[key], source[key] = Measure(**values, **rest), path.name
            except (TypeError, AttributeError):
                raise KitError(f"'{key}' in {path} is not a measure; write it with record_measures.") from None
    return found


# -- claims ------------------------------------------------------------------------------------------------------------


def load_claims(path: Path = CLAIMS_FILE) -> list[Claim]:
    """The claims in a TOML file, in order. Raises KitError naming the entry and what is wrong with it."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    except OSError:
        raise KitError(f"There is no claims file {path}; restore data/claims.toml.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KitError(f"{path} is not readable TOML ({error}); correct that line.") from None
    claims = [parse_claim(row, f"{path.name}, claim {number}") for number, row in enumerate(rows, 1)]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise KitError(f"{path.name} has two claims with the id '{name}'; rename one.")
    return claims


def parse_claim(row: dict, where: str) -> Claim:
    """One entry of the file, checked. Raises KitError with one sentence that begins with `where`."""
    where = f"{where} ({row.get('id', 'without id')})"
    unknown = set(row) - (set(Claim.__dataclass_fields__) - {"names", "relations"})
    missing = {"id", "quote", "measured", "test", "kind", "status"} - set(row)
    if unknown or missing:
        raise KitError(f"{where}: fields missing {sorted(missing)}, unknown {sorted(unknown)}.")
    for name, allowed in (("test", TESTS), ("kind", KINDS), ("status", STATUSES)):
        if row[name] not in allowed:
            raise KitError(f"{where}: {name} is '{row[name]}' and must be one of {', '.join(allowed)}.")
    if row["status"] == "not_reproduced" and not row.get("reason"):
        raise KitError(f"{where}: a claim that is not_reproduced needs a reason.")
    words = str(row["measured"]).split()
    names, relations = words[::2], words[1::2]
    shape = {"bound": relations == [], "margin": relations in ([], ["-"])}
    shape["order"] = bool(relations) and set(relations) <= set(RELATIONS)
    if len(names) != len(relations) + 1 or not shape[row["test"]]:
        raise KitError(f"{where}: '{row['measured']}' is not how a test of kind {row['test']} is measured.")
    bounded = any(row.get(name) is not None for name in ("at_least", "at_most", "within"))
    if bounded == (row["test"] == "order"):
        raise KitError(f"{where}: a bound or margin needs at_least, at_most or within, and an order has none of them.")
    if row.get("within") is not None and not isinstance(row.get("published"), (int, float)):
        raise KitError(f"{where}: within needs one published number to be near to.")
    return Claim(**row, names=names, relations=relations)


def pairs(prefix: str, path: Path = CLAIMS_FILE) -> list[tuple[str, str]]:
    """Measures (a, b) beginning with `prefix` that some claim holds against one another: record "a - b", paired."""
    found = [pair for claim in load_claims(path) for pair in zip(claim.names, claim.names[1:], strict=False)]
    return [(a, b) for a, b in dict.fromkeys(found) if a.startswith(prefix) and b.startswith(prefix)]


def difference(a: str, b: str, measures: dict[str, Measure]) -> Measure:
    """a − b with its 95% interval: the paired one if it was recorded, else as of independent quantities."""
    if f"{a} - {b}" in measures:
        return measures[f"{a} - {b}"]
    x, y = measures[a], measures[b]
    if x.value is None or y.value is None:
        return Measure(None)
    (x_low, x_high), (y_low, y_high), d = x.interval(), y.interval(), x.value - y.value
    down, up = math.hypot(x.value - x_low, y_high - y.value), math.hypot(x_high - x.value, y.value - y_low)
    labelers = x.labelers if x.labelers != "none" else y.labelers
    contexts = min((m.n for m in (x, y) if m.n is not None), default=None)
    return Measure(d, d - down, d + up, contexts, min(x.seeds, y.seeds), labelers)


def measured(claim: Claim, measures: dict[str, Measure]) -> bool:
    """Whether all that a claim is about was measured: its quantities, or for a margin their paired difference."""
    paired = claim.test == "margin" and " - ".join(claim.names) in measures
    return paired or all(name in measures for name in claim.names)


def enough(claim: Claim, measure: Measure) -> bool:
    """Whether a measurement has the seeds and contexts behind it that the claim asks for."""
    return measure.seeds >= claim.seeds and (measure.n or 0) >= claim.contexts


def within_bounds(claim: Claim, measure: Measure) -> bool:
    """Whether a number keeps at_least, at_most and within; by its whole interval if the claim says so."""
    around = [] if claim.within is None else [claim.published - claim.within, claim.published + claim.within]
    floor = max([bound for bound in (claim.at_least, *around[:1]) if bound is not None], default=-math.inf)
    ceiling = min([bound for bound in (claim.at_most, *around[1:]) if bound is not None], default=math.inf)
    low, high = measure.interval()
    if not enough(claim, measure):  # only an interval wholly on the wrong side contradicts
        return high >= floor and low <= ceiling
    if claim.interval:
        return floor <= low and high <= ceiling
    return floor <= measure.value <= ceiling


def in_order(claim: Claim, measures: dict[str, Measure]) -> bool:
    """Whether each '>' has a difference whose interval is above 0 and each '>=' one whose interval is not below 0."""
    for a, relation, b in zip(claim.names, claim.relations, claim.names[1:], strict=False):
        gap = difference(a, b, measures)
        low, high = gap.interval()
        strict = relation == ">" and enough(claim, gap)
        if not (low > 0 if strict else high >= 0):
            return False
    return True


def direction(claim: Claim, run: dict[str, Measure]) -> dict:
    """What the run's own training shows (`run`, a number or a list), and whether it `agrees` with the claim.

    True on the claimed side: differences above 0, or a number that keeps run_at_least and run_at_most; False if a whole
    95% interval (over contexts: it is one training) lies on the other side; None if neither, or if nothing is asked.
    """
    if not measured(claim, run):
        return {"run": None, "agrees": None}
    gaps = [difference(a, b, run) for a, b in zip(claim.names, claim.names[1:], strict=False)]
    if any(part.value is None for part in gaps or [run[claim.names[0]]]):
        return {"run": None, "agrees": None}
    if claim.test == "order":
        shown, over = [run[name].value for name in claim.names], gaps
    else:
        shown = (gaps or [run[claim.names[0]]])[0].value
        over = gaps if claim.at_least is not None and claim.at_least >= 0 else []
    sides = [(gap.value > 0, gap.interval()[1] < 0) for gap in over]
    if not gaps and (bounds := (claim.run_at_least, claim.run_at_most)) != (None, None):
        floor, ceiling = (-math.inf if bounds[0] is None else bounds[0], math.inf if bounds[1] is None else bounds[1])
        low, high = run[claim.names[0]].interval()
        sides = [(floor <= shown <= ceiling, high < floor or low > ceiling)]
    if any(wrong for _, wrong in sides):
        return {"run": shown, "agrees": False}
    return {"run": shown, "agrees": True if sides and all(right for right, _ in sides) else None}


def judge(claim: Claim, measures: dict[str, Measure], run: dict[str, Measure] | None = None) -> dict:
    """One row of claims.json: what was measured, whether the claim `holds` (None if not measured), whether it `left`;
    and whether a bound that holds is `sure`, kept by the whole 95% interval.

    Fewer seeds or contexts than the claim asks for can contradict it (the whole interval on the wrong side) but not
    establish it; `enough` says whether there were as many.
    A difference counts when its 95% interval excludes 0.
    """
    row = {
        name: getattr(claim, name) for name in ("id", "quote", "published", "test", "kind", "status", "profile", "unit")
    }
    row |= {"measured": None, "low": None, "high": None, "holds": None, "seeds": None, "labelers": None}
    row |= {"sure": None, "enough": None, "reason": claim.reason, "left": False, "asked": asked(claim)} | direction(
        claim, run or {}
    )
    if not measured(claim, measures):
        return row
    if claim.test == "order":
        parts = [measures[name] for name in claim.names]
        row |= {"measured": [m.value for m in parts], "low": [m.low for m in parts], "high": [m.high for m in parts]}
    else:
        parts = [difference(*claim.names, measures) if len(claim.names) == 2 else measures[claim.names[0]]]
        row |= {"measured": parts[0].value, "low": parts[0].low, "high": parts[0].high}
    gaps = [difference(a, b, measures) for a, b in zip(claim.names, claim.names[1:], strict=False)]
    judged = gaps if claim.test == "order" else parts  # a reference has no seed, its distance from a model has
    row["seeds"] = min(part.seeds for part in judged)
    row["enough"] = all(enough(claim, part) for part in judged)
    row["labelers"] = next((part.labelers for part in parts if part.labelers != "none"), "none")
    if any(part.value is None for part in parts):
        row["holds"], row["reason"] = False, "what was measured is not a finite number"
    else:
        row["holds"] = in_order(claim, measures) if claim.test == "order" else within_bounds(claim, parts[0])
        if claim.test != "order" and row["holds"]:
            row["sure"] = within_bounds(replace(claim, interval=True), parts[0])
    return row


def has_left(row: dict, claim: Claim, whole: bool) -> bool:
    """Whether a result contradicts the status that is recorded for it."""
    if claim.status == "reproduced":
        return row["holds"] is False or row["agrees"] is False or (whole and row["holds"] is None)
    if claim.status == "not_reproduced":
        return row["holds"] is True and row["enough"]
    return False  # not_measured: there was no result to leave


# -- the check ---------------------------------------------------------------------------------------------------------


def check(
    figures_dir: Path, profile: str, claims_file: Path = CLAIMS_FILE, whole: bool = True
) -> tuple[int, list[dict]]:
    """Print the table, write claims.md and claims.json into the folder; (1 if a result left its status else 0, rows).

    whole: the folder should hold everything, so that a reproduced claim without a measurement has left its status.
    A claim recorded for another profile is shown and not judged.
    """
    measures, run = load_measures(figures_dir), load_measures(figures_dir, "run")
    rows = []
    for claim in load_claims(claims_file):
        row = judge(claim, measures, run)
        rows.append({**row, "left": claim.profile == profile and has_left(row, claim, whole)})
    print(as_text(rows))
    manifest.write_json(Path(figures_dir) / "claims.json", rows)
    manifest.write_text(Path(figures_dir) / "claims.md", as_markdown(rows, profile))
    left = [row["id"] for row in rows if row["left"]]
    count = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    print("\n" + ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in count.items()) + " (recorded).")
    news = [row["id"] for row in rows if row["status"] == "not_measured" and row["holds"] is not None]
    if news:
        print(f"Measured here and not recorded yet: {len(news)} ({', '.join(news[:5])}{', …' * (len(news) > 5)}).")
    if left:
        print(f"Left their recorded status: {', '.join(left)}; correct what broke, or record the new status with why.")
    return (1 if left else 0), rows


def main(argv: list[str]) -> int:
    """`check [--profile tiny] [--figures DIR]`: exit status 1 if a result left its recorded status."""
    parser = argparse.ArgumentParser(prog="rlhf_lib check", description=__doc__)
    parser.add_argument("--profile", default="tiny", help="the profile that made the numbers (default: tiny)")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="a run's figures (default: figures/)")
    parser.add_argument("--claims", type=Path, default=CLAIMS_FILE, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not options.figures.is_dir():
        raise KitError(f"There is no folder {options.figures}; `make reproduce` and `make figures` make it.")
    return check(options.figures, options.profile, options.claims)[0]
