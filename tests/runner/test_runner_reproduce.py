"""The runner on notebooks written here: order, failures, parameters, parts of a run, and a clean tree."""

import json
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from rlhf_lib import __main__ as cli
from rlhf_lib import manifest, notebook_rules, reproduce
from rlhf_lib.errors import KitError
from rlhf_lib.parameters import named_values

PARAMETERS = 'profile = "smoke"\nrun_dir = ""\nseeds = 1\nlevel = 3  # this notebook\'s own'
KEEP = (
    "import json\nfrom pathlib import Path\n"
    'Path(run_dir, "figures", f"{name}.json").write_text(json.dumps([profile, seeds, level]))'
)


def notebook(path, *cells, parameters=PARAMETERS):
    """A notebook with a title, a parameters cell, a name, and the code cells given."""
    book = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    book.cells = [new_markdown_cell("# A lesson"), tagged, new_code_cell(f'name = "{path.stem}"')]
    book.cells += [new_code_cell(cell) for cell in cells]
    nbformat.write(book, path)


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """An empty folder of notebooks, and runs of its own."""
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


def run(kit, *words):
    return reproduce.main(["--profile", "smoke", "--jobs", "1", "--notebooks", str(kit), *words])


def runs():
    return [folder for folder, _ in reproduce.known_runs()]


def record(folder):
    return json.loads((folder / "manifest.json").read_text())


CACHED = (
    "from rlhf_lib import manifest\n"
    'path = manifest.cached(run_dir, "samples/x.txt", {"level": level}, lambda p: p.write_text("x" * level))'
)


def test_a_whole_run_then_parts_of_it(kit, capfd):
    for number in ("00", "03", "04"):
        notebook(kit / f"{number}_lesson.ipynb", KEEP, *([CACHED] if number == "04" else []))
    before = {path: path.read_bytes() for path in kit.iterdir()}

    assert run(kit, "--seeds", "2") == 0
    (first,) = runs()
    said, warned = capfd.readouterr()
    assert "WARNING" not in warned  # kernels' warnings about themselves
    assert said.index("00_lesson") < said.index("03_lesson") < said.index("04_lesson: ")
    assert "1 made, 0 not made again" in said
    assert [json.loads((first / f"figures/{n}_lesson.json").read_text()) for n in ("00", "04")] == [["smoke", 2, 3]] * 2
    assert (first / "samples/x.txt").read_text() == "xxx"
    kept = record(first)
    assert kept["status"] == "complete" and kept["parameters"]["seeds"] == 2 and kept["versions"]["python"]
    assert [row["notebook"][:2] for row in kept["notebooks"]] == ["00", "03", "04"]
    assert kept["notebooks"][2]["made"] == ["samples/x.txt"] and kept["notebooks"][0]["seconds"] > 0
    assert (first / "figures/claims.json").exists() and (first / "figures/claims.md").exists()

    # a part goes on with the newest run alike, and does not make again what is there
    assert run(kit, "--seeds", "2", "--from", "4") == 0
    assert runs() == [first] and record(first)["status"] == "complete"
    assert "0 made, 1 not made again (inputs unchanged)" in capfd.readouterr().out
    # other parameters are another run, and its models and samples are made of other inputs
    assert run(kit, "--only", "04", "-p", "level=5") == 0
    second = runs()[-1]
    assert second != first and record(second)["status"] == "partial"
    assert (second / "samples/x.txt").read_text() == "xxxxx" and (first / "samples/x.txt").read_text() == "xxx"

    assert {path: path.read_bytes() for path in kit.iterdir()} == before, "nothing is written into notebooks/"
    executed = json.loads((first / "notebooks/04_lesson.ipynb").read_text())
    assert [cell["execution_count"] for cell in executed["cells"] if cell["cell_type"] == "code"] == [1, 2, 3, 4, 5]


