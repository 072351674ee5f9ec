"""`python -m rlhf_lib analyse SAMPLES [--out DIR] [--judgements FILE]`: the post's analyses of anybody's summaries."""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import pandas as pd

from rlhf_lib.analysis import estimate, report
from rlhf_lib.errors import KitError
from rlhf_lib.samples import FORMATS, read_samples


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise KitError(f"analyse: {message}; see python -m rlhf_lib analyse --help.")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m rlhf_lib analyse",
        description="Novelty, copying and ROUGE of any model's summaries, without torch.",
    )
    parser.add_argument("samples", help=f"rows task, model, query, reference, response ({', '.join(FORMATS)})")
    parser.add_argument("--out", help="folder for analysis.json, tables and figures (default: NAME-analysis here)")
    parser.add_argument(
        "--judgements",
        help="human accuracy judgements, rows source, summary, label 0 or 1 "
        "(.jsonl or .jsonl.gz): adds an automatic accuracy estimate fitted to them",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Analyse one file of samples; 0 when everything was written. Bad input raises KitError."""
    arguments = _arguments(argv)
    samples = read_samples(arguments.samples)
    judgements = read_judgements(arguments.judgements) if arguments.judgements else None
    name = Path(arguments.samples).name
    for ending in sorted(FORMATS, key=len, reverse=True):
        name = name.removesuffix(ending)
    analysis = report.analyse(samples)
    out = report.write_analysis(analysis, arguments.out or f"{name}-analysis")
    print(report.summary_text(analysis))
    if judgements is not None:
        _write_estimate(samples, judgements, out)
    print(f"\nWritten to {out}/ (README.md there says what each number means).")
    return 0


def _write_estimate(samples: pd.DataFrame, judgements: pd.DataFrame, out: Path) -> None:
    """The automatic accuracy estimate and its agreement with people, as tables and on the terminal."""
    fitted = estimate.fit_estimate(judgements)
    table, agreement = estimate.estimate_accuracy(samples, fitted), fitted.validation
    try:
        table.to_csv(out / "accuracy_estimate.csv", index=False, float_format="%.6g")
        agreement.to_csv(out / "accuracy_agreement.csv", index=False, float_format="%.6g")
    except OSError as error:
        raise KitError(f"{out} cannot be written ({error}): choose another folder with --out.") from error
    print(f"\nAutomatic accuracy estimate ({fitted.method}):")
    print(table.drop(columns="method").round(3).to_string(index=False))
    print("\nIts agreement with people, held out by document, on the sets it was fitted to (elsewhere it is unknown):")
    print(agreement.round(3).to_string(index=False))


def read_judgements(path: str) -> pd.DataFrame:
    """Human accuracy judgements: columns `source, summary, label` (0 or 1), and `dataset, level` where given.

    Raises KitError that names the file, the row and the field.
    """
    rows = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line)
                _check_judgement(row, f"{path}, row {number}")
                rows.append(
                    {field: row[field] for field in ("source", "summary", "label", "dataset", "level") if field in row}
                )
    except (OSError, EOFError) as error:
        raise KitError(f"The judgements {path} cannot be read ({error}).") from error
    except ValueError as error:
        raise KitError(f"{path}, row {len(rows) + 1} is not a line of JSON in UTF-8: {error}.") from error
    if not rows:
        raise KitError(f"{path} has no judgement in it.")
    return pd.DataFrame(rows)


def _check_judgement(row, where: str) -> None:
    if not isinstance(row, dict):
        raise KitError(f"{where} is not a JSON object.")
    for field in ("source", "summary"):
        if not isinstance(row.get(field), str):
            raise KitError(f"{where}: '{field}' must be a text.")
    if row.get("label") not in (0, 1):
        raise KitError(f"{where}: 'label' must be 1 (accurate) or 0.")
