"""`python -m rlhf_lib analyse`: exact fields, nulls where nothing was counted, one sentence for bad input, no torch."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.analysis import cli, report
from rlhf_lib.errors import KitError
from rlhf_lib.samples import read_samples, samples_frame, write_samples

FIELDS = {
    "task",
    "model",
    "sentence_novelty",
    "ngram_novelty",
    "copies_start",
    "n_preamble",
    "copies_start_without_preamble",
    "copies_start_with_preamble",
    "rouge1",
    "rouge2",
    "rougeL",
    "lead3_rouge1",
    "lead3_rouge2",
    "lead3_rougeL",
    "n",
}
ARTICLE = "The old mill burned down today. Nobody was hurt there. Police look for the owner. He is away."
ROWS = [
    {
        "task": "cnndm",
        "model": "copier",
        "query": ARTICLE,
        "reference": "A mill has burned down. No one was hurt.",
        "response": "The old mill burned down today.",
    },
    {
        "task": "cnndm",
        "model": "copier",
        "query": f"WEATHER: {ARTICLE}",
        "reference": "A mill burned.",
        "response": "Nobody was hurt there.",
    },
    {"task": "my-task", "model": "silent", "query": ARTICLE, "reference": None, "response": "Yes."},
]


def analysed(tmp_path, rows, *options):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert cli.main([str(path), "--out", str(tmp_path / "out"), *options]) == 0
    return json.loads((tmp_path / "out" / "analysis.json").read_text())


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The analysis of ROWS, made once."""
    folder = tmp_path_factory.mktemp("analysis")
    analysed(folder, ROWS)
    return folder / "out"


def objects_of(rows):
    """What analysis.json would hold, a model's object by its name, without drawing a figure."""
    return {o["model"]: o for o in report.analyse(samples_frame(rows)).objects}


def test_analysis_has_exactly_its_fields_and_null_where_nothing_was_counted(out):
    copier, silent = json.loads((out / "analysis.json").read_text())
    assert set(copier) == set(silent) == FIELDS
    assert (copier["task"], copier["model"], copier["n"]) == ("cnndm", "copier", 2)
    assert copier["sentence_novelty"] == 0 and copier["ngram_novelty"] == {"1": 0, "2": 0, "3": 0, "4": 0}
    assert (copier["copies_start"], copier["n_preamble"]) == (0.5, 1)
    assert (copier["copies_start_without_preamble"], copier["copies_start_with_preamble"]) == (1, 0)
    assert 0 < copier["rouge2"] < copier["rouge1"] < 1 and 0 < copier["lead3_rouge1"] < 1
    assert (silent["copies_start"], silent["n"], silent["ngram_novelty"]["1"]) == (0, 1, 1)
    nulls = {
        "sentence_novelty",
        "n_preamble",
        "copies_start_without_preamble",
        "copies_start_with_preamble",
        "rouge1",
        "rouge2",
        "rougeL",
        "lead3_rouge1",
        "lead3_rouge2",
        "lead3_rougeL",
    }
    assert {field for field in FIELDS if silent[field] is None} == nulls
    assert silent["ngram_novelty"]["2"] is None


def test_tables_and_figures_stand_beside_it(out):
    assert set(pd.read_csv(out / "novelty.csv")["model"]) == {"copier", "silent", "reference", "lead-3"}
    for figure in ("novelty", "copy_start", "copy_map", "copy_density", "rouge"):
        for ending in (".png", ".svg", ".alt.txt"):
            assert (out / "figures" / f"{figure}{ending}").stat().st_size > 0
    assert "sentence_novelty" in (out / "README.md").read_text()
    assert not [p for p in out.rglob(".*")]


def test_parquet_gives_the_same_as_json_lines(out, tmp_path):
    path = write_samples(samples_frame(ROWS), tmp_path / "rows.parquet")
    objects = report.analyse(read_samples(path)).objects
    assert objects == json.loads((out / "analysis.json").read_text())


def test_references_and_lead3_among_the_samples_are_models_like_others():
    rows = [*ROWS, ROWS[0] | {"model": "lead-3", "response": "My own lead."}, ROWS[0] | {"model": "reference"}]
    objects = objects_of(rows)
    assert objects["lead-3"]["n"] == 1 and objects["lead-3"]["sentence_novelty"] == 1
    assert objects["reference"]["rouge1"] is None


def test_lead3_is_that_of_the_models_own_queries():
    other = ROWS[0] | {"model": "other", "query": "Rain. Sun. Snow.", "reference": "rain sun snow", "response": "rain"}
    objects = objects_of([*ROWS, other])
    assert objects["other"]["lead3_rouge1"] == 1 and objects["copier"]["lead3_rouge1"] < 0.6


def test_judgements_add_an_estimate_and_its_agreement(tmp_path, capsys):
    random = np.random.default_rng(0)
    lines = []
    for i in range(60):
        source = " ".join(f"w{k}" for k in random.integers(0, 300, 40))
        words = source.split()[:8] if i % 2 else [f"x{k}" for k in range(8)]
        lines.append(json.dumps({"source": source, "summary": " ".join(words), "label": i % 2, "dataset": "made-up"}))
    path = tmp_path / "judgements.jsonl"
    path.write_text("\n".join(lines))
    analysed(tmp_path, ROWS, "--judgements", str(path))
    assert pd.read_csv(tmp_path / "out" / "accuracy_agreement.csv")["auc"][0] == 1
    assert len(pd.read_csv(tmp_path / "out" / "accuracy_estimate.csv")) == 2
    assert "copier" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "row 1 is not a line of JSON"),
        ("[]", "not a JSON object"),
        ('{"source": 1}', "'source' must be a text"),
        ('{"source": "a", "summary": "b", "label": 2}', "'label' must be 1"),
        ("", "no judgement"),
    ],
)
def test_bad_judgements_are_named(tmp_path, line, words):
    path = tmp_path / "judgements.jsonl"
    path.write_text(line)
    with pytest.raises(KitError, match=words):
        cli.read_judgements(str(path))


@pytest.mark.parametrize("argv", [[], ["a.jsonl", "b.jsonl"], ["a.jsonl", "--nothing"], ["missing.jsonl"]])
def test_bad_arguments_end_in_one_sentence(argv):
    with pytest.raises(KitError, match=r"analyse:|There is no file"):
        cli.main(argv)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    path = write_samples(ROWS, tmp_path / "rows.jsonl")
    with pytest.raises(KitError, match="cannot be written"):
        cli.main([str(path), "--out", str(tmp_path / "file" / "out")])


def test_the_command_runs_without_torch(tmp_path):
    path = write_samples(ROWS, tmp_path / "rows.jsonl")
    program = (
        "import sys\n"
        "from rlhf_lib.__main__ import main\n"
        "status = main(sys.argv[1:]); assert status == 0, status\n"
        "assert main(['analyse', 'none.jsonl']) == 2\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "analyse", str(path), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "There is no file none.jsonl" in done.stderr and "Traceback" not in done.stderr