def test_it_stops_at_the_first_failure_naming_notebook_cell_and_exception(kit, capsys):
    notebook(kit / "00_good.ipynb", KEEP)
    notebook(kit / "01_bad.ipynb", "ok = 1", "\nloss = 1 / 0\nprint(loss)")
    notebook(kit / "02_never.ipynb", KEEP)
    status = cli.main(["reproduce", "--profile", "smoke", "--jobs", "1", "--notebooks", str(kit)])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2
    assert error.startswith("01_bad.ipynb stopped at cell 4 (`loss = 1 / 0`): ZeroDivisionError: division by zero")
    (folder,) = runs()
    assert (folder / "notebooks/01_bad.ipynb").exists() and not (folder / "notebooks/02_never.ipynb").exists()
    kept = record(folder)
    assert kept["status"] == "failed" and [row["status"] for row in kept["notebooks"]] == ["complete", "failed"]
    assert list((folder / "figures").iterdir()) == [folder / "figures/00_good.json"]


MEET = (  # each waits for the other's file: they end only if they run at the same time
    "import time\n"
    "Path(run_dir, name).touch()\nuntil = time.time() + 60\n"
    'while len(list(Path(run_dir).glob("0?_lesson"))) < 2 and time.time() < until:\n    time.sleep(0.05)\n'
    "assert time.time() < until"
)


def test_two_at_a_time_meet_and_each_is_told_what_it_made(kit):
    for number, level in (("00", 3), ("01", 4)):
        notebook(
            kit / f"{number}_lesson.ipynb", KEEP, f"level = {level}", CACHED.replace("x.txt", f"{number}.txt"), MEET
        )
    notebook(kit / "02_last.ipynb", KEEP)
    assert reproduce.main(["--profile", "smoke", "--notebooks", str(kit)]) == 0  # smoke: two, without being asked
    rows = record(*runs())["notebooks"]
    assert [row["made"] for row in rows] == [["samples/00.txt"], ["samples/01.txt"], []]
    assert [row["status"] for row in rows] == ["complete"] * 3 and record(*runs())["status"] == "complete"


UNTIL_FAILED = """import pathlib, time
deadline, file = time.monotonic() + 60, pathlib.Path("../manifest.json")
while time.monotonic() < deadline and not (file.exists() and '"failed"' in file.read_text()):
    time.sleep(0.05)"""


def test_a_failure_beside_others_stops_the_run(kit, capsys):
    notebook(kit / "00_bad.ipynb", "loss = 1 / 0")
    for number in range(1, 6):  # each is at work until the failure is told, however slow the machine
        notebook(kit / f"0{number}_slow.ipynb", KEEP, UNTIL_FAILED)
    assert cli.main(["reproduce", "--profile", "smoke", "--jobs", "2", "--notebooks", str(kit)]) == 2
    assert (
        capsys.readouterr().err.strip().splitlines()[-1].startswith("00_bad.ipynb stopped at cell 3 (`loss = 1 / 0`)")
    )
    (folder,) = runs()
    rows = {row["notebook"]: row["status"] for row in record(folder)["notebooks"]}
    assert rows == {"00_bad.ipynb": "failed", "01_slow.ipynb": "complete"}, "what ran beside it is kept, no other begun"
    assert record(folder)["status"] == "failed" and len(list((folder / "notebooks").glob("*.ipynb"))) == 2
    with pytest.raises(KitError, match="--jobs 0 would run no notebook"):
        run(kit, "--jobs", "0")


def test_the_kits_own_error_and_a_dead_process_are_told_too(kit):
    notebook(kit / "00_sick.ipynb", 'from rlhf_lib.errors import KitError\nraise KitError("Set MODEL to a folder.")')
    with pytest.raises(KitError, match=r"cell 3 .*KitError: Set MODEL to a folder\."):
        run(kit)
    notebook(kit / "00_sick.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(KitError, match=r"00_sick\.ipynb: its Python process died"):
        run(kit)


def test_a_truncated_checkpoint_stops_the_run(kit):
    torch = pytest.importorskip("torch")
    from rlhf_lib import checkpoint

    folder = manifest.run_folder(manifest.runs_folder() / "one") / "models" / "ppo"
    file = checkpoint.save(folder, {"w": torch.zeros(1000)})
    file.write_bytes(file.read_bytes()[:1000])
    code = (
        'from pathlib import Path\nfrom rlhf_lib import checkpoint\ncheckpoint.load(Path(run_dir) / "models" / "ppo")'
    )
    notebook(kit / "00_train.ipynb", code)
    with pytest.raises(KitError, match=r"00_train\.ipynb stopped at cell 3 .*state\.pt' is damaged"):
        run(kit, "--run", "one")
    assert file.stat().st_size == 1000, "nothing that was saved is touched"


# -- what is refused before anything is run ---------------------------------------------------------------------------


def test_wrong_parameters(kit):
    notebook(kit / "00_lesson.ipynb", KEEP)
    with pytest.raises(KitError, match=r"parameter 'levle'; there are level, profile, run_dir, seeds"):
        run(kit, "-p", "levle=5")
    with pytest.raises(KitError, match="not of the form name=value"):
        run(kit, "-p", "level")
    assert runs() == []


def test_extra_parameters_are_literals_or_strings():
    found = named_values(["a=3", "b=1e-3", "c=some text", "d=[1, 2]", "e=", "f=True"])
    assert found == {"a": 3, "b": 1e-3, "c": "some text", "d": [1, 2], "e": "", "f": True}


def test_a_notebook_gets_only_what_it_declares():
    names = {"00": {"profile", "seeds"}, "01": {"profile", "level"}}
    given = reproduce.parameters_of(names, {"profile": "tiny", "seeds": None, "model": "m"}, {"level": 2})
    assert given == {"00": {"profile": "tiny"}, "01": {"profile": "tiny", "level": 2}}


@pytest.mark.parametrize(
    ("only", "start", "wanted"),
    [
        (None, None, "00 03 04 11"),
        ("04", None, "04"),
        ("4,3", None, "03 04"),
        (None, "03", "03 04 11"),
        ("03,11", "4", "11"),
    ],
)
def test_selection(kit, only, start, wanted):
    for number in ("11", "04", "00", "03"):
        notebook(kit / f"{number}_lesson.ipynb")
    assert [path.name[:2] for path in reproduce.select(kit, only, start)] == wanted.split()


@pytest.mark.parametrize(("only", "start"), [("07", None), (None, "12"), ("00", "03")])
def test_a_selection_of_nothing(kit, only, start):
    for number in ("00", "03"):
        notebook(kit / f"{number}_lesson.ipynb")
    with pytest.raises(KitError, match="There is no notebook|leave no notebook"):
        reproduce.select(kit, only, start)


def test_no_notebooks_and_damaged_notebooks(kit):
    with pytest.raises(KitError, match="no notebooks"):
        run(kit)
    (kit / "00_lesson.ipynb").write_text('{"cells": [')
    with pytest.raises(KitError, match="not a readable notebook"):
        run(kit)


def test_missing_and_damaged_models_and_corpora(kit, tmp_path):
    notebook(kit / "00_lesson.ipynb", KEEP)
    with pytest.raises(KitError, match=r"no model folder /nowhere/model"):
        run(kit, "--model", "/nowhere/model")
    with pytest.raises(KitError, match=r"no corpus books\.jsonl"):
        run(kit, "--corpus", "books.jsonl")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "model/model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00cut")
    with pytest.raises(KitError, match=r"model\.safetensors is damaged or cut short"):
        run(kit, "--model", str(tmp_path / "model"))
    assert runs() == []
    assert reproduce.check_inputs("gpt2", None) == {} == reproduce.check_inputs("org/name", None), "names on the hub"


def test_a_named_run_keeps_its_parameters(kit, tmp_path):
    folder = manifest.run_folder(manifest.runs_folder() / "mine")
    manifest.write_json(folder / "manifest.json", {"parameters": {"profile": "tiny"}, "inputs": {}})
    notebook(kit / "00_lesson.ipynb", KEEP)
    with pytest.raises(KitError, match="made with other parameters"):
        run(kit, "--run", "mine")
    for name in ("../x", "cache"):
        with pytest.raises(KitError, match="no name for a run"):
            run(kit, "--run", name)


# -- figures, hygiene, command line -----------------------------------------------------------------------------------


def a_run(name, status, started, profile="tiny", model=None):
    folder = manifest.run_folder(manifest.runs_folder() / name)
    (folder / "figures" / "plot.png").write_text(name)
    parameters = {"profile": profile, "model": model, "corpus": None}
    manifest.write_json(folder / "manifest.json", {"status": status, "started": started, "parameters": parameters})


def test_figures_come_from_the_newest_complete_run_of_the_profile(kit, tmp_path):
    to, recorded = tmp_path / "figures", tmp_path / "recorded"
    with pytest.raises(KitError, match="no complete run of the profile tiny"):
        reproduce.figures_main(["--to", str(to)])
    a_run("old", "complete", "2026-01-01")
    a_run("new", "complete", "2026-01-02")
    a_run("part", "partial", "2026-01-03")
    a_run("small", "complete", "2026-01-04", profile="smoke")
    a_run("novels", "complete", "2026-01-05", model="/some/model")
    for name in ("new", "novels"):
        for kind in ("recorded", "known_sweep"):
            (manifest.runs_folder() / name / "samples" / kind).mkdir(parents=True)
            (manifest.runs_folder() / name / "samples" / kind / f"{kind}.json").write_text(name)
    reproduce.figures_main(["--to", str(to), "--recorded", str(recorded)])
    assert {path.name: path.read_text() for path in recorded.iterdir()} == {
        "recorded.json": "new",
        "known_sweep.json": "new",
    }
    assert (to / "plot.png").read_text() == "new" and json.loads((to / "run.json").read_text())["status"] == "complete"
    reproduce.figures_main(["--to", str(to), "--recorded", str(recorded), "--run", "novels"])
    assert (to / "plot.png").read_text() == "novels"
    assert (recorded / "recorded.json").read_text() == "new", "a sweep with somebody's own model is not recorded"
    with pytest.raises(KitError, match="no complete run 'part'"):
        reproduce.figures_main(["--to", str(to), "--run", "part"])


def test_notebook_rules(kit):
    path = kit / "00_lesson.ipynb"
    notebook(path, KEEP)
    assert notebook_rules.problems(path) == [] and notebook_rules.main([str(path)]) == 0
    book = nbformat.read(path, 4)
    book.metadata = {"papermill": {}}
    book.cells[1].source = "import os\nprofile = os.name"
    book.cells[2].id = book.cells[3].id
    book.cells[3].source = "x = 1\n" * 41
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    book.cells[3].outputs = [nbformat.from_dict(error)]
    path.write_text(json.dumps(book))
    found = notebook_rules.problems(path)
    for word in ("kernelspec", "papermill", "plain literals", "share one", "longer than 40", "exception in its output"):
        assert any(word in line for line in found), word
    assert len(found) == 6 and notebook_rules.main([str(path)]) == 1
    notebook(path, parameters="x = [1, 'a', None]  # a list\ny = -1e-3")
    assert notebook_rules.problems(path) == []


def test_command_line(capsys):
    assert cli.main([]) == 2 and "reproduce" in capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert cli.main(["reproduec"]) == 2
    assert "no command 'reproduec'" in capsys.readouterr().err


def test_commands_that_need_no_torch_do_not_import_it(root):
    code = (
        "import sys\nfrom rlhf_lib import __main__, reproduce, claims, manifest, andon\nprint('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_python_that_is_too_old_is_told_in_one_sentence(root, tmp_path):
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(root / name, tmp_path / name)
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(["make", "env", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()
